//! Parses answers, and suggests some.

use std::net::{IpAddr, SocketAddr};

use crate::{
    config::{ListenerTls, Preset, UpstreamTls},
    types::host_and_port,
};

/// Whose mail the devices fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Users {
    /// The mail of one mailbox, which the gateway opens with a login of its own.
    One(String),
    /// The mail of all logins that match this pattern, each with its own password.
    Every(String),
}

impl Users {
    pub(super) fn read(answer: &str) -> Result<Self, String> {
        let wrong = || {
            Err(format!(
                "{answer:?} is not an address: write office@example.org, or *@example.org"
            ))
        };
        if answer.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return wrong();
        }
        match answer.split_once('@') {
            Some((name, domain)) if name.is_empty() || domain.is_empty() || domain.contains(['*', '@']) => wrong(),
            Some(("*", _)) => Ok(Self::Every(answer.into())),
            _ if answer == "*" => Ok(Self::Every(answer.into())),
            _ if answer.is_empty() || answer.contains('*') => wrong(),
            _ => Ok(Self::One(answer.into())),
        }
    }

    /// The domain of the mailboxes; `None` if the logins have no domain.
    pub(super) fn domain(&self) -> Option<&str> {
        let (Self::One(address) | Self::Every(address)) = self;
        address.split_once('@').map(|(_, domain)| domain)
    }
}

/// The provider or IMAP server that has the mail.
#[derive(Debug, Clone)]
pub(super) enum MailProvider {
    Known(&'static Preset),
    Other { host: String, port: u16, tls: UpstreamTls },
}

impl MailProvider {
    /// The name of a preset, or the host, to suggest for mailboxes of `users`.
    pub(super) fn suggested(users: &Users) -> Option<String> {
        let domain = users.domain()?;
        Some(match Preset::of_domain(domain) {
            Some(preset) => preset.name.clone(),
            None => format!("imap.{domain}"),
        })
    }

    /// The provider that `answer` names. Fails if logins are to be forwarded to a provider that takes no passwords.
    pub(super) fn read(answer: &str, users: &Users) -> Result<Self, String> {
        let provider = Self::named(answer)?;
        match (&provider, users) {
            (Self::Known(preset), Users::Every(_)) if preset.passwords.is_none() => Err(format!(
                "{} takes no passwords, so popgate cannot forward the logins of all: begin again with one address, or see \
                 \"Microsoft 365\" in README",
                preset.name
            )),
            _ => Ok(provider),
        }
    }

    fn named(answer: &str) -> Result<Self, String> {
        if let Some(preset) = Preset::called(answer) {
            return Ok(Self::Known(preset));
        }
        if !answer.contains(['.', ':']) && answer != "localhost" {
            return Err(format!(
                "there is no provider {answer:?}: {}; another IMAP server is named as imap.example.org or \
                 imap.example.org:993",
                Preset::suggest(answer)
            ));
        }
        let wrong = || format!("{answer:?} is not a host, such as imap.example.org or imap.example.org:993");
        let (host, port) = host_and_port(answer).map_err(|_| wrong())?;
        if host.parse::<IpAddr>().is_err() && !is_name(host) {
            return Err(wrong());
        }
        if let (Some(preset), None | Some(993)) = (Preset::at(host), port) {
            return Ok(Self::Known(preset));
        }
        let port = port.unwrap_or(993);
        Ok(Self::Other {
            host: host.to_owned(),
            port,
            tls: if port == 143 {
                UpstreamTls::StartTls
            } else {
                UpstreamTls::Implicit
            },
        })
    }

    /// The usual tenant, if the provider has tenants.
    pub(super) fn tenant(&self) -> Option<&str> {
        match self {
            Self::Known(preset) => preset.tenant(),
            Self::Other { .. } => None,
        }
    }

    /// The NAME of `[upstream.NAME]`.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Known(preset) => &preset.name,
            Self::Other { .. } => "home",
        }
    }
}

/// The kind of device that fetches the mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceKind {
    word: &'static str,
    what: &'static str,
    /// The address to suggest for the listener.
    pub(super) address: &'static str,
    /// The `on_delete` to suggest.
    pub(super) policy: &'static str,
}

