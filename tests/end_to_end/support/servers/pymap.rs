//! pymap, a server in Python with mail in memory.

use std::{
    any::Any,
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
};

use super::{USER, installed};
use crate::support::{
    PASSWORD,
    process::{free_port, greets},
};

struct Pymap(Child);

impl Drop for Pymap {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn start() -> Option<(SocketAddr, Box<dyn Any>)> {
    let program = installed("pymap")?.join("bin/pymap");
    for _ in 0..5 {
        let port = free_port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server = Command::new(&program)
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
        let mut pymap = Pymap(server);
        if greets(address, &mut pymap.0) {
            return Some((address, Box::new(pymap)));
        }
    }
    panic!("pymap does not start");
}
