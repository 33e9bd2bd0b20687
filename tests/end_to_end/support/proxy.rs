//! A proxy on the way to an upstream: SOCKS 5 (RFC 1928, 1929) or HTTP CONNECT (RFC 9110 §9.3.6), cooperative or not.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use super::{
    listener::Listener,
    stream::{Reader, Stream, splice},
};

/// The protocol of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Socks5,
    Http,
}

/// What the proxy does with a request to connect.
#[derive(Debug, Clone)]
pub enum Manner {
    /// Connects to this address, whatever host the request names.
    Connect(SocketAddr),
    /// Refuses, by this reply (RFC 1928 §6) or by this status line.
    Refuse(u8, &'static str),
    /// Never answers.
    Hang,
}

/// The listening proxy.
pub struct Proxy {
    listener: Listener,
    kind: Kind,
    /// The hosts and ports that clients have asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// `login`: the user and password that the proxy requires.
    pub fn start(kind: Kind, login: Option<(&'static str, &'static str)>, manner: Manner) -> Self {
        let asked = Arc::new(Mutex::default());
        let noted = asked.clone();
        let listener = Listener::start(move |_, stream| {
            let client = Client {
                reader: Reader::new(stream),
                login,
                manner: manner.clone(),
                asked: noted.clone(),
            };
            std::thread::spawn(move || {
                // An error is ignored: the client may leave at any time.
                let _ = match kind {
                    Kind::Socks5 => client.socks5(),
                    Kind::Http => client.http(),
                };
            });
        });
        Self { listener, kind, asked }
    }

    /// The configuration's key `proxy`. `login` comes before the host: nothing, or `user:password@`.
    pub fn key(&self, login: &str) -> String {
        let scheme = match self.kind {
            Kind::Socks5 => "socks5",
            Kind::Http => "http",
        };
        format!("proxy = \"{scheme}://{login}{}\"", self.address())
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// The hosts and ports that clients have asked for so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

struct Client {
    reader: Reader,
    login: Option<(&'static str, &'static str)>,
    manner: Manner,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Client {
    fn socks5(mut self) -> io::Result<()> {
        let head = self.reader.take(2)?;
        if head[0] != 5 {
            return Ok(());
        }
        let methods = self.reader.take(head[1].into())?;
        let wanted = if self.login.is_some() { 2 } else { 0 };
        if !methods.contains(&wanted) {
            return self.reader.stream.write_all(&[5, 0xff]);
        }
        self.reader.stream.write_all(&[5, wanted])?;
        if let Some((user, password)) = self.login {
            let length = self.reader.take(2)?[1];
            let given_user = self.reader.take(length.into())?;
            let length = self.reader.take(1)?[0];
            let given_password = self.reader.take(length.into())?;
            let is_right = (&given_user[..], &given_password[..]) == (user.as_bytes(), password.as_bytes());
            self.reader.stream.write_all(&[1, u8::from(!is_right)])?;
            if !is_right {
                return Ok(());
            }
        }
        let request = self.reader.take(4)?;
        assert_eq!(request[..3], [5, 1, 0], "CONNECT");
        let host = match request[3] {
            1 => {
                let octets: [u8; 4] = self.reader.take(4)?.try_into().unwrap();
                Ipv4Addr::from(octets).to_string()
            }
            _ => {
                let length = self.reader.take(1)?[0];
                String::from_utf8(self.reader.take(length.into())?).unwrap()
            }
        };
        let port = self.reader.take(2)?;
        let port = u16::from_be_bytes([port[0], port[1]]);
        self.oblige(format!("{host}:{port}"), b"\x05\0\0\x01\0\0\0\0\0\0", |reply, _| {
            vec![5, reply, 0, 1, 0, 0, 0, 0, 0, 0]
        })
    }

    fn http(mut self) -> io::Result<()> {
        const BAD: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        let mut lines = Vec::new();
        self.reader.fill()?;
        if !self.reader.pending().starts_with(b"C") {
            return self.reader.stream.write_all(BAD);
        }
        loop {
            let line = String::from_utf8(self.reader.line()?).unwrap();
            match line.strip_suffix("\r\n") {
                Some("") => break,
                Some(line) => lines.push(line.to_owned()),
                None => return self.reader.stream.write_all(BAD),
            }
        }
        let target = lines[0]
            .strip_prefix("CONNECT ")
            .and_then(|rest| rest.strip_suffix(" HTTP/1.1"))
            .unwrap()
            .to_owned();
        assert_eq!(lines[1], format!("Host: {target}"));
        if let Some((user, password)) = self.login {
            use base64::prelude::{BASE64_STANDARD, Engine};
            let login = BASE64_STANDARD.encode(format!("{user}:{password}"));
            if !lines.contains(&format!("Proxy-Authorization: Basic {login}")) {
                let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n<html>";
                return self.reader.stream.write_all(refusal);
            }
        }
        self.oblige(
            target,
            b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n",
            |_, line| format!("HTTP/1.1 {line}\r\nConnection: close\r\n\r\n<html>no</html>").into_bytes(),
        )
    }

    fn oblige(mut self, target: String, yes: &[u8], no: impl Fn(u8, &str) -> Vec<u8>) -> io::Result<()> {
        self.asked.lock().unwrap().push(target);
        match self.manner {
            Manner::Connect(address) => {
                let mut upstream = Stream::connect(address)?;
                self.reader.stream.write_all(yes)?;
                upstream.write_all(self.reader.pending())?;
                splice(self.reader.stream.tcp(), upstream.tcp())
            }
            Manner::Refuse(reply, line) => self.reader.stream.write_all(&no(reply, line)),
            Manner::Hang => {
                while self.reader.fill()? > 0 {}
                Ok(())
            }
        }
    }
}