/// Machines delete what they have handled, so the suggestion is the trash, which keeps the mail for a while. What
/// people read must stay for their other devices.
pub(super) const DEVICES: [DeviceKind; 6] = [
    device(
        "ticket",
        "a ticket system, or another program on this machine",
        "127.0.0.1:1110",
        "trash",
    ),
    device("print", "a print-by-mail server", "0.0.0.0:110", "trash"),
    device("pbx", "a PBX (voicemail)", "0.0.0.0:110", "trash"),
    device("fax", "an internet fax", "0.0.0.0:110", "trash"),
    device(
        "old",
        "an old mail program, whose user reads the same mail elsewhere too",
        "0.0.0.0:110",
        "hide",
    ),
    device(
        "other",
        "something else, which may delete for good",
        "0.0.0.0:110",
        "expunge",
    ),
];

const fn device(word: &'static str, what: &'static str, address: &'static str, policy: &'static str) -> DeviceKind {
    DeviceKind {
        word,
        what,
        address,
        policy,
    }
}

impl DeviceKind {
    pub(super) fn read(answer: &str) -> Result<Self, String> {
        let numbered = answer
            .parse()
            .ok()
            .and_then(|number: usize| DEVICES.get(number.checked_sub(1)?));
        let known = numbered.or_else(|| DEVICES.iter().find(|device| device.word.eq_ignore_ascii_case(answer)));
        known.copied().ok_or_else(|| {
            let words = DEVICES.map(|device| device.word).join(", ");
            format!(
                "{answer:?} is not in the list: write a number from 1 to {}, or {words}",
                DEVICES.len()
            )
        })
    }

    /// The numbered list of devices, for the question.
    pub(super) fn list() -> String {
        let lines = (1..)
            .zip(DEVICES)
            .map(|(number, device)| format!("\n  {number} {:<7} {}", device.word, device.what));
        lines.collect()
    }
}

/// Where devices connect, and with which TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListenerChoice {
    pub(super) address: SocketAddr,
    pub(super) tls: ListenerTls,
}

impl ListenerChoice {
    /// Parses a port, or an address with a port, and perhaps a word for TLS. A port alone gets the address of
    /// `suggested`.
    pub(super) fn read(answer: &str, suggested: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{answer:?} is not a port: write 110, 127.0.0.1:1110, or with TLS 995, 1110 starttls or 1995 tls")
        };
        let (place, word) = answer.split_once(char::is_whitespace).unwrap_or((answer, ""));
        let address = match place.parse::<u16>() {
            Ok(port) => {
                let mut address: SocketAddr = suggested.parse().map_err(|_| wrong())?;
                address.set_port(port);
                address
            }
            Err(_) => place.parse().map_err(|_| wrong())?,
        };
        let tls = match word.trim().to_ascii_lowercase().as_str() {
            "" if address.port() == 995 => ListenerTls::Implicit,
            "" | "off" | "plain" => ListenerTls::Off,
            "tls" | "ssl" | "implicit" => ListenerTls::Implicit,
            "starttls" | "stls" => ListenerTls::StartTls,
            _ => return Err(wrong()),
        };
        if address.port() == 0 {
            return Err(wrong());
        }
        Ok(Self { address, tls })
    }
}

/// Whether `text` may be a host name.
fn is_name(text: &str) -> bool {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !text.is_empty() && text.chars().all(is_of_name)
}

/// Parses what a delete does into a value of `on_delete`.
pub(super) fn policy(answer: &str) -> Result<String, String> {
    match answer {
        "trash" | "expunge" | "hide" => Ok(answer.to_owned()),
        _ => match answer.strip_prefix("move:").map(str::trim) {
            Some(folder) if folder.eq_ignore_ascii_case("INBOX") => Err(format!(
                "devices see {folder}, so what is moved there would come back: name another folder"
            )),
            Some(folder) if !folder.is_empty() && !folder.chars().any(char::is_control) => Ok(format!("move:{folder}")),
            _ => Err(format!(
                "{answer:?} is not one of these: write trash, hide or expunge, or for example move:Archive"
            )),
        },
    }
}

/// Accepts the id of a Microsoft tenant, or one of its domains.
pub(super) fn tenant(answer: &str) -> Result<String, String> {
    if is_name(answer) {
        Ok(answer.to_owned())
    } else {
        Err(format!(
            "{answer:?} is not a tenant: write its id, or one of its domains, such as example.onmicrosoft.com"
        ))
    }
}

