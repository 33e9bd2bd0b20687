//! Scripts in Lua. A server runs each as one step, and each can be repeated without harm if its answer is lost.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use redis::Cmd;

use crate::types::hex;

/// A script, and the SHA-1 by which servers know it.
#[derive(Debug)]
pub(super) struct Script {
    text: &'static str,
    sha: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self {
            text,
            sha: sha1_hex(text.as_bytes()),
        }
    }
}

macro_rules! scripts {
    ($($name:ident $file:literal)*) => {$(
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!(concat!("lua/", $file))));
    )*};
}

scripts! {
    CONFER "confer.lua"
    DUTY "duty.lua"
    ENTER "enter.lua"
    EXTEND "extend.lua"
    LEAVE "leave.lua"
    NOTICE "notice.lua"
    REPLACE "replace.lua"
    PIECES "pieces.lua"
    SEATS "seats.lua"
}

/// The most digits of the number of keys.
const DIGITS: usize = 20;

/// A request to a server. All its keys are in one slot.
#[derive(Debug)]
pub(super) enum Request {
    /// One command.
    Command(Cmd),
    /// A script, its keys and its arguments.
    Script(&'static Script, Vec<Vec<u8>>, Vec<Vec<u8>>),
}

impl Request {
    /// The command to send. With `whole` it has the whole script, so that a server which does not know the script yet
    /// can run it.
    pub(super) fn command(&self, whole: bool) -> Cmd {
        match self {
            Self::Command(command) => command.clone(),
            Self::Script(script, keys, arguments) => {
                let (name, script) = if whole {
                    ("EVAL", script.text)
                } else {
                    ("EVALSHA", script.sha.as_str())
                };
                let rest = || keys.iter().chain(arguments);
                let octets = name.len() + script.len() + DIGITS + rest().map(Vec::len).sum::<usize>();
                let mut command = Cmd::with_capacity(3 + rest().count(), octets);
                command.arg(name).arg(script).arg(keys.len());
                for argument in rest() {
                    command.arg(argument);
                }
                command
            }
        }
    }
}

impl From<Cmd> for Request {
    fn from(command: Cmd) -> Self {
        Self::Command(command)
    }
}

/// SHA-1 as servers write it. (No security depends on it.)
pub(super) fn sha1_hex(octets: &[u8]) -> String {
    hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, octets).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_as_servers_write_them() {
        assert_eq!(sha1_hex(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        let request = Request::Script(&LEAVE, vec![b"k".to_vec()], vec![b"a".to_vec()]);
        let sent = request.command(false).get_packed_command();
        let expected = format!(
            "*5\r\n$7\r\nEVALSHA\r\n$40\r\n{}\r\n$1\r\n1\r\n$1\r\nk\r\n$1\r\na\r\n",
            LEAVE.sha
        );
        assert_eq!(sent, expected.as_bytes());
        let whole = request.command(true).get_packed_command();
        assert!(whole.starts_with(b"*5\r\n$4\r\nEVAL\r\n"));
    }
}
