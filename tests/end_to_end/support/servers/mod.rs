//! Real upstreams of several makes. Each server serves one user, [`USER`], whose INBOX is empty at first.

mod courier;
mod cyrus;
mod mailutils;
mod pymap;
mod root;

use std::{any::Any, net::SocketAddr, path::PathBuf};

use super::{dovecot::Dovecot, imap::Imap, missing, recorder::Recorder};

/// Whose mailbox it is.
pub const USER: &str = "eva";

/// [`PASSWORD`](super::PASSWORD) as crypt(3) keeps it.
const CRYPTED: &str =
    "$6$popgate$NjzDx0hOfQpbdfTPVQYvDRapfeymAg417HW6.cAAd9uPQsJToJE92Ce4awyJyoVv/Y8DXTe3UXuWVjPQ3aWz61";

/// Which server it is, and how it is set up.
#[derive(Debug, Clone, Copy)]
pub enum Make {
    /// With further settings.
    Dovecot(&'static str),
    /// Offers no more than these capabilities.
    DovecotCut(&'static str),
    /// Folders lie below `INBOX.`, separated by dots.
    DovecotPrefix,
    /// As it comes: folders lie below `INBOX.`, separated by dots.
    Cyrus,
    /// `altnamespace` and `unixhierarchysep`: folders lie beside INBOX, separated by slashes.
    CyrusSlash,
    /// Folders lie below `INBOX.`, separated by dots; offers these capabilities.
    Courier(&'static str),
    /// GNU Mailutils, with mail in directories: what its APPEND does to a file in mbox format is not worth a test.
    Mailutils,
    /// In memory.
    Pymap,
}

/// Where a server listens, and what ends it when dropped.
type Running = (SocketAddr, Box<dyn Any>);

/// A running server, and how the gateway comes to it.
pub struct Server {
    address: SocketAddr,
    prefix: &'static str,
    separator: &'static str,
    // Before the server: what was said is printed before what the server has logged.
    recorder: Recorder,
    _process: Box<dyn Any>,
}

impl Server {
    /// Starts it. `None` if it is not installed here.
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

    /// Where the gateway connects, in plain text.
    pub fn address(&self) -> SocketAddr {
        self.recorder.address()
    }

    /// Where the server itself listens.
    pub fn upstream(&self) -> SocketAddr {
        self.address
    }

    /// The server's own name of a folder that the configuration calls `folder`, in modified UTF-7 like that.
    pub fn name(&self, folder: &str) -> String {
        match folder {
            "INBOX" => folder.into(),
            _ => format!("{}{}", self.prefix, folder.replace('/', self.separator)),
        }
    }

    /// Somebody else's connection, with `folder` selected, for as long as `look` takes.
    pub fn look<T>(&self, folder: &str, look: impl FnOnce(&mut Imap) -> T) -> T {
        let mut imap = Imap::log_in(self.address, USER);
        if folder != "INBOX" {
            imap.command(&format!("SELECT \"{}\"", self.name(folder)));
        }
        let seen = look(&mut imap);
        // Some servers keep flags at the end of a session only.
        imap.command("LOGOUT");
        seen
    }

    /// What lies in `folder`; nothing if there is no such folder.
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

/// What tests/servers/install has installed under this name. `None` skips the test, loudly, as `require_program` does.
fn installed(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("POPGATE_TESTS_SERVERS").unwrap_or("/var/cache/popgate-tests".into());
    let path = PathBuf::from(root).join(name);
    if !path.is_dir() {
        missing(&format!("{} is not there, see tests/servers/install", path.display()));
        return None;
    }
    Some(path)
}
