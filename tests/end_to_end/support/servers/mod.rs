//! Real upstreams of several makes. Each serves one user, [`USER`], whose INBOX is empty at first.

mod courier;
mod cyrus;
mod mailutils;
mod pymap;
mod root;

use std::{any::Any, net::SocketAddr, path::PathBuf};

use super::{dovecot::Dovecot, imap::Imap, missing, recorder::Recorder};

/// The user of the mailbox.
pub const USER: &str = "eva";

/// The hash of [`PASSWORD`](super::PASSWORD) for crypt(3).
const CRYPTED: &str =
    "$6$popgate$NjzDx0hOfQpbdfTPVQYvDRapfeymAg417HW6.cAAd9uPQsJToJE92Ce4awyJyoVv/Y8DXTe3UXuWVjPQ3aWz61";

/// Which server, and how it is configured.
#[derive(Debug, Clone, Copy)]
pub enum Make {
    /// Dovecot, with further settings.
    Dovecot(&'static str),
    /// Dovecot, offering only these capabilities.
    DovecotCut(&'static str),
    /// Dovecot; folders lie below `INBOX.`, separated by dots.
    DovecotPrefix,
    /// Cyrus with its defaults: folders lie below `INBOX.`, separated by dots.
    Cyrus,
    /// Cyrus with `altnamespace` and `unixhierarchysep`: folders lie beside INBOX, separated by slashes.
    CyrusSlash,
    /// Courier, offering these capabilities; folders lie below `INBOX.`, separated by dots.
    Courier(&'static str),
    /// GNU Mailutils, with mail in directories: what its APPEND does to a file in mbox format is not worth a test.
    Mailutils,
    /// pymap, with mail in memory.
    Pymap,
}

/// The address of a server, and what ends the server when dropped.
type Running = (SocketAddr, Box<dyn Any>);

/// A running server, and the recorder by which the gateway reaches it.
pub struct Server {
    address: SocketAddr,
    prefix: &'static str,
    separator: &'static str,
    // Dropped before the server, so that the conversation is printed before the server's log.
    recorder: Recorder,
    _process: Box<dyn Any>,
}

impl Server {
    /// Starts the server. `None` if it is not installed here.
    pub fn start(make: Make) -> Option<Self> {
        let (prefix, separator) = match make {
            Make::DovecotPrefix | Make::Cyrus | Make::Courier(_) => ("INBOX.", "."),
            Make::Dovecot(_) | Make::DovecotCut(_) | Make::CyrusSlash => ("", "/"),
            Make::Mailutils | Make::Pymap => ("", "/"),
        };
        let (address, process): Running = match make {
            Make::Dovecot(settings) => dovecot(separator, prefix, settings)?,
            Make::DovecotCut(capabilities) => dovecot(separator, prefix, &format!("imap_capability = {capabilities}"))?,
            Make::DovecotPrefix => dovecot(separator, prefix, "")?,
            Make::Cyrus => cyrus::start(false)?,
            Make::CyrusSlash => cyrus::start(true)?,
            Make::Courier(capabilities) => courier::start(capabilities)?,
            Make::Mailutils => mailutils::start()?,
            Make::Pymap => pymap::start()?,
        };
        Some(Self {
            address,
            prefix,
            separator,
            recorder: Recorder::start(address),
            _process: process,
        })
    }

    /// The address that the gateway connects to, in plain text.
    pub fn address(&self) -> SocketAddr {
        self.recorder.address()
    }

    /// The address of the server itself.
    pub fn upstream(&self) -> SocketAddr {
        self.address
    }

    /// The server's name for the folder that the configuration calls `folder`; both are in modified UTF-7.
    pub fn name(&self, folder: &str) -> String {
        match folder {
            "INBOX" => folder.into(),
            _ => format!("{}{}", self.prefix, folder.replace('/', self.separator)),
        }
    }

    /// Opens another connection with `folder` selected, for as long as `look` takes.
    pub fn look<T>(&self, folder: &str, look: impl FnOnce(&mut Imap) -> T) -> T {
        let mut imap = Imap::log_in(self.address, USER);
        if folder != "INBOX" {
            imap.command(&format!("SELECT \"{}\"", self.name(folder)));
        }
        let seen = look(&mut imap);
        // Some servers store flags only at the end of a session.
        imap.command("LOGOUT");
        seen
    }

    /// The messages in `folder`; none if there is no such folder.
    pub fn contents(&self, folder: &str) -> Vec<Vec<u8>> {
        self.look("INBOX", |imap| {
            if imap.try_select(&self.name(folder)) {
                imap.bodies().into_values().collect()
            } else {
                Vec::new()
            }
        })
    }
}

fn dovecot(separator: &str, prefix: &str, settings: &str) -> Option<Running> {
    let dovecot = Dovecot::start_with(&format!(
        "namespace inbox {{\n  inbox = yes\n  separator = {separator}\n  prefix = {prefix}\n}}\n{settings}\n"
    ))?;
    Some((dovecot.address(), Box::new(dovecot)))
}

/// The directory that tests/servers/install has installed under this name. `None`: the test must be skipped, as in
/// `require_program`.
fn installed(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("POPGATE_TESTS_SERVERS").unwrap_or("/var/cache/popgate-tests".into());
    let path = PathBuf::from(root).join(name);
    if !path.is_dir() {
        missing(&format!("{} is not there, see tests/servers/install", path.display()));
        return None;
    }
    Some(path)
}
