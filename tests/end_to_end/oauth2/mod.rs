//! Upstreams that take tokens: the real program, the tests' own provider, and a server that checks every octet of the
//! login before a real Dovecot.

mod backup;
mod browser;
mod grants;
mod machines;
mod metrics;
mod notices;
mod own_mail;
mod page;
mod renewal;
mod safety;
mod several;
mod sign_in;

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ChildStdout, Command, Stdio},
    thread,
};

use rcgen::KeyPair;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    bearer::{Bearer, Offer},
    dovecot::Dovecot,
    gateway::{Gateway, Setup},
    mail,
    pop::Pop,
    process::Process,
    provider::{CLIENT, CLIENT_SECRET, Hold, Provider},
};

/// The password of the device.
const LOCAL: &str = "1234";
const XOAUTH2: Offer = Offer {
    words: "SASL-IR AUTH=XOAUTH2",
    shared: None,
};

/// An upstream, its provider, and the state directory of a gateway.
struct Lab {
    provider: Provider,
    dovecot: Dovecot,
    bearer: Bearer,
    state: TempDir,
    /// The key that seals the tokens in the state directory.
    key: &'static str,
}

impl Lab {
    /// The mailbox of `eva` has three messages. `None` if Dovecot is not installed.
    fn new(offer: Offer) -> Option<Self> {
        let dovecot = Dovecot::start()?;
        dovecot.user_with("eva", &[mail::simple(1), mail::simple(2), mail::simple(3)]);
        let provider = Provider::start();
        let bearer = Bearer::start(provider.registry(), dovecot.address(), offer);
        Some(Self {
            provider,
            dovecot,
            bearer,
            state: tempfile::tempdir().unwrap(),
            key: "0123456789abcdef0123456789abcdef",
        })
    }

    /// A gateway with the account `pbx`, which leads to eva's mailbox, and these keys of `[upstream.lab.oauth2]`.
    fn setup(&self, keys: &str) -> Setup {
        let state = format!("[state]\ndir = {:?}\nkey = {:?}", self.state.path(), self.key);
        self.setup_with(keys, &state)
    }

    /// The same with this table `[state]`.
    fn setup_with(&self, keys: &str, state: &str) -> Setup {
        let provider = &self.provider;
        let oauth2 = format!(
            "[upstream.lab.oauth2]\nclient_id = \"{CLIENT}\"\ntoken_url = {:?}\nca_file = {:?}\n{keys}",
            provider.url("/token"),
            provider.authority_file()
        );
        Setup::new(self.bearer.address())
            .own_logins_only()
            .table(&oauth2)
            .table(state)
            .table(&account("pbx", "eva", ""))
    }

    /// A gateway whose sign-in is by device code.
    fn by_device(&self) -> Setup {
        self.setup(&self.device_keys())
    }

    fn device_keys(&self) -> String {
        format!("device_url = {:?}\nscopes = [\"mail\"]", self.provider.url("/device"))
    }

    /// A gateway whose clock is ahead by this number of days, with limits for a hundred logins at once. `None` if there
    /// is nothing to move the clock with.
    fn days_later(&self, days: u32) -> Option<Gateway> {
        let setup = self.by_device().limit("sessions = 200");
        setup.days_ahead(days).map(Setup::start)
    }

    /// Signs in for `pbx`, with a consent that lasts for this number of days.
    fn consent_of(&self, days: u32) {
        let gateway = self.by_device().start();
        self.provider.book().oddities = json!({ "refresh_token_expires_in": days * 24 * 3600 });
        self.sign_in(&gateway, "pbx", "eva");
        // Renewals do not repeat when the consent ends.
        self.provider.book().oddities = json!({});
        gateway.stop();
    }

    /// Signs in, and starts a gateway a day later, when the access token has expired.
    fn after_a_day(&self) -> Option<Gateway> {
        let gateway = self.by_device().start();
        self.sign_in(&gateway, "pbx", "eva");
        gateway.stop();
        self.days_later(1)
    }

    /// A gateway whose sign-in is by browser.
    fn by_code(&self) -> Setup {
        self.by_code_with("")
    }

    /// Like [`Self::by_code`], with further keys.
    fn by_code_with(&self, keys: &str) -> Setup {
        self.setup(&format!(
            "authorize_url = {:?}\nscopes = [\"mail\"]\nclient_secret = \"{CLIENT_SECRET}\"\n{keys}",
            self.provider.url("/authorize")
        ))
    }

