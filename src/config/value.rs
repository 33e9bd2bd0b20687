//! The types of values, and how to read each of them.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use oauth2::url::{self, Url};

use super::{
    Secret, Webhook,
    key::{Kind, Raw, Value, Wrong},
    unit::Unit,
};

pub(super) fn text<'a>(raw: &Raw<'a>) -> Result<&'a str, Wrong> {
    match raw {
        Raw::Text(text) => Ok(text),
        _ => Err(Wrong::new("is not a string")),
    }
}

/// The text of `raw`, which must be a single line of visible characters.
pub(super) fn line<'a>(raw: &Raw<'a>) -> Result<&'a str, Wrong> {
    visible(text(raw)?)
}

/// `text`, if it is a single line of visible characters.
pub(super) fn visible(text: &str) -> Result<&str, Wrong> {
    match text {
        "" => Err(Wrong::new("is empty")),
        text if text.chars().any(char::is_control) => {
            Err(Wrong::new("holds a control character").help("it must be a single line of visible characters"))
        }
        text => Ok(text),
    }
}

/// The strings of `raw`; a single string counts as a list.
pub(super) fn texts<'a>(raw: &Raw<'a>) -> Result<Vec<&'a str>, Wrong> {
    match raw {
        Raw::Text(text) => Ok(vec![text]),
        Raw::Texts(texts) => Ok(texts.clone()),
        _ => Err(Wrong::new("is not a list of strings")),
    }
}

/// A single line of visible characters, not empty.
impl Value for String {
    const KIND: Kind = Kind::Text;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        line(raw).map(str::to_owned)
    }
}

/// The domain for logins without one, in lower case.
#[derive(Debug, Clone)]
pub(super) struct Domain(pub(super) String);

impl Value for Domain {
    const KIND: Kind = Kind::Text;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        let domain = line(raw)?;
        match domain.chars().find(|c| matches!(c, '@' | '*') || c.is_whitespace()) {
            None => Ok(Self(domain.to_ascii_lowercase())),
            Some(refused) => Err(Wrong::new(format!("a domain can't contain {refused:?}"))),
        }
    }
}

/// The name of a file or directory as the configuration has it; it may be relative.
#[derive(Debug, Clone)]
pub(super) struct FileName(pub(super) String);

impl Value for FileName {
    const KIND: Kind = Kind::File;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        match text(raw)? {
            "" => Err(Wrong::new("is empty").help("name a file, or leave the key out")),
            name => Ok(Self(name.to_owned())),
        }
    }
}

impl Value for Secret {
    const KIND: Kind = Kind::Secret;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        match text(raw)? {
            "" => Err(Wrong::new("is empty").help("give the password")),
            text => Ok(Self::from(text)),
        }
    }
}

impl Value for bool {
    const KIND: Kind = Kind::Flag;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        match raw {
            Raw::Flag(flag) => Ok(*flag),
            _ => Err(Wrong::new("is not true or false")),
        }
    }
}

pub(super) fn fitting<T: TryFrom<u64>>(number: u64) -> Result<T, Wrong> {
    T::try_from(number).map_err(|_| Wrong::new(format!("{number} is out of range")))
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Value for $number {
            const KIND: Kind = Kind::Number(Unit::One);

            fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
                fitting(Unit::One.read(raw)?)
            }
        }
    )*};
}

numbers! { u16 u32 usize }

impl Value for Duration {
    const KIND: Kind = Kind::Number(Unit::Seconds);

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        Unit::Seconds.read(raw).map(Self::from_secs)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Days(pub(super) u32);

impl Value for Days {
    const KIND: Kind = Kind::Number(Unit::Days);

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        fitting(Unit::Days.read(raw)?).map(Self)
    }
}

/// A size in octets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size(pub(super) u64);

impl Value for Size {
    const KIND: Kind = Kind::Number(Unit::Octets);

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        Unit::Octets.read(raw).map(Self)
    }
}

