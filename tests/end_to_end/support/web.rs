//! An HTTP client as programs are: one request a connection, in plain text.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use super::{PATIENCE, gateway::Gateway};

/// The password of the web page.
pub const ADMIN: &str = "the page's own";

/// `[web]` at a free port.
pub fn table() -> String {
    format!("[web]\naddress = \"127.0.0.1:0\"\nadmin_password = \"{ADMIN}\"")
}

/// The HTTP server of a gateway.
pub struct Web {
    address: SocketAddr,
}

/// A response of the server.
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answer {
    /// The value of a header field; both are in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    }

    /// The body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Web {
    /// The HTTP server of `gateway`, which must have a `[web]`.
    pub fn of(gateway: &Gateway) -> Self {
        let event = &gateway.events("the sign-in page is served", 1)[0];
        Self::at(event["address"].as_str().unwrap().parse().unwrap())
    }

    pub fn at(address: SocketAddr) -> Self {
        Self { address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the page.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends GET, with the server's address as the host.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.get_as(&self.address.to_string(), path)
    }

    /// Sends GET, with another name as the host.
    #[track_caller]
    pub fn get_as(&self, host: &str, path: &str) -> Answer {
        self.try_get(host, path).expect("an answer")
    }

    /// The same for a server that may not listen yet; `None` if it does not answer.
    pub fn try_get(&self, host: &str, path: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        // HTTP/1.0, so that the body comes in one piece.
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
