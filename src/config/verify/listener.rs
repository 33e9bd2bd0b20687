//! Verifies `[[listener]]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use super::{Verifier, value::Checked};
use crate::config::{Account, ClientCertificates, Listener, ListenerTls, LocalSecret, keys};

/// The address if no listener is given: the POP3 port (RFC 1939 §3).
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 110);

impl Listener {
    /// Loopback, private (RFC 1918, RFC 4193) and link-local networks. Unless `allow` says otherwise, only they may use
    /// plain text.
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

    /// All IPv4 and IPv6 addresses.
    pub fn everyone() -> Vec<IpNet> {
        networks(&[([0u8; 4], 0)]).chain(networks(&[([0u16; 8], 0)])).collect()
    }
}

fn networks<A: Copy + Into<IpAddr>>(list: &[(A, u8)]) -> impl Iterator<Item = IpNet> {
    list.iter()
        .filter_map(|(address, length)| IpNet::new((*address).into(), *length).ok())
}

impl Verifier<'_> {
    pub(super) fn listeners(
        &mut self,
        listeners: Vec<keys::Listener>,
        tls: &[(String, keys::Tls)],
    ) -> Checked<Vec<Listener>> {
        if listeners.is_empty() {
            return Ok(vec![Listener {
                address: DEFAULT,
                tls: ListenerTls::Off,
                require_tls: false,
                allow: Listener::private_networks(),
                client_certificates: ClientCertificates::Off,
                proxy_protocol_from: Vec::new(),
                apop: false,
            }]);
        }
        let mut verified: Vec<Listener> = Vec::new();
        let mut failed = Ok(());
        for (index, listener) in listeners.into_iter().enumerate() {
            let path = format!("listener[{index}]");
            match self.listener(&path, listener, tls) {
                Ok(listener) => {
                    if verified
                        .iter()
                        .any(|other| other.address == listener.address && other.address.port() != 0)
                    {
                        let what = format!("{} is the address of an earlier [[listener]] too", listener.address);
                        self.wrong(&format!("{path}.address"), what, "give each listener a port of its own");
                    }
                    verified.push(listener);
                }
                Err(noted) => failed = Err(noted),
            }
        }
        failed.map(|()| verified)
    }

    /// Notes a mistake if APOP is offered, but no account can use it, because none has a password in plain text. Called
    /// only if nothing else is wrong.
    pub(super) fn challenges_can_be_answered(&mut self, listeners: &[Listener], accounts: &[Account]) {
        if accounts
            .iter()
            .any(|account| matches!(account.secret, LocalSecret::Password(_)))
        {
            return;
        }
        if let Some(index) = listeners.iter().position(|listener| listener.apop) {
            let help = "give an [[account]] its password by `password` or `password_file`, or leave apop out: popgate \
                        needs the password itself for APOP, so neither a hash nor `logins` will do";
            self.wrong(&format!("listener[{index}].apop"), "nobody could log in by APOP", help);
        }
    }

    fn listener(
        &mut self,
        path: &str,
        listener: keys::Listener,
        certificates: &[(String, keys::Tls)],
    ) -> Checked<Listener> {
        let key = |name: &str| format!("{path}.{name}");
        let address = self.required(&key("address"), listener.address);
        let tls = listener.tls;
        if tls != ListenerTls::Off && certificates.is_empty() {
            let help = "add [tls] with `certificate` and `key`, two PEM files";
            let what = format!("\"{tls}\" needs a certificate, and there is no [tls]");
            self.wrong(&key("tls"), what, help);
        }
        if tls.is_legacy() {
            self.legacy_tls(&key("tls"), tls);
            if listener.allow.is_none() && !self.sources.is_wrong(&key("allow")) {
                let help = "name the networks of the devices that need it, such as allow = [\"192.168.1.0/24\"]";
                self.wrong(&key("allow"), format!("is missing, and tls = \"{tls}\" needs it"), help);
            }
        }
        if listener.require_tls && tls == ListenerTls::Off && !self.sources.is_wrong(&key("tls")) {
            let help = "set tls = \"starttls\" or \"implicit\" for this listener, or leave require_tls out";
            self.wrong(&key("require_tls"), "this listener has no TLS to require", help);
        }
        self.client_certificates(&key("client_certificates"), &listener, certificates);
        let allow = match listener.allow {
            Some(networks) => networks.0,
            None if tls == ListenerTls::Off => Listener::private_networks(),
            None => Listener::everyone(),
        };
        Ok(Listener {
            address: address?,
            tls,
            require_tls: listener.require_tls,
            allow,
            client_certificates: listener.client_certificates,
            proxy_protocol_from: listener.proxy_protocol_from.0,
            apop: listener.apop,
        })
    }

    /// Notes a mistake if `listener` cannot ask devices for certificates, or if a device can log in without one
    /// although one is required. `path` is that of the key `client_certificates`.
    fn client_certificates(&mut self, path: &str, listener: &keys::Listener, certificates: &[(String, keys::Tls)]) {
        let clients = listener.client_certificates;
        if clients == ClientCertificates::Off {
            return;
        }
        if listener.tls == ListenerTls::Off {
            let help = "set tls = \"implicit\" for this listener, or leave client_certificates out";
            self.wrong(path, "this listener has no TLS, so no device shows a certificate", help);
        } else if listener.tls.is_legacy() {
            let help = "set tls = \"implicit\" or \"starttls\" for this listener, or leave client_certificates out";
            self.wrong(path, "devices of old TLS are not asked for certificates", help);
        } else if listener.tls == ListenerTls::StartTls
            && clients == ClientCertificates::Required
            && !listener.require_tls
        {
            let help = "set require_tls = true";
            self.wrong(
                path,
                "a device that does not say STLS gets in without a certificate",
                help,
            );
        } else if let Some((table, _)) = certificates.iter().find(|(_, tls)| tls.client_ca.is_none()) {
            let help = "name the PEM file of the authorities that issue the certificates of devices";
            self.wrong(
                &format!("{table}.client_ca"),
                format!("is missing: a listener has client_certificates = \"{clients}\""),
                help,
            );
        }
    }
}
