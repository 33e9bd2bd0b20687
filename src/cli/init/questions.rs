//! What `popgate init` asks, and what is taken for an answer.

use std::{
    fmt,
    io::{self, Write},
    net::{Ipv4Addr, TcpListener},
};

use super::super::{Failure, password};
use crate::config::{Preset, Secret};

/// What somebody has answered.
#[derive(Debug)]
pub(super) struct Answers {
    /// The mailbox's address, and its user at the provider.
    pub(super) address: String,
    /// Where it is.
    pub(super) provider: Provider,
    /// What the device gives to USER.
    pub(super) login: String,
    /// The mailbox's password, if the device does not bring it.
    pub(super) upstream_password: Option<Secret>,
    /// The application at a provider that takes no passwords.
    pub(super) client_id: Option<String>,
    /// Where to listen.
    pub(super) port: u16,
    /// `on_delete`
    pub(super) on_delete: String,
}

impl Answers {
    /// The login, if it is one of the gateway's own.
    pub(super) fn own_login(&self) -> Option<&str> {
        let is_own = self.upstream_password.is_some() || self.client_id.is_some();
        is_own.then_some(self.login.as_str())
    }
}

/// Where a mailbox is.
#[derive(Debug, Clone)]
pub(super) enum Provider {
    /// One that popgate knows.
    Known(&'static Preset),
    /// An IMAP server with TLS from the first octet.
    Host { name: String, port: Option<u16> },
}

impl Provider {
    /// Of a preset's name, or of `HOST` or `HOST:PORT`.
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(preset) = Preset::called(text) {
            return Ok(Self::Known(preset));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => match port.parse() {
                Ok(port) if port > 0 => (name, Some(port)),
                _ => return Err(format!("{port:?} is not a port")),
            },
            None => (text, None),
        };
        let is_host = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-');
        if name.is_empty() || !name.bytes().all(is_host) {
            return Err(format!("{text:?} is neither a provider nor a host name"));
        }
        if !name.contains('.') && name != "localhost" {
            let names: Vec<_> = Preset::all().map(|preset| preset.name.as_str()).collect();
            return Err(format!(
                "{text:?} is not a provider that popgate knows: {}",
                names.join(", ")
            ));
        }
        Ok(Self::Host {
            name: name.to_owned(),
            port,
        })
    }

    /// The likeliest of a mailbox at `domain`.
    fn of_domain(domain: &str) -> Self {
        match Preset::called(domain) {
            Some(preset) => Self::Known(preset),
            None => Self::Host {
                name: format!("imap.{domain}"),
                port: None,
            },
        }
    }

    /// Whether it takes tokens and no passwords.
    fn takes_tokens_only(&self) -> bool {
        matches!(self, Self::Known(preset) if preset.passwords.is_none() && preset.takes_tokens())
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(preset) => f.write_str(&preset.name),
            Self::Host { name, port: None } => f.write_str(name),
            Self::Host { name, port: Some(port) } => write!(f, "{name}:{port}"),
        }
    }
}

/// Asks at the terminal, or takes lines of standard input for answers.
pub(super) struct Questions;

impl Questions {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn ask(self) -> Result<Answers, Failure> {
        let address = answer("1. Whose mail? The mailbox's address", None, address)?;
        let domain = address.rsplit('@').next().unwrap_or_default();
        let likely = Provider::of_domain(domain).to_string();
        let provider = answer(
            "2. Which provider? Its name (gmail, microsoft365, …) or IMAP server",
            Some(&likely),
            Provider::parse,
        )?;
        if let Provider::Known(Preset {
            passwords: Some(passwords),
            ..
        }) = &provider
        {
            println!("   ({passwords})");
        }
        let default = if provider.takes_tokens_only() {
            "device"
        } else {
            &address
        };
        let login = answer(
            "3. Which login shall the device use? The address itself: with the mailbox's own password; any other name: with a \
             password that popgate makes",
            Some(default),
            login,
        )?;
        let is_forwarded = login == address && !provider.takes_tokens_only();
        let client_id = if provider.takes_tokens_only() {
            let question = "   The provider takes no passwords. The client id of your application there (see README)";
            Some(answer(question, None, |text| Ok(text.to_owned()))?)
        } else {
            None
        };
        let upstream_password = if is_forwarded || client_id.is_some() {
            None
        } else {
            Some(password::ask(&format!("   The password of {address} at the provider"))?)
        };
        let free = usual_port().to_string();
        let port = answer("4. At which port shall the device find popgate?", Some(&free), port)?;
        let on_delete = answer(
            "5. What becomes of mail that the device deletes? trash, expunge (for good), hide (from this device only), \
             move:FOLDER",
            Some("trash"),
            on_delete,
        )?;
        Ok(Answers {
            address,
            provider,
            login,
            upstream_password,
            client_id,
            port,
            on_delete,
        })
    }
}

