//! Whole sessions in both states, with any input in any pieces: the gateway does not panic or hang, and its output consists
//! of POP3 replies.
#![no_main]

use std::{cell::RefCell, path::Path, sync::Arc, time::Duration};

use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};
use popgate::{
    accounts::Accounts,
    config::Config,
    demo::Server,
    maildrop::Maildrops,
    oauth::Tokens,
    pop3::{Service, fuzzing::session},
    state::MemoryStore,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex, split},
    runtime::{Builder, Runtime},
    time::timeout,
};

#[derive(Arbitrary, Debug)]
struct Device<'a> {
    /// Which listener it has come to.
    listener: u8,
    /// Whether it logs in before it says anything else.
    is_known: bool,
    /// What it says, in these pieces.
    pieces: Vec<&'a [u8]>,
}

/// The mailbox, in which nothing that a session does changes anything.
struct Lab {
    runtime: Runtime,
    config: Config,
    _upstream: Server,
    service: Arc<Service>,
    /// How many more sessions `service` is for.
    left: u8,
}

/// Sessions until all that they have hidden comes back: to make a service takes longer than a hundred of them.
const SESSIONS: u8 = 100;

thread_local! {
    static LAB: RefCell<Option<Lab>> = const { RefCell::new(None) };
}

const LISTENERS: &str = "[[listener]]\naddress = \"127.0.0.1:110\"\napop = true\n\
                         [[listener]]\naddress = \"127.0.0.1:111\"\n";

/// A configuration for the server at `port`, with a maildrop that alters messages for one of its logins. A wrong login waits
/// longer each time: a session ends after few.
fn config(port: u16) -> Config {
    let text = format!(
        "{LISTENERS}[limits]\nparked_seconds = 0\nbad_commands = 5\n\
         [upstream.demo]\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"off\"\nlogins = [\"*@example.org\"]\n\
         maildrop = {{ on_retrieve = \"keep\", on_delete = \"hide\" }}\n\
         [[account]]\nlogin = \"a\"\npassword = \"b\"\nupstream = \"demo\"\nuser = \"demo\"\nupstream_password = \"demo\"\n\
         [[account]]\nlogin = \"c\"\npassword = \"d\"\nupstream = \"demo\"\nuser = \"demo\"\nupstream_password = \"demo\"\n\
         maildrop = {{ nul = \"drop\", pad_header = true, order = \"newest-first\" }}\n"
    );
    Config::parse(&text, Path::new("")).expect("a configuration")
}

fuzz_target!(|device: Device<'_>| {
    LAB.with_borrow_mut(|lab| {
        let lab = lab.get_or_insert_with(Lab::new);
        if lab.left == 0 {
            (lab.service, lab.left) = (lab.runtime.block_on(service(&lab.config)), SESSIONS);
        }
        lab.left -= 1;
        let visit = visit(&device, &lab.config, lab.service.clone());
        let replies = lab
            .runtime
            .block_on(async { timeout(Duration::from_secs(20), visit).await });
        check(&replies.expect("the session ends with its device"));
    });
});

impl Lab {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let upstream = runtime.block_on(Server::start()).expect("a port");
        let config = config(upstream.address().port());
        let service = runtime.block_on(service(&config));
        Self {
            runtime,
            service,
            left: SESSIONS,
            config,
            _upstream: upstream,
        }
    }
}

/// A service with state of its own.
async fn service(config: &Config) -> Arc<Service> {
    let state = Arc::new(MemoryStore::default());
    let tokens = Tokens::new(config, state.clone()).expect("no tokens");
    Arc::new(Service {
        accounts: Accounts::new(config).expect("random numbers"),
        maildrops: Maildrops::new(config, state, tokens).expect("no roots"),
        limits: config.limits.clone(),
    })
}

async fn visit(device: &Device<'_>, config: &Config, service: Arc<Service>) -> Vec<u8> {
    let listener = &config.listeners[usize::from(device.listener) % config.listeners.len()];
    let (near, far) = duplex(1 << 16);
    let (mut replies, mut commands) = split(near);
    let write = async {
        let login: &[u8] = match device.is_known {
            true if device.listener & 2 == 0 => b"USER a\r\nPASS b\r\n",
            true => b"USER c\r\nPASS d\r\n",
            false => b"",
        };
        for piece in [login].iter().chain(&device.pieces) {
            // The session may have ended.
            if commands.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = commands.shutdown().await;
    };
    let mut received = Vec::new();
    let read = async {
        let _ = replies.read_to_end(&mut received).await;
    };
    tokio::join!(session(far, listener, service), write, read);
    received
}

/// Whatever comes back begins as a reply, and single replies keep to their length (RFC 1939 §3).
fn check(replies: &[u8]) {
    assert!(replies.starts_with(b"+OK popgate ready"), "no greeting");
    for line in replies.split_inclusive(|&octet| octet == b'\n') {
        if line.starts_with(b"+OK") || line.starts_with(b"-ERR") {
            assert!(line.len() <= 512 && line.is_ascii(), "{}", line.escape_ascii());
        }
    }
}