impl Value for SocketAddr {
    const KIND: Kind = Kind::Address;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        let text = line(raw)?;
        let wrong = Wrong::new(format!("{text:?} is not a valid address with a port"));
        match text.parse() {
            Ok(address) => Ok(address),
            Err(_) if text.parse::<u16>().is_ok() => Err(wrong.help(format!("write \"0.0.0.0:{text}\""))),
            Err(_) if text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) => {
                Err(wrong.help(format!("add the port: \"[{text}]:110\"")))
            }
            Err(_) if text.parse::<IpAddr>().is_ok() => Err(wrong.help(format!("add the port: \"{text}:110\""))),
            Err(_) => Err(wrong),
        }
    }
}

/// Networks, at least one. A single address counts as a network.
#[derive(Debug, Clone)]
pub(super) struct Networks(pub(super) Vec<IpNet>);

impl Value for Networks {
    const KIND: Kind = Kind::Texts;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        let AnyNetworks(networks) = AnyNetworks::read(raw)?;
        if networks.is_empty() {
            Err(Wrong::new("is empty, so nobody could connect").help("leave it out for the default"))
        } else {
            Ok(Self(networks))
        }
    }
}

/// Networks; the list may be empty.
#[derive(Debug, Clone)]
pub(super) struct AnyNetworks(pub(super) Vec<IpNet>);

impl Value for AnyNetworks {
    const KIND: Kind = Kind::Texts;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        let network = |text: &str| {
            let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| Wrong::new(format!("{text:?} is not a valid network")))
        };
        texts(raw)?.into_iter().map(network).collect::<Result<_, _>>().map(Self)
    }
}

/// Patterns of logins; the list may be empty.
#[derive(Debug, Clone, Default)]
pub(super) struct Logins(pub(super) Vec<String>);

impl Value for Logins {
    const KIND: Kind = Kind::Texts;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        let wrong = |_| Wrong::new("a login is empty or holds a control character");
        let logins = texts(raw)?.into_iter().map(|login| visible(login).map(str::to_owned));
        logins.collect::<Result<_, _>>().map(Self).map_err(wrong)
    }
}

/// The scopes to ask a provider for; the list may be empty.
#[derive(Debug, Clone)]
pub(super) struct Scopes(pub(super) Vec<String>);

impl Value for Scopes {
    const KIND: Kind = Kind::Texts;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        let scopes = texts(raw)?;
        if scopes
            .iter()
            .any(|scope| scope.is_empty() || scope.contains(char::is_whitespace))
        {
            return Err(Wrong::new("a scope is empty or holds a space"));
        }
        Ok(Self(scopes.into_iter().map(str::to_owned).collect()))
    }
}

/// Whether `octet` may occur in a host name.
fn is_of_name(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b".-_".contains(&octet)
}

/// A host name or an address, without a port.
#[derive(Debug, Clone)]
pub(super) struct Host(pub(super) String);

impl Value for Host {
    const KIND: Kind = Kind::Text;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        let host = line(raw)?;
        let help = match host.rsplit_once(':') {
            _ if host.parse::<IpAddr>().is_ok() => return Ok(Self(host.to_owned())),
            _ if host.contains("://") => "give the name alone, and the port by `port`, the encryption by `tls`",
            Some((_, port)) if port.parse::<u16>().is_ok() => "give the port by `port`",
            _ if host.bytes().all(is_of_name) => return Ok(Self(host.to_owned())),
            _ => "a host name is made of letters, digits, `.` and `-` (an international name in its xn-- form)",
        };
        Err(Wrong::new(format!("{host:?} is not a valid host name or address")).help(help))
    }
}

/// Host names in lower case, at least one. A leading `*.` stands for one label.
#[derive(Debug, Clone)]
pub(super) struct HostNames(pub(super) Vec<String>);

