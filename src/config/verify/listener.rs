//! `[[listener]]`

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use super::Verifier;
use crate::config::{Listener, ListenerTls, error::Error, file};

/// The POP3 port (RFC 1939 §3), where no listener is given.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 110);

impl Listener {
    /// Loopback, private (RFC 1918, RFC 4193) and link-local networks: who may speak plain text unless told otherwise.
    pub fn private_networks() -> Vec<IpNet> {
        networks(&[
            ([127, 0, 0, 0], 8),
            ([10, 0, 0, 0], 8),
            ([172, 16, 0, 0], 12),
            ([192, 168, 0, 0], 16),
            ([169, 254, 0, 0], 16),
        ])
        .chain(networks(&[
            ([0, 0, 0, 0, 0, 0, 0, 1], 128),
            ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
            ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
        ]))
        .collect()
    }

    /// Everyone.
    pub fn everyone() -> Vec<IpNet> {
        networks(&[([0u8; 4], 0)]).chain(networks(&[([0u16; 8], 0)])).collect()
    }
}

fn networks<A: Copy + Into<IpAddr>>(list: &[(A, u8)]) -> impl Iterator<Item = IpNet> {
    list.iter()
        .filter_map(|(address, length)| IpNet::new((*address).into(), *length).ok())
}

impl Verifier<'_> {
    pub(super) fn listeners(&self, listeners: Vec<file::Listener>, certificate: bool) -> Result<Vec<Listener>, Error> {
        if listeners.is_empty() {
            return Ok(vec![Listener {
                address: DEFAULT,
                tls: ListenerTls::Off,
                require_tls: false,
                allow: Listener::private_networks(),
            }]);
        }
        let mut verified: Vec<Listener> = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let path = format!("listener[{index}]");
            let listener = self.listener(&path, listener, certificate)?;
            let taken = |other: &&Listener| other.address == listener.address && other.address.port() != 0;
            if verified.iter().find(taken).is_some() {
                let what = format!("{} is the address of an earlier [[listener]] too", listener.address);
                return Err(self.error(&format!("{path}.address"), what, "give each listener a port of its own"));
            }
            verified.push(listener);
        }
        Ok(verified)
    }

    fn listener(&self, path: &str, listener: file::Listener, certificate: bool) -> Result<Listener, Error> {
        let key = |name: &str| format!("{path}.{name}");
        let example = "an address and a port, such as \"0.0.0.0:110\" or \"[::]:110\"";
        let address = self.text(&key("address"), listener.address, example)?;
        let address = address
            .parse()
            .map_err(|_| self.error(&key("address"), format!("{address:?} is no address and port"), example))?;
        let modes = [
            ("off", ListenerTls::Off),
            ("starttls", ListenerTls::StartTls),
            ("implicit", ListenerTls::Implicit),
        ];
        let tls = self
            .word(&key("tls"), listener.tls, &modes)?
            .unwrap_or(ListenerTls::Off);
        if tls != ListenerTls::Off && !certificate {
            let help = "add [tls] with `certificate` and `key`, two PEM files";
            return Err(self.error(
                &key("tls"),
                format!("\"{tls}\" needs a certificate, and there is no [tls]"),
                help,
            ));
        }
        let require_tls = listener.require_tls.unwrap_or(false);
        if require_tls && tls == ListenerTls::Off {
            let help = "set tls = \"starttls\" or \"implicit\" for this listener, or leave require_tls out";
            return Err(self.error(&key("require_tls"), "this listener has no TLS to require", help));
        }
        let allow = match listener.allow {
            Some(allow) => self.allow(&key("allow"), &allow)?,
            None if tls == ListenerTls::Off => Listener::private_networks(),
            None => Listener::everyone(),
        };
        Ok(Listener {
            address,
            tls,
            require_tls,
            allow,
        })
    }

    fn allow(&self, path: &str, allow: &[String]) -> Result<Vec<IpNet>, Error> {
        if allow.is_empty() {
            return Err(self.error(
                path,
                "is empty, so nobody could connect",
                "leave it out for the default",
            ));
        }
        allow
            .iter()
            .map(|text| {
                let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
                network.map_err(|_| {
                    let help = "write networks such as \"192.168.1.0/24\" or \"fd00::/8\", or single addresses";
                    self.error(path, format!("{text:?} is no network"), help)
                })
            })
            .collect()
    }
}
