//! Requests to a server. Each is run as one step, and can be repeated without harm if its answer is lost.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use redis::{Cmd, RedisError, Value};

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

    fn command(&self, keys: &[Vec<u8>], arguments: &[Vec<u8>], is_whole: bool) -> Cmd {
        let (name, script) = if is_whole {
            ("EVAL", self.text)
        } else {
            ("EVALSHA", self.sha.as_str())
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

macro_rules! scripts {
    ($($name:ident $file:literal)*) => {$(
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!(concat!("lua/", $file))));
    )*};
}

scripts! {
    CONFER "confer.lua"
    DUTY "duty.lua"
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
    /// A script in Lua, its keys and its arguments.
    Script(&'static Script, Vec<Vec<u8>>, Vec<Vec<u8>>),
    /// Several commands. The answer is an array of their answers, of which some may be errors. A server has a third of
    /// the work that a script with these commands would be.
    Transaction(Vec<Cmd>),
}

impl Request {
    /// The commands to send; for their answers see [`answer`]. With `is_whole` they have the whole script, so that a
    /// server which does not know the script yet can run it. With `is_asking` they begin with ASKING, for a server that
    /// is taking over the slot of a cluster.
    pub(super) fn commands(&self, is_whole: bool, is_asking: bool) -> Vec<Cmd> {
        let mut commands = Vec::new();
        if is_asking {
            commands.push(redis::cmd("ASKING"));
        }
        match self {
            Self::Command(command) => commands.push(command.clone()),
            Self::Script(script, keys, arguments) => commands.push(script.command(keys, arguments, is_whole)),
            Self::Transaction(steps) => {
                commands.reserve(steps.len() + 2);
                commands.push(redis::cmd("MULTI"));
                commands.extend_from_slice(steps);
                commands.push(redis::cmd("EXEC"));
            }
        }
        commands
    }
}

/// The answer to a request, of the answers to its commands: the last one, or the first error. (EXEC refuses a
/// transaction if one of its commands was refused, and only that command's answer tells why.)
pub(super) fn answer(answers: impl IntoIterator<Item = Value>) -> Result<Value, RedisError> {
    let mut last = Value::Nil;
    for answer in answers {
        match answer {
            Value::ServerError(error) => return Err(error.into()),
            answer => last = answer,
        }
    }
    Ok(last)
}

impl From<Cmd> for Request {
    fn from(command: Cmd) -> Self {
        Self::Command(command)
    }
}

/// SHA-1. (No security depends on it.)
pub(super) fn sha1(octets: &[u8]) -> [u8; 20] {
    let mut sha1 = [0; 20];
    sha1.copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, octets).as_ref());
    sha1
}

/// SHA-1 as servers write it.
pub(super) fn sha1_hex(octets: &[u8]) -> String {
    hex(&sha1(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_as_servers_write_them() {
        assert_eq!(sha1_hex(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        let request = Request::Script(&LEAVE, vec![b"k".to_vec()], vec![b"a".to_vec()]);
        let packed = |is_whole, is_asking| {
            let commands = request.commands(is_whole, is_asking);
            commands.iter().flat_map(Cmd::get_packed_command).collect::<Vec<u8>>()
        };
        let sent = packed(false, false);
        let expected = format!(
            "*5\r\n$7\r\nEVALSHA\r\n$40\r\n{}\r\n$1\r\n1\r\n$1\r\nk\r\n$1\r\na\r\n",
            LEAVE.sha
        );
        assert_eq!(sent, expected.as_bytes());
        assert!(packed(true, false).starts_with(b"*5\r\n$4\r\nEVAL\r\n"));
        assert_eq!(packed(false, true), [b"*1\r\n$6\r\nASKING\r\n", &sent[..]].concat());
    }

    #[test]
    fn a_transaction_is_one_step_and_the_first_error_tells_why_it_was_refused() {
        let request = Request::Transaction(vec![redis::cmd("A"), redis::cmd("B")]);
        let names = |is_asking| {
            let commands = request.commands(false, is_asking);
            let packed = commands.iter().flat_map(Cmd::get_packed_command).collect();
            let packed = String::from_utf8(packed).unwrap();
            packed
                .split("\r\n")
                .skip(2)
                .step_by(3)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["MULTI", "A", "B", "EXEC"]);
        assert_eq!(names(true), ["ASKING", "MULTI", "A", "B", "EXEC"]);

        let line = |text: &str| Value::SimpleString(text.to_owned());
        let error = |text: &[u8]| redis::parse_redis_value(text).unwrap();
        let refused = [
            Value::Okay,
            error(b"-READONLY You can't write\r\n"),
            line("QUEUED"),
            error(b"-EXECABORT Transaction discarded\r\n"),
        ];
        assert_eq!(answer(refused).unwrap_err().code(), Some("READONLY"));
        // An error of one step leaves the other answers as they are.
        let done = Value::Array(vec![Value::Nil, error(b"-WRONGTYPE no\r\n")]);
        let answers = [Value::Okay, line("QUEUED"), line("QUEUED"), done.clone()];
        assert_eq!(answer(answers).unwrap(), done);
    }
}
