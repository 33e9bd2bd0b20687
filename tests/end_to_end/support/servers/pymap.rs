//! pymap, a server in Python with mail in memory.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
};

use super::{Running, USER, installed};
use crate::support::{
    PASSWORD,
    process::{Process, free_port, greets},
};

/// The program as it is, except for UIDVALIDITY: pymap's depends on the hour of the day, and tests want more than 31
/// bits. It also compares passwords as they are, since each of its hashes takes half a second of a processor.
const PROGRAM: &str = "
import random, sys
from pymap.config import IMAPConfig
from pymap.mailbox import MailboxSnapshot
from pymap.main import main
from pysasl.hashing import Cleartext

IMAPConfig._get_hash_context = classmethod(lambda cls, path: Cleartext())
MailboxSnapshot.new_uid_validity = classmethod(lambda cls: random.randint(2**31, 2**32 - 1))
sys.exit(main())
";

pub fn start() -> Option<Running> {
    let python = installed("pymap")?.join("bin/python3");
    let port = free_port();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let server = Command::new(python)
        .args(["-c", PROGRAM])
        .args([
            "--host",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--no-tls",
            "--no-service",
            "admin",
        ])
        .args(["dict", "--demo-user", USER, "--demo-password", PASSWORD])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut pymap = Process(server);
    assert!(greets(address, &mut pymap.0), "pymap does not start");
    Some((address, Box::new(pymap)))
}
