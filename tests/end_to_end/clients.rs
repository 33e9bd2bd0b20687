//! Common programs fetch everything: in plain text, with STLS, and with TLS from the start.

mod taking;

use std::{
    cell::Cell,
    net::SocketAddr,
    ops::Deref,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use tempfile::TempDir;

use crate::support::{
    PASSWORD,
    dovecot::Dovecot,
    gateway::{Gateway, Setup},
    mail, require_program, signal,
};

/// How a client connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Stls,
    Tls,
}

const WAYS: [Way; 3] = [Way::Plain, Way::Stls, Way::Tls];

/// A real upstream, a gateway with a listener for each way, and the mail that clients are to find.
struct House {
    dovecot: Dovecot,
    gateway: Gateway,
    mails: Vec<Vec<u8>>,
    home: Home,
    /// How many sessions have been checked already.
    checked: Cell<usize>,
}

impl House {
    fn new() -> Option<Self> {
        let dovecot = Dovecot::start()?;
        let mut mails: Vec<_> = (1..=12).map(mail::simple).collect();
        let head = b"From: a@example.org\r\nSubject: special\r\n\r\n";
        for body in [
            &b".\r\n..\r\n.dots\r\n"[..],
            b"no line end",
            b"gr\xc3\xbc\xc3\x9fe\r\n",
            b"",
        ] {
            mails.push([head, body].concat());
        }
        mails.push([&head[..], &b"a line of a large message.\r\n".repeat(40_000)].concat());
        dovecot.user_with("eva", &mails);
        let certificates = dovecot.certificates();
        let gateway = Setup::new(dovecot.address())
            .certificates(certificates)
            .listener("tls = \"off\"")
            .listener("tls = \"starttls\"\nrequire_tls = true")
            .listener("tls = \"implicit\"")
            .start();
        Some(Self {
            dovecot,
            gateway,
            mails,
            home: Home::new(),
            checked: Cell::new(0),
        })
    }

    fn address(&self, way: Way) -> SocketAddr {
        self.gateway.addresses()[way as usize]
    }

    fn port(&self, way: Way) -> u16 {
        self.address(way).port()
    }

    fn authority(&self) -> PathBuf {
        self.dovecot.certificates().authority_file()
    }

    /// The mails that were delivered to `maildir`.
    fn delivered(&self, maildir: &Path) -> Vec<Vec<u8>> {
        let files = std::fs::read_dir(maildir.join("new")).unwrap();
        files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    }

    /// Asserts that `mails` are the mails of the mailbox, apart from header lines that a program has added. `otherwise`
    /// is the failure.
    fn check_bodies(&self, mails: &[Vec<u8>], otherwise: &str) {
        let bodies = |mails: &[Vec<u8>]| sorted(mails.iter().map(|mail| body(mail)).collect());
        let expected: Vec<_> = self.mails.iter().map(|mail| with_lf(mail)).collect();
        assert!(bodies(mails) == bodies(&expected), "{otherwise}");
    }

    /// Asserts that the next `count` sessions ended by QUIT, used TLS if `way` has it, and have retrieved `retrieved`
    /// messages in all.
    fn check_sessions(&self, way: Way, count: usize, retrieved: usize) {
        let before = self.checked.get();
        let sessions = self.gateway.sessions(before + count);
        let last = &sessions[before..];
        assert_eq!(last.len(), count);
        self.checked.set(before + count);
        for session in last {
            assert_eq!(session["end"], "quit", "{session}");
            assert_eq!(session["tls"] == "none", way == Way::Plain, "{session}");
        }
        let sum: u64 = last.iter().map(|session| session["retrieved"].as_u64().unwrap()).sum();
        assert_eq!(sum, retrieved as u64);
    }
}

/// A home directory of a client.
pub struct Home(TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A file that only its owner may read, as clients insist.
    pub fn secret_file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.file(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        file
    }

    /// An empty Maildir.
    pub fn maildir(&self, name: &str) -> PathBuf {
        let maildir = self.file(name);
        for part in ["cur", "new", "tmp"] {
            std::fs::create_dir_all(maildir.join(part)).unwrap();
        }
        maildir
    }

    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("HOME", self.path()).current_dir(self.path());
        command
    }
}

impl Deref for House {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
    }
}

