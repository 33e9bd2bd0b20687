//! `[state] url`: the servers of state that several gateways share.

use std::fmt;

use super::key::{Kind, Raw, Value, Wrong};
use crate::types::host_and_port;

/// The standard port of Redis and Valkey.
const PORT: u16 = 6379;
/// The standard port of Sentinel.
const SENTINEL_PORT: u16 = 26_379;

/// Where the servers of shared state are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateUrl {
    /// The servers, and how they belong together.
    pub servers: StateServers,
    /// Whether connections are secured by TLS.
    pub is_tls: bool,
    /// The ACL user; `None`: the default user.
    pub user: Option<String>,
    /// The number of the database; 0 in a cluster.
    pub database: u32,
}

/// Servers, and how they belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateServers {
    /// One server, which holds all records.
    One(StateServer),
    /// Sentinels, and the name of a service whose primary they know.
    Sentinels(Vec<StateServer>, String),
    /// Some nodes of a cluster, which know the others.
    Cluster(Vec<StateServer>),
}

impl StateServers {
    /// All servers that the URL names.
    pub fn all(&self) -> &[StateServer] {
        match self {
            Self::One(server) => std::slice::from_ref(server),
            Self::Sentinels(servers, _) | Self::Cluster(servers) => servers,
        }
    }
}

/// The address of a server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateServer {
    /// Host name or address; an IPv6 address has no brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for StateServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for StateUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |servers: &[StateServer]| servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let s = if self.is_tls { "s" } else { "" };
        let (form, servers, service) = match &self.servers {
            StateServers::One(server) => ("", server.to_string(), None),
            StateServers::Sentinels(sentinels, service) => ("+sentinel", list(sentinels), Some(service)),
            StateServers::Cluster(nodes) => ("-cluster", list(nodes), None),
        };
        write!(f, "redis{s}{form}://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&servers)?;
        if let Some(service) = service {
            write!(f, "/{service}")?;
        }
        if self.database > 0 {
            write!(f, "/{}", self.database)?;
        }
        Ok(())
    }
}

impl Value for StateUrl {
    // The URL may have a password in it by mistake.
    const KIND: Kind = Kind::Secret;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        Self::parse(super::value::line(raw)?)
    }
}

/// The help for a wrong URL.
const FORMS: &str = "write it like \"rediss://popgate@valkey:6379\", \"redis+sentinel://one,two,three/service\" or \
                     \"redis-cluster://one,two,three\"; redis:// is without TLS, rediss:// with TLS";

impl StateUrl {
    fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = |what: &str| Wrong::new(what).help(FORMS);
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("is not a URL"))?;
        let is_tls = scheme.starts_with("rediss");
        let form = scheme
            .strip_prefix("rediss")
            .or_else(|| scheme.strip_prefix("redis"))
            .ok_or_else(|| wrong("has an unknown scheme"))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err(Wrong::new("holds a password").help("give the password by `password_file`"));
        }
        let default = if form == "+sentinel" { SENTINEL_PORT } else { PORT };
        let hosts = hosts.split(',').map(|host| server(host, default));
        let servers: Option<Vec<_>> = hosts.collect();
        let mut servers = servers.ok_or_else(|| wrong("names no server"))?;
        let mut path = path.split('/');
        let first = path.next().filter(|part| !part.is_empty());
        let number = |text: Option<&str>| match text {
            None => Ok(0),
            Some(text) => text
                .parse()
                .map_err(|_| Wrong::new(format!("{text:?} is not the number of a database"))),
        };
        let (servers, database) = match form {
            "" if servers.len() == 1 => (StateServers::One(servers.remove(0)), number(first)?),
            "" => {
                return Err(Wrong::new("names several servers").help(
                    "say how they belong together: \"redis+sentinel://one,two,three/service\" or \
                     \"redis-cluster://one,two,three\"",
                ));
            }
            "+sentinel" => {
                let service = first.ok_or_else(|| {
                    Wrong::new("names no service").help(
                        "the Sentinels know the service by a name, as in `sentinel monitor NAME …`: write the name after the servers, \
                         like \"redis+sentinel://one,two,three/NAME\"",
                    )
                })?;
                let database = number(path.next().filter(|part| !part.is_empty()))?;
                (StateServers::Sentinels(servers, service.to_owned()), database)
            }
            "-cluster" => match number(first)? {
                0 => (StateServers::Cluster(servers), 0),
                _ => return Err(Wrong::new("names a database").help("a cluster has only one: leave the number out")),
            },
            _ => return Err(wrong("has an unknown scheme")),
        };
        if path.next().is_some() {
            return Err(wrong("has too much after the servers"));
        }
        Ok(Self {
            servers,
            is_tls,
            user: user.filter(|user| !user.is_empty()).map(str::to_owned),
            database,
        })
    }
}

impl StateServer {
    /// Parses an address such as `host:6379` or `[::1]:6379`.
    pub fn parse(text: &str) -> Option<Self> {
        server(text, PORT)
    }
}

fn server(text: &str, default: u16) -> Option<StateServer> {
    let (host, port) = host_and_port(text).ok()?;
    let is_host = |c: char| !c.is_whitespace() && !matches!(c, '?' | '#' | '@' | '/');
    (!host.is_empty() && host.chars().all(is_host)).then(|| StateServer {
        host: host.to_owned(),
        port: port.unwrap_or(default),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<StateUrl, String> {
        StateUrl::parse(text).map_err(|wrong| format!("{wrong:?}"))
    }

    #[test]
    fn each_form_is_read_and_shown() {
        for (text, shown) in [
            ("redis://valkey", "redis://valkey:6379"),
            ("rediss://popgate@valkey:6380/2", "rediss://popgate@valkey:6380/2"),
            ("redis://[::1]/0", "redis://[::1]:6379"),
            (
                "redis+sentinel://a,b:5,[::2]:7/popgate",
                "redis+sentinel://a:26379,b:5,[::2]:7/popgate",
            ),
            ("rediss+sentinel://u@a/s/3", "rediss+sentinel://u@a:26379/s/3"),
            ("rediss-cluster://u@a,b:1", "rediss-cluster://u@a:6379,b:1"),
        ] {
            let url = parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(parse(shown).unwrap(), url, "{shown}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, what) in [
            ("valkey:6379", "is not a URL"),
            ("http://valkey", "has an unknown scheme"),
            ("redisss://valkey", "has an unknown scheme"),
            ("redis+x://valkey", "has an unknown scheme"),
            ("redis://eva:hunter2@valkey", "holds a password"),
            ("redis://", "names no server"),
            ("redis://a:x", "names no server"),
            ("redis://a:0", "names no server"),
            ("redis://a:1:2", "names no server"),
            ("redis://[::1]6380", "names no server"),
            ("redis://a,b", "names several servers"),
            ("redis+sentinel://a,b", "names no service"),
            ("redis-cluster://a,b/1", "names a database"),
            ("redis://a/one", "is not the number of a database"),
            ("redis://a/1/2", "has too much after the servers"),
        ] {
            let wrong = parse(text).unwrap_err();
            assert!(wrong.contains(what), "{text}: {wrong}");
            assert!(!wrong.contains("hunter2"), "{wrong}");
        }
    }
}
