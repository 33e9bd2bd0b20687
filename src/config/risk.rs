//! What a configuration allows and a person should know: warnings of `popgate check`.

use std::{net::IpAddr, time::Duration};

use super::{Config, Listener, ListenerTls, Upstream, UpstreamTls};

/// RFC 1939 §3: an autologout timer must be of at least 10 minutes.
const LEAST_IDLE: Duration = Duration::from_secs(600);

impl Config {
    /// One sentence for each risk that the verified values show.
    pub(super) fn risks(&self) -> Vec<String> {
        let mut risks = Vec::new();
        if self.limits.idle < LEAST_IDLE {
            risks.push(format!(
                "limits.idle_seconds is {}: RFC 1939 asks for 600 at least, and a slow device may lose its session",
                self.limits.idle.as_secs()
            ));
        }
        if self.tls.is_some() && self.listeners.iter().all(|listener| listener.tls == ListenerTls::Off) {
            risks.push("[tls] names a certificate, but no [[listener]] uses it".into());
        }
        risks.extend(self.listeners.iter().filter_map(Listener::risk));
        for upstream in &self.upstreams {
            if upstream.tls == UpstreamTls::Off && !is_loopback(&upstream.host) {
                risks.push(format!(
                    "upstream.{}: tls = \"off\" sends passwords and mail to {} in plain text",
                    upstream.name, upstream.host
                ));
            }
            if !self.is_used(upstream) {
                risks.push(format!(
                    "upstream.{} has no `logins` and no [[account]]: nothing uses it",
                    upstream.name
                ));
            }
        }
        risks
    }

    fn is_used(&self, upstream: &Upstream) -> bool {
        !upstream.logins.is_empty()
            || self
                .accounts
                .iter()
                .any(|account| account.upstream.name == upstream.name)
    }
}

impl Listener {
    fn risk(&self) -> Option<String> {
        let private = Self::private_networks();
        let open = self
            .allow
            .iter()
            .find(|allowed| !private.iter().any(|network| network.contains(*allowed)))?;
        let plain = match self.tls {
            ListenerTls::Off => "takes passwords in plain text",
            ListenerTls::StartTls if !self.require_tls => "takes passwords before STLS (see require_tls)",
            _ => return None,
        };
        Some(format!(
            "listener {} {plain} from {open}, which is not a private network",
            self.address
        ))
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