/// Runs a program, which must end in time and succeed. Returns its standard output.
pub fn run(command: &mut Command) -> Vec<u8> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(Duration::from_secs(60)) else {
        signal(pid, "KILL");
        panic!("{command:?} does not end");
    };
    let output = output.unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// The message with LF line ends, as local mailboxes have them.
fn with_lf(message: &[u8]) -> Vec<u8> {
    mail::delivered(message)
        .into_iter()
        .filter(|&octet| octet != b'\r')
        .collect()
}

fn sorted(mut mails: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    mails.sort();
    mails
}

#[test]
fn curl() {
    let Some(curl) = require_program("curl") else { return };
    let Some(house) = House::new() else { return };
    for way in WAYS {
        let scheme = if way == Way::Tls { "pop3s" } else { "pop3" };
        let url = format!("{scheme}://localhost:{}/", house.port(way));
        let base = || {
            let mut command = house.command(&curl);
            command.args(["-sS", "--max-time", "30", "--user", &format!("eva:{PASSWORD}")]);
            if way != Way::Plain {
                command.arg("--ssl-reqd").arg("--cacert").arg(house.authority());
            }
            command
        };
        let listing = String::from_utf8(run(base().arg(&url))).unwrap();
        assert_eq!(listing.lines().count(), house.mails.len(), "{way:?}");
        // One session fetches all messages.
        let mut all = base();
        for number in 1..=house.mails.len() {
            all.arg(format!("{url}{number}"))
                .arg("-o")
                .arg(house.file(&format!("{number}.eml")));
        }
        run(&mut all);
        for (number, mail) in (1..).zip(&house.mails) {
            let octets = std::fs::read(house.file(&format!("{number}.eml"))).unwrap();
            assert!(octets == mail::delivered(mail), "{way:?}: message {number}");
        }
        house.check_sessions(way, 2, house.mails.len());
        let header = run(base().args(["-X", "TOP 1 0"]).arg(&url));
        assert_eq!(header, mail::top(&house.mails[0], 0));
        house.check_sessions(way, 1, 0);
    }
}

#[test]
fn curl_trusts_no_other_certificate() {
    let Some(curl) = require_program("curl") else { return };
    let Some(house) = House::new() else { return };
    let mut command = house.command(&curl);
    command
        .args([
            "-sS",
            "--max-time",
            "30",
            "--ssl-reqd",
            "--user",
            &format!("eva:{PASSWORD}"),
        ])
        .arg(format!("pop3://localhost:{}/", house.port(Way::Stls)));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(60), "a certificate that can't be verified");
    assert_eq!(house.gateway.sessions(1)[0]["end"], "handshake");
}

const POPLIB: &str = r#"
import poplib, ssl, sys
way, port, authority, password, directory = sys.argv[1:]
poplib._MAXLINE = 1 << 20
context = ssl.create_default_context(cafile=authority)
if way == "Tls":
    pop = poplib.POP3_SSL("localhost", int(port), context=context, timeout=30)
else:
    pop = poplib.POP3("localhost", int(port), timeout=30)
if way == "Stls":
    assert "STLS" in pop.capa()
    pop.stls(context)
assert "USER" in pop.capa()
pop.user("eva")
pop.pass_(password)
count, octets = pop.stat()
_, listing, _ = pop.list()
_, unique, _ = pop.uidl()
assert len(listing) == len(unique) == len(set(unique)) == count, (listing, unique, count)
assert sum(int(line.split()[1]) for line in listing) == octets
for number in range(1, count + 1):
    _, lines, _ = pop.retr(number)
    with open(f"{directory}/{number}.eml", "wb") as file:
        file.write(b"".join(line + b"\r\n" for line in lines))
    _, top, _ = pop.top(number, 0)
    assert lines[:len(top)] == top
pop.dele(1)
pop.rset()
pop.noop()
pop.quit()
print(count)
"#;

#[test]
fn pythons_poplib() {
    let Some(python) = require_program("python3") else {
        return;
    };
    let Some(house) = House::new() else { return };
    for way in WAYS {
        let mut command = house.command(&python);
        command
            .args(["-c", POPLIB, &format!("{way:?}"), &house.port(way).to_string()])
            .arg(house.authority())
            .arg(PASSWORD)
            .arg(house.home.path());
        let printed = String::from_utf8(run(&mut command)).unwrap();
        assert_eq!(printed.trim(), house.mails.len().to_string());
        for (number, mail) in (1..).zip(&house.mails) {
            let octets = std::fs::read(house.file(&format!("{number}.eml"))).unwrap();
            assert!(octets == mail::delivered(mail), "{way:?}: message {number}");
        }
        house.check_sessions(way, 1, house.mails.len());
    }
}

