//! `[notify]`: how people hear that they must act.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use oauth2::url::{Host, Url};

use super::Secret;

/// `[notify]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// The webhook that notices are sent to.
    pub webhook: Option<Webhook>,
    /// The key that signs notices.
    pub webhook_secret: Option<Secret>,
    /// PEM file of roots trusted besides the system's.
    pub webhook_ca_file: Option<PathBuf>,
    /// Whether devices get a notice among their mail if the consent for their mailbox ends soon.
    pub mail: bool,
    /// How long before its end a consent counts as ending soon.
    pub consent: Duration,
}

impl Default for Notify {
    /// Sends no notices.
    fn default() -> Self {
        Self {
            webhook: None,
            webhook_secret: None,
            webhook_ca_file: None,
            mail: false,
            consent: Duration::from_secs(14 * 24 * 3600),
        }
    }
}

/// The http or https URL of a webhook. Anybody who knows the URL may be able to post there, so only its host is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    url: Secret,
    host: String,
    is_private: bool,
}

impl Webhook {
    /// `url` must name a host.
    pub(super) fn new(url: &Url) -> Self {
        let is_near = match url.host() {
            Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            Some(Host::Ipv4(address)) => is_near(address.into()),
            Some(Host::Ipv6(address)) => is_near(address.into()),
            None => false,
        };
        Self {
            url: url.as_str().into(),
            host: url.host_str().unwrap_or_default().to_owned(),
            is_private: url.scheme() == "https" || is_near,
        }
    }

    /// The whole URL; keep the borrow short.
    pub fn expose(&self) -> &[u8] {
        self.url.expose()
    }

    /// The host, for the log.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether notices are encrypted on their way, or stay on this machine or in a private network.
    pub fn is_private(&self) -> bool {
        self.is_private
    }
}

/// Whether `address` is of this machine or of a private network.
fn is_near(address: IpAddr) -> bool {
    address.is_loopback()
        || match address.to_canonical() {
            IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
            IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_private_only_nearby() {
        for (url, expected) in [
            ("https://alerts.example.org/x", true),
            ("http://alerts.example.org/x", false),
            ("http://localhost:8080/x", true),
            ("http://127.0.0.1/x", true),
            ("http://10.1.2.3/x", true),
            ("http://192.0.2.1/x", false),
            ("http://[::1]/x", true),
            ("http://[::ffff:10.0.0.1]/x", true),
            ("http://[fd00::1]/x", true),
            ("http://[2001:db8::1]/x", false),
        ] {
            let webhook = Webhook::new(&Url::parse(url).unwrap());
            assert_eq!(webhook.is_private(), expected, "{url}");
        }
    }

    #[test]
    fn a_url_is_not_shown() {
        let webhook = Webhook::new(&Url::parse("https://user:hunter2@alerts.example.org/services/hunter3").unwrap());
        assert_eq!(webhook.host(), "alerts.example.org");
        assert!(!format!("{webhook:?}").contains("hunter"));
        assert_eq!(
            webhook.expose(),
            b"https://user:hunter2@alerts.example.org/services/hunter3"
        );
    }
}
