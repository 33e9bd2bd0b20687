//! A real upstream: Dovecot's IMAP server on free ports, with everything it writes in a directory of its own.

use std::{
    fs::{Permissions, create_dir},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::{
    PASSWORD,
    certificates::Certificates,
    imap::Imap,
    process::{free_port, greets, text_of},
    require_program, signal,
};

/// The owner of the mail if the tests run as root: the user nobody.
const MAIL_ID: u32 = 65534;

/// The running server. It accepts any user name with [`PASSWORD`].
pub struct Dovecot {
    server: Child,
    address: SocketAddr,
    tls_address: SocketAddr,
    certificates: Certificates,
    directory: TempDir,
}

impl Dovecot {
    /// Starts the server. `None` if it is not installed.
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// The same, with further settings.
    pub fn start_with(settings: &str) -> Option<Self> {
        let program = require_program("dovecot")?;
        require_program("imap-login")?;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        let mail = path.join("mail");
        create_dir(&mail).unwrap();
        let owner = std::fs::metadata("/proc/self").unwrap();
        let is_root = owner.uid() == 0;
        if is_root {
            chown(&mail, Some(MAIL_ID), Some(MAIL_ID)).unwrap();
        }
        let certificates = Certificates::new();
        let (port, tls_port) = (free_port(), free_port());
        let (uid, gid) = if is_root {
            (MAIL_ID, MAIL_ID)
        } else {
            (owner.uid(), owner.gid())
        };
        let mut text = format!(
            "base_dir = {run}\nstate_dir = {run}/state\nlog_path = {log}\nprotocols = imap\nlisten = 127.0.0.1\n\
             ssl = yes\nssl_cert = <{leaf}\nssl_key = <{key}\ndisable_plaintext_auth = no\nmail_uid = {uid}\n\
             mail_gid = {gid}\nfirst_valid_uid = 1\nfirst_valid_gid = 1\nmail_max_userip_connections = 100\n\
             auth_mechanisms = plain login\nmail_location = maildir:~/Maildir\nmail_fsync = never\n\
             auth_failure_delay = 0\n\
             service anvil {{\n  unix_listener anvil-auth-penalty {{\n    mode = 0\n  }}\n}}\n\
             passdb {{\n  driver = static\n  args = password={PASSWORD}\n}}\n\
             userdb {{\n  driver = static\n  args = uid={uid} gid={gid} home={mail}/%u\n}}\n\
             service imap-login {{\n  inet_listener imap {{\n    port = {port}\n  }}\n  inet_listener imaps {{\n    \
             port = {tls_port}\n    ssl = yes\n  }}\n}}\n{settings}\n",
            run = path.join("run").display(),
            log = path.join("log").display(),
            leaf = certificates.leaf_file().display(),
            key = certificates.key_file().display(),
            mail = mail.display(),
        );
        if !is_root {
            text.push_str(&unprivileged());
        }
        let file = path.join("dovecot.conf");
        std::fs::write(&file, text).unwrap();
        let server = Command::new(program)
            .arg("-F")
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut dovecot = Self {
            server,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            tls_address: SocketAddr::from((Ipv4Addr::LOCALHOST, tls_port)),
            certificates,
            directory,
        };
        assert!(greets(dovecot.address, &mut dovecot.server), "dovecot does not start");
        Some(dovecot)
    }

    /// The address for plain text and STARTTLS.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address for TLS from the first octet.
    pub fn tls_address(&self) -> SocketAddr {
        self.tls_address
    }

    /// The certificate of the server, and its authority.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// An IMAP connection that looks at INBOX behind the gateway's back.
    pub fn imap(&self, user: &str) -> Imap {
        Imap::log_in(self.address, user)
    }

    /// Puts a message into the user's INBOX as a file, because the server would not accept every message.
    pub fn drop_file(&self, user: &str, message: &[u8]) {
        let file = self
            .directory
            .path()
            .join("mail")
            .join(user)
            .join("Maildir/new/1.M1P1.host");
        std::fs::write(&file, message).unwrap();
        let owner = std::fs::metadata(file.parent().unwrap()).unwrap();
        chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }

    fn log(&self) -> String {
        text_of(&self.directory.path().join("log"))
    }

    /// Puts these messages into the INBOX of `user`.
    pub fn user_with(&self, user: &str, messages: &[impl AsRef<[u8]>]) -> Imap {
        let mut imap = self.imap(user);
        imap.append(messages, "");
        imap
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // The master ends its processes when it gets SIGTERM, but not when it is killed.
        if !signal(self.server.id(), "TERM") {
            let _ = self.server.kill();
        }
        let _ = self.server.wait();
        if std::thread::panicking() {
            eprintln!("log of dovecot:\n{}", self.log());
        }
    }
}

/// Settings for tests that do not run as root: then Dovecot can neither change its user nor use chroot.
fn unprivileged() -> String {
    let id = |flag| {
        let output = Command::new("id").arg(flag).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (user, group) = (id("-un"), id("-gn"));
    let mut text =
        format!("default_internal_user = {user}\ndefault_internal_group = {group}\ndefault_login_user = {user}\n");
    for service in ["anvil", "imap-login", "stats", "auth", "ipc"] {
        text.push_str(&format!("service {service} {{\n  chroot =\n}}\n"));
    }
    text
}