pub fn fetchmail_command(home: &Home, program: &Path, control: &Path) -> Command {
    let mut command = home.command(program);
    command.args(["--nodetach", "--nosyslog", "--fetchmailrc"]).arg(control);
    // The default pidfile of root would be shared by all tests.
    command.arg("--pidfile").arg(home.file("fetchmail.pid"));
    command
}

#[test]
fn fetchmail() {
    let Some(fetchmail) = require_program("fetchmail") else {
        return;
    };
    let Some(house) = House::new() else { return };
    for way in WAYS {
        let box_file = house.file(&format!("{way:?}.box"));
        let tls = match way {
            Way::Plain => "sslproto \"\"".to_owned(),
            Way::Stls => format!("sslproto \"tls1.2+\" sslcertck sslcertfile {:?}", house.authority()),
            Way::Tls => format!("ssl sslcertck sslcertfile {:?}", house.authority()),
        };
        let text = format!(
            "set no bouncemail\nset invisible\npoll localhost protocol POP3 service {} auth password uidl\n  \
             username \"eva\" password \"{PASSWORD}\" {tls}\n  no rewrite keep fetchall\n  \
             mda \"(cat; echo; echo '==next==') >> {}\"\n",
            house.port(way),
            box_file.display(),
        );
        let control = house.secret_file("fetchmailrc", &text);
        let mut command = fetchmail_command(&house, &fetchmail, &control);
        run(command.arg("--idfile").arg(house.file(&format!("{way:?}.ids"))));
        let fetched = std::fs::read(&box_file).unwrap();
        let mails: Vec<_> = split(&fetched, b"\n==next==\n");
        assert_eq!(mails.len(), house.mails.len(), "{way:?}");
        house.check_bodies(&mails, &format!("{way:?}: other octets"));
        house.check_sessions(way, 1, house.mails.len());
    }
}

#[test]
fn mpop() {
    let Some(mpop) = require_program("mpop") else { return };
    let Some(house) = House::new() else { return };
    for way in WAYS {
        let maildir = house.maildir(&format!("{way:?}"));
        let tls = match way {
            Way::Plain => "tls off".to_owned(),
            Way::Stls => format!(
                "tls on\ntls_starttls on\ntls_trust_file {}",
                house.authority().display()
            ),
            Way::Tls => format!(
                "tls on\ntls_starttls off\ntls_trust_file {}",
                house.authority().display()
            ),
        };
        let text = format!(
            "account default\nhost localhost\nport {}\nuser eva\npassword {PASSWORD}\n{tls}\nauth user\nkeep on\n\
             received_header off\npipelining on\nuidls_file {}\ndelivery maildir {}\n",
            house.port(way),
            house.file(&format!("{way:?}.uidls")).display(),
            maildir.display(),
        );
        let control = house.secret_file("mpoprc", &text);
        let fetch = || run(house.command(&mpop).arg("--file").arg(&control));
        fetch();
        let mails = house.delivered(&maildir);
        assert_eq!(mails.len(), house.mails.len(), "{way:?}");
        let expected = house.mails.iter().map(|mail| with_lf(mail)).collect();
        assert!(sorted(mails) == sorted(expected), "{way:?}: other octets");
        house.check_sessions(way, 1, house.mails.len());
        // The program recognises the messages by their unique ids.
        fetch();
        house.check_sessions(way, 1, 0);
    }
}

fn split(octets: &[u8], separator: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    let mut rest = octets;
    while let Some(at) = rest.windows(separator.len()).position(|window| window == separator) {
        parts.push(rest[..at].to_vec());
        rest = &rest[at + separator.len()..];
    }
    assert!(rest.is_empty(), "something after the last message");
    parts
}

/// The body of a mail.
fn body(mail: &[u8]) -> Vec<u8> {
    let at = mail
        .windows(2)
        .position(|window| window == b"\n\n")
        .expect("an empty line after the header");
    mail[at + 2..].to_vec()
}