/// Accepts one word, which goes into the configuration as it is.
pub(super) fn word(answer: &str) -> Result<String, String> {
    if answer.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Err(format!("{answer:?} holds a space"))
    } else {
        Ok(answer.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Users {
        Users::One("office@example.org".into())
    }

    #[test]
    fn whose_mail() {
        for (answer, users) in [
            ("office@example.org", one()),
            ("eva", Users::One("eva".into())),
            ("*@example.org", Users::Every("*@example.org".into())),
            ("*", Users::Every("*".into())),
        ] {
            assert_eq!(Users::read(answer), Ok(users));
        }
        for wrong in ["@", "a@", "@b", "a@b@c", "a*@b", "a b@c", "a@*", "*a"] {
            assert!(Users::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_provider_of_an_address_is_suggested() {
        for (address, provider) in [
            ("anna@gmail.com", "gmail"),
            ("anna@GoogleMail.com", "gmail"),
            ("anna@hotmail.com", "outlook"),
            ("*@web.de", "webde"),
            ("anna@example.org", "imap.example.org"),
        ] {
            let suggested = MailProvider::suggested(&Users::read(address).unwrap());
            assert_eq!(suggested.as_deref(), Some(provider));
        }
        assert_eq!(MailProvider::suggested(&Users::read("anna").unwrap()), None);
    }

    #[test]
    fn providers_and_hosts() {
        let known = |answer: &str| match MailProvider::read(answer, &one()) {
            Ok(MailProvider::Known(preset)) => preset.name.clone(),
            other => panic!("{answer}: {other:?}"),
        };
        assert_eq!(known("gmail"), "gmail");
        assert_eq!(known("Google"), "gmail");
        assert_eq!(known("imap.gmail.com"), "gmail");
        assert_eq!(known("Office365"), "microsoft365");
        let other = |answer: &str| match MailProvider::read(answer, &one()) {
            Ok(MailProvider::Other { host, port, tls }) => format!("{host} {port} {tls}"),
            other => panic!("{answer}: {other:?}"),
        };
        assert_eq!(other("imap.example.org"), "imap.example.org 993 implicit");
        assert_eq!(other("imap.example.org:143"), "imap.example.org 143 starttls");
        assert_eq!(other("localhost"), "localhost 993 implicit");
        assert_eq!(other("[::1]:1143"), "::1 1143 implicit");
        assert_eq!(other("fd00::7"), "fd00::7 993 implicit");
        for wrong in [
            "imap example.org",
            "imap.example.org:x",
            "imap.example.org:0",
            ":993",
            "[a:b]:993",
            "imaps://imap.example.org",
        ] {
            assert!(MailProvider::read(wrong, &one()).is_err(), "{wrong}");
        }
        let told = MailProvider::read("gmial", &one()).unwrap_err();
        assert!(told.contains("did you mean `gmail`?"), "{told}");
        let every = Users::Every("*@example.org".into());
        let told = MailProvider::read("microsoft365", &every).unwrap_err();
        assert!(told.contains("takes no passwords"), "{told}");
        assert!(MailProvider::read("gmail", &every).is_ok());
    }

    #[test]
    fn devices_by_number_or_word() {
        assert_eq!(DeviceKind::read("1"), Ok(DEVICES[0]));
        assert_eq!(DeviceKind::read("PBX"), Ok(DEVICES[2]));
        for wrong in ["0", "7", "scanner", "-1"] {
            assert!(DeviceKind::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn listeners() {
        let listener = |answer| {
            ListenerChoice::read(answer, "127.0.0.1:1110")
                .map(|listener| format!("{} {}", listener.address, listener.tls))
        };
        for (answer, expected) in [
            ("110", "127.0.0.1:110 off"),
            ("995", "127.0.0.1:995 implicit"),
            ("995 off", "127.0.0.1:995 off"),
            ("0.0.0.0:1995  TLS", "0.0.0.0:1995 implicit"),
            ("[::]:110 starttls", "[::]:110 starttls"),
        ] {
            assert_eq!(listener(answer).as_deref(), Ok(expected));
        }
        for wrong in ["0", "70000", "pop3", "110 ssh", "127.0.0.1", "example.org:110"] {
            assert!(listener(wrong).is_err(), "{wrong}");
        }
        for device in DEVICES {
            assert!(ListenerChoice::read(device.address, device.address).is_ok());
            assert!(policy(device.policy).is_ok());
        }
    }

    #[test]
    fn policies() {
        assert_eq!(policy("move: Done/Old ").as_deref(), Ok("move:Done/Old"));
        for wrong in ["move:", "delete", "Trash", "move:INBOX", "move: inbox"] {
            assert!(policy(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tenants() {
        for right in ["organizations", "example.onmicrosoft.com"] {
            assert_eq!(tenant(right).as_deref(), Ok(right));
        }
        for wrong in ["", "example org", "example.org/", "bücher.example"] {
            assert!(tenant(wrong).is_err(), "{wrong}");
        }
    }
}
