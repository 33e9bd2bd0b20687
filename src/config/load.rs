//! Makes a verified [`Config`] from a file and the environment.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use config::{Config as Layers, ConfigError, File, FileFormat, Map, Value};

use super::{
    Config, Error,
    environment::{self, Variables},
    error::{Location, Mistake},
    key::Table,
    keys::Document,
    source::{Sources, line_number},
    verify::verify,
};
use crate::types::{host_and_port, read_file};

/// A configuration, with its risks and files.
#[derive(Debug)]
pub struct Loaded {
    /// The verified configuration.
    pub config: Config,
    /// The risks, one sentence each. `popgate check` prints them. The gateway does not: it would repeat what its
    /// administrator has accepted, at each start and each reload. It logs old TLS only.
    pub warnings: Vec<String>,
    /// Every file that the configuration names, whether it is read or not. The last entry is the configuration file
    /// itself, or the name of its source if there is no file, such as `environment`.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// Reads `file`; the process's `POPGATE__…` variables override it. Paths in the file are relative to its directory.
    pub fn load(file: &Path) -> Result<Loaded, Error> {
        load(file, environment::ours(std::env::vars_os()))
    }

    /// A configuration from the environment alone; `None` if the environment has no `POPGATE__…` variable.
    pub fn from_environment() -> Option<Result<Loaded, Error>> {
        let variables = environment::ours(std::env::vars_os());
        (!variables.is_empty()).then(|| layered(Path::new("environment"), String::new(), Path::new(""), variables))
    }

    /// A configuration from the text of a `gateway.toml`, without the environment. Paths are relative to `directory`.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use popgate::config::Config;
    ///
    /// let text = r#"
    /// [upstream.home]
    /// host = "imap.example.org"
    /// logins = ["*@example.org"]
    /// "#;
    /// let config = Config::parse(text, Path::new("/etc/popgate")).unwrap();
    /// assert_eq!(config.upstreams[0].port, 993);
    ///
    /// // An error says where the mistake is, and how to mend it.
    /// let error = Config::parse("[limits]\nsesions = 5\n", Path::new("")).unwrap_err().to_string();
    /// assert!(error.starts_with("gateway.toml:2: `limits.sesions`") && error.contains("sessions"), "{error}");
    /// ```
    pub fn parse(text: &str, directory: &Path) -> Result<Config, Error> {
        layered(Path::new("gateway.toml"), text.to_owned(), directory, Vec::new()).map(|loaded| loaded.config)
    }

    /// A configuration without a file that forwards every login to one upstream: `serve --upstream URL --listen ADDR`.
    /// URL is `imaps://host[:port]`, `imap+starttls://host[:port]` or `imap://host[:port]` (plain text). The process's
    /// `POPGATE__…` variables override it.
    pub fn forward(url: &str, listen: SocketAddr) -> Result<Loaded, Error> {
        let text = forwarding(url, listen)?;
        let variables = environment::ours(std::env::vars_os());
        layered(Path::new("--upstream"), text, Path::new(""), variables)
    }
}

pub(super) fn load(file: &Path, variables: Variables) -> Result<Loaded, Error> {
    let octets = read_file(file).map_err(|error| unreadable(file, &error))?;
    let text = String::from_utf8(octets).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = line_number(&error.as_bytes()[..valid]);
        Mistake {
            location: Location::File(file.into()),
            key: None,
            what: format!("line {line} is not UTF-8"),
            help: None,
        }
    })?;
    layered(file, text, file.parent().unwrap_or(Path::new("")), variables)
}

/// Runs the strict pass, lays the environment over the file with the `config` crate, and verifies the result.
///
/// The crate does not know the line of a value, and takes any key. So the strict pass comes first, and reads each value
/// as its key's declaration says.
pub(super) fn layered(file: &Path, text: String, directory: &Path, variables: Variables) -> Result<Loaded, Error> {
    let mut sources = Sources {
        file: PathBuf::from(file),
        text,
        ..Sources::default()
    };
    let is_whole = sources.read_strictly();
    let overrides = sources.read_environment(variables);
    if !is_whole {
        return Err(Error::new(sources.mistakes, Vec::new()));
    }
    let values = match layers(&sources.text, overrides) {
        Ok(values) => values,
        // For example, the strict pass has reported a number that is too large.
        Err(_) if !sources.mistakes.is_empty() => return Err(Error::new(sources.mistakes, Vec::new())),
        Err(error) => {
            return Err(Error::from(Mistake {
                location: Location::File(file.into()),
                key: None,
                what: error.to_string(),
                help: None,
            }));
        }
    };
    verify(Document::take(values), sources, directory)
}

fn layers(text: &str, overrides: Vec<(String, Value)>) -> Result<Map<String, Value>, ConfigError> {
    let mut layers = Layers::builder().add_source(File::from_str(text, FileFormat::Toml));
    for (path, value) in overrides {
        layers = layers.set_override(path, value)?;
    }
    layers.build()?.cache.into_table()
}

fn unreadable(file: &Path, error: &io::Error) -> Error {
    let help = match error.kind() {
        io::ErrorKind::NotFound => Some(
            "copy gateway.toml.example to gateway.toml and edit it, or begin without a file:\n  \
             popgate demo\n  popgate serve --upstream imaps://imap.example.org"
                .to_owned(),
        ),
        io::ErrorKind::PermissionDenied => Some("give popgate's user the right to read it".to_owned()),
        _ => None,
    };
    Error::from(Mistake {
        location: Location::File(file.into()),
        key: None,
        what: format!("the configuration can't be read: {error}"),
        help,
    })
}

/// The text of a `gateway.toml` that forwards every login to `url`.
fn forwarding(url: &str, listen: SocketAddr) -> Result<String, Mistake> {
    let problem = |what: &str| Mistake {
        location: Location::Argument("--upstream"),
        key: None,
        what: what.into(),
        help: Some(
            "expected imaps://host[:port], imap+starttls://host[:port] or imap://host[:port] (plain text)".into(),
        ),
    };
    let (scheme, rest) = url.split_once("://").ok_or_else(|| problem("not a URL"))?;
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "imaps" => "implicit",
        "imap+starttls" => "starttls",
        "imap" => "off",
        _ => return Err(problem("unknown scheme")),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('@') {
        return Err(problem("the URL must have no user and password: devices give them"));
    }
    let (host, port) = host_and_port(authority).map_err(|what| problem(&format!("the URL {what}")))?;
    if host.is_empty()
        || !host
            .bytes()
            .all(|o| o.is_ascii_alphanumeric() || matches!(o, b'.' | b'-' | b'_' | b':'))
    {
        return Err(problem("the host is not a valid host name or address"));
    }
    let port = port.map(|port| format!("port = {port}\n")).unwrap_or_default();
    Ok(format!(
        "[[listener]]\naddress = \"{listen}\"\n\n[upstream.all]\nhost = \"{host}\"\n{port}tls = \"{tls}\"\nlogins = [\"*\"]\n"
    ))
}