    /// The file of a key with which the application signs. The provider knows its public half.
    fn key_file(&self) -> PathBuf {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let file = self.state.path().join("key.pem");
        std::fs::write(&file, key.serialize_pem()).unwrap();
        self.provider.book().public_key = Some(key.public_key_pem());
        file
    }

    /// Signs in at the terminal for `login`, and consents as `user`.
    fn sign_in(&self, gateway: &Gateway, login: &str, user: &str) -> String {
        let mut command = SignIn::begin(&gateway.file(), &[login]);
        let code = command.code();
        self.provider.approve(&code, user);
        command.succeed()
    }
}

/// An `[[account]]` at the lab's upstream.
fn account(login: &str, user: &str, keys: &str) -> String {
    format!("[[account]]\nlogin = \"{login}\"\npassword = \"{LOCAL}\"\nupstream = \"lab\"\nuser = \"{user}\"\n{keys}")
}

/// The reply to PASS, and the connection.
fn pass(gateway: &Gateway, login: &str) -> (String, Pop) {
    let mut pop = Pop::connect(gateway.address());
    (pop.try_log_in(login, LOCAL), pop)
}

/// Logs in as `pbx` once at each of `addresses`, all at once, while the provider holds the first request for a token. With
/// `on_delete = "expunge"` the maildrop is locked: one login gets in, and the others get an error. All have needed a token.
fn log_in_at_once(lab: &Lab, addresses: impl Iterator<Item = SocketAddr>) {
    lab.provider.book().hold = Hold::Before;
    let devices: Vec<_> = addresses
        .map(|address| thread::spawn(move || Pop::connect(address).try_log_in("pbx", LOCAL)))
        .collect();
    lab.provider.wait_held(1);
    lab.provider.release();
    let replies: Vec<String> = devices.into_iter().map(|device| device.join().unwrap()).collect();
    assert!(replies.iter().any(|reply| reply.starts_with("+OK 3 ")), "{replies:?}");
    let is_expected = |reply: &String| {
        reply.starts_with("+OK 3 ") || reply.starts_with("-ERR [IN-USE] ") || reply.contains("too many connections")
    };
    assert!(replies.iter().all(is_expected), "{replies:?}");
}

#[track_caller]
fn lets_in(gateway: &Gateway, login: &str) {
    let (reply, mut pop) = pass(gateway, login);
    assert!(reply.starts_with("+OK 3 "), "{reply}");
    pop.ok("QUIT");
}

#[track_caller]
fn refuses(gateway: &Gateway, login: &str, with: &str) {
    let (reply, _) = pass(gateway, login);
    assert!(reply.starts_with(&format!("-ERR [{with}] ")), "{reply}");
}

/// A running `popgate sign-in`.
struct SignIn {
    process: Process,
    stdout: BufReader<ChildStdout>,
    printed: String,
}

impl SignIn {
    fn begin(config: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_popgate"))
            .arg("sign-in")
            .args(arguments)
            .arg("--config")
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self {
            process: Process(child),
            stdout,
            printed: String::new(),
        }
    }

    /// Waits for a line with `mark`, and returns what follows it.
    #[track_caller]
    fn after(&mut self, mark: &str) -> String {
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line).unwrap() == 0 {
                let stderr = self.stderr();
                panic!("no {mark:?} in:\n{}{stderr}", self.printed);
            }
            self.printed.push_str(&line);
            if let Some((_, rest)) = line.split_once(mark) {
                return rest.trim().to_owned();
            }
        }
    }

    /// The code that the person must type in.
    #[track_caller]
    fn code(&mut self) -> String {
        self.after("enter the code")
    }

    /// Pastes a line into the terminal.
    fn paste(&mut self, line: &str) {
        let stdin = self.process.0.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    fn stderr(&mut self) -> String {
        std::io::read_to_string(self.process.0.stderr.take().unwrap()).unwrap()
    }

    fn end(mut self) -> (bool, String) {
        std::io::Read::read_to_string(&mut self.stdout, &mut self.printed).unwrap();
        let stderr = self.stderr();
        self.printed.push_str(&stderr);
        (self.process.0.wait().unwrap().success(), self.printed)
    }

    /// Asserts success, and returns everything that it has printed.
    #[track_caller]
    fn succeed(self) -> String {
        let (success, printed) = self.end();
        assert!(success, "{printed}");
        printed
    }

    #[track_caller]
    fn fail(self) -> String {
        let (success, printed) = self.end();
        assert!(!success, "{printed}");
        printed
    }
}