/// Asks until `read` takes what is answered; an empty line is the default.
fn answer<T>(question: &str, default: Option<&str>, read: impl Fn(&str) -> Result<T, String>) -> Result<T, Failure> {
    loop {
        match default {
            Some(default) => print!("{question} [{default}]: "),
            None => print!("{question}: "),
        }
        io::stdout().flush()?;
        let mut line = String::new();
        if io::stdin().read_line(&mut line)? == 0 {
            return Err(Failure::wrong(
                "the answers ended before the questions did; nothing is written",
            ));
        }
        let text = match (line.trim(), default) {
            ("", Some(default)) => default,
            ("", None) => continue,
            (text, _) => text,
        };
        match read(text) {
            Ok(value) => return Ok(value),
            Err(why) => println!("   {why}"),
        }
    }
}

fn address(text: &str) -> Result<String, String> {
    match text.split_once('@') {
        Some((user, domain)) if !user.is_empty() && !domain.is_empty() && is_plain(text) => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is not an address such as office@example.org")),
    }
}

fn login(text: &str) -> Result<String, String> {
    if is_plain(text) && !text.contains('*') {
        Ok(text.to_owned())
    } else {
        Err("a login here has no spaces and no `*`".to_owned())
    }
}

fn is_plain(text: &str) -> bool {
    !text
        .chars()
        .any(|character| character.is_control() || character.is_whitespace())
}

fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| format!("{text:?} is not a port from 1 to 65535"))?;
    match bind(port) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(format!("another program listens at port {port}: take another one"))
        }
        // The user who serves may be another one.
        _ => Ok(port),
    }
}

/// The port of POP3, or one that needs no privilege.
fn usual_port() -> u16 {
    if bind(110).is_ok() { 110 } else { 1110 }
}

fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
}

fn on_delete(text: &str) -> Result<String, String> {
    let is_folder = text.strip_prefix("move:").is_some_and(|folder| !folder.is_empty());
    if is_folder || ["trash", "expunge", "hide"].contains(&text) {
        Ok(text.to_owned())
    } else {
        Err("answer trash, expunge, hide or move:FOLDER".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_by_name_and_by_host() {
        let parsed = |text: &str| Provider::parse(text).map(|provider| provider.to_string());
        for (text, expected) in [
            ("gmail", "gmail"),
            ("Office365", "microsoft365"),
            ("imap.example.org", "imap.example.org"),
            ("localhost:1993", "localhost:1993"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(expected));
        }
        for text in [
            "gmial",
            "imap.example.org:x",
            "imap example",
            "imaps://imap.example.org",
            ":993",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
        assert_eq!(Provider::of_domain("gmail.com").to_string(), "gmail");
        assert_eq!(Provider::of_domain("example.org").to_string(), "imap.example.org");
        assert!(Provider::of_domain("outlook.com").takes_tokens_only());
    }

    #[test]
    fn answers_that_are_none() {
        for text in ["office", "@example.org", "office@", "of fice@example.org"] {
            assert!(address(text).is_err(), "{text}");
        }
        assert!(address("office@example.org").is_ok());
        assert!(login("*@example.org").is_err() && login("two words").is_err() && login("fax").is_ok());
        assert!(on_delete("move:").is_err() && on_delete("burn").is_err() && on_delete("move:Done").is_ok());
        assert!(port("0").is_err() && port("70000").is_err());
    }
}