impl Value for HostNames {
    const KIND: Kind = Kind::Texts;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        let name = |text: &str| {
            let labels = text.strip_prefix("*.").unwrap_or(text);
            if text.parse::<IpAddr>().is_ok() {
                let wrong = Wrong::new(format!("{text:?} is an address"));
                return Err(
                    wrong.help("devices that connect to an address ask for no name: they get the first certificate")
                );
            }
            if labels.is_empty() || !labels.bytes().all(is_of_name) {
                return Err(Wrong::new(format!("{text:?} is not a valid host name")));
            }
            Ok(text.to_ascii_lowercase())
        };
        match texts(raw)? {
            texts if texts.is_empty() => {
                Err(Wrong::new("is empty").help("leave it out for the names in the certificate"))
            }
            texts => texts.into_iter().map(name).collect::<Result<_, _>>().map(Self),
        }
    }
}

/// The URL in `raw`, both as it is written and parsed.
fn parsed_url<'a>(raw: &Raw<'a>) -> Result<(&'a str, Url), Wrong> {
    let url = line(raw)?;
    match Url::parse(url) {
        Ok(parsed) => Ok((url, parsed)),
        Err(_) => Err(Wrong::new(format!("{url:?} is not a valid URL"))),
    }
}

/// An HTTPS URL. Plain HTTP is allowed for a provider on this machine only, as in tests.
#[derive(Debug, Clone)]
pub(super) struct SecureUrl(pub(super) String);

impl Value for SecureUrl {
    const KIND: Kind = Kind::Text;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        let (url, parsed) = parsed_url(raw)?;
        let is_local = match parsed.host() {
            Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        match parsed.scheme() {
            "https" => Ok(Self(url.to_owned())),
            "http" if is_local => Ok(Self(url.to_owned())),
            _ => Err(Wrong::new(format!("{url:?} is not an https:// URL"))),
        }
    }
}

/// The URL that notices are sent to. It is secret, because a receiver often checks nothing but its path or user.
#[derive(Debug, Clone)]
pub(super) struct WebhookUrl(pub(super) Webhook);

impl Value for WebhookUrl {
    const KIND: Kind = Kind::Secret;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        let parsed = Url::parse(text(raw)?).map_err(|_| Wrong::new("is not a valid URL"))?;
        let is_of_http = matches!(parsed.scheme(), "http" | "https") && parsed.has_host();
        if is_of_http {
            Ok(Self(Webhook::new(&parsed)))
        } else {
            Err(Wrong::new("is neither an https:// nor an http:// URL"))
        }
    }
}

/// The URL that browsers are sent back to, octet for octet as it was registered; any scheme.
#[derive(Debug, Clone)]
pub(super) struct RedirectUrl(pub(super) String);

impl Value for RedirectUrl {
    const KIND: Kind = Kind::Text;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        parsed_url(raw).map(|(url, _)| Self(url.to_owned()))
    }
}

/// The URL of a page, without a slash at its end.
#[derive(Debug, Clone)]
pub(super) struct PageUrl(pub(super) String);

impl Value for PageUrl {
    const KIND: Kind = Kind::Text;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        let url = text(raw)?;
        let is_page = |url: &Url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.query().is_none()
                && url.fragment().is_none()
        };
        match Url::parse(url).ok().filter(is_page) {
            Some(parsed) => Ok(Self(parsed.as_str().trim_end_matches('/').to_owned())),
            None => Err(Wrong::new(format!("{url:?} is not a valid URL of a page"))),
        }
    }
}

/// A Microsoft tenant: its id, or one of its domains.
#[derive(Debug, Clone)]
pub(super) struct Tenant(pub(super) String);

impl Value for Tenant {
    const KIND: Kind = Kind::Text;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        let tenant = text(raw)?;
        if tenant.is_empty() || !tenant.bytes().all(is_of_name) {
            Err(Wrong::new(format!("{tenant:?} is not a valid tenant")))
        } else {
            Ok(Self(tenant.to_owned()))
        }
    }
}
