//! What programs ask by HTTP: one request a connection, answered in plain text.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use super::{PATIENCE, gateway::Gateway};

/// The password of the page.
pub const ADMIN: &str = "the page's own";

/// `[web]` at a free port.
pub fn table() -> String {
    format!("[web]\naddress = \"127.0.0.1:0\"\nadmin_password = \"{ADMIN}\"")
}

/// A server of HTTP.
pub struct Web {
    address: SocketAddr,
}

/// What it answers.
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answer {
    /// A field of the head, in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    }

    /// The body, which is JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Web {
    /// `[web]` of `gateway`.
    pub fn of(gateway: &Gateway) -> Self {
        let event = &gateway.events("sign-in page", 1)[0];
        Self::at(event["address"].as_str().unwrap().parse().unwrap())
    }

    pub fn at(address: SocketAddr) -> Self {
        Self { address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The page, as browsers open it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// GET by the server's address.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.get_as(&self.address.to_string(), path)
    }

    /// GET by another name.
    #[track_caller]
    pub fn get_as(&self, host: &str, path: &str) -> Answer {
        self.try_get(host, path).expect("an answer")
    }

    /// The same of a server that may not listen yet.
    pub fn try_get(&self, host: &str, path: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        // Of 1.0, so that the body comes in one piece.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some(Answer {
            status: head.split(' ').nth(1)?.parse().ok()?,
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        })
    }

    /// The value of a series of /metrics, such as `popgate_sessions{listener="…"}`; `None` if there is none.
    #[track_caller]
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.get("/metrics").body;
        let line = text.lines().find(|line| line.starts_with(&format!("{series} ")))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}
