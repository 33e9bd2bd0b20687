//! A Redis server, in which gateways share their state.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::{process::free_port, require_program};

/// A Redis server.
pub struct Redis {
    process: Child,
    port: u16,
    _dir: TempDir,
}

impl Redis {
    pub fn start() -> Option<Self> {
        let program = require_program("redis-server")?;
        let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
        let mut process = Command::new(program)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &port.to_string()])
            .arg("--dir")
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        assert!(
            lines.any(|line| line.contains("Ready to accept connections")),
            "Redis does not start"
        );
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self {
            process,
            port,
            _dir: dir,
        })
    }

    /// Sends a command, and returns the server's answer.
    pub fn say(&self, command: &str) -> String {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        socket.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The table `[state]` of a gateway called `name`, with its state in this server.
    pub fn table(&self, name: &str) -> String {
        format!(
            "[state]\nurl = \"redis://127.0.0.1:{}\"\nkey = \"{}\"\nlease_seconds = 6\nreplica = \"{name}\"",
            self.port,
            "k".repeat(40)
        )
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
