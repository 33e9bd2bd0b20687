//! Why a host cannot be reached.

use std::{io, net::SocketAddr};

/// Why there is no connection. A later try may succeed.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// DNS does not know the name, or does not answer.
    #[error("the name {host} cannot be resolved: {source}")]
    Name {
        /// The name that was looked up.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// No address answered. Holds each address that was tried, and what went wrong.
    #[error("{}", list(.0))]
    Addresses(Vec<(SocketAddr, io::Error)>),
    /// The proxy cannot be reached, or could not connect. The text names the proxy and the reason.
    #[error("{0}")]
    Proxy(String),
}

/// Why there is no connection. The variants differ in what the operator can do about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoWay {
    /// DNS says that there is no such name, or that it has no address.
    NoSuchName,
    /// No resolver answers.
    NoResolver,
    /// The host is there, and nobody listens at the port.
    ClosedPort,
    /// This machine or a router has no route to the address.
    NoRoute,
    /// No answer comes.
    Silence,
    /// This machine, or a filter on it, does not allow the connection.
    Forbidden,
    /// Anything else, and whatever a proxy says.
    Other,
}

impl Unreachable {
    /// What is wrong. If several addresses were tried, the failure that came closest to a connection counts.
    pub fn kind(&self) -> NoWay {
        match self {
            Self::Name { source, .. } => unresolved(source),
            Self::Addresses(failures) => {
                let kinds: Vec<NoWay> = failures.iter().map(|(_, error)| NoWay::of(error)).collect();
                let order = [NoWay::ClosedPort, NoWay::Silence, NoWay::Forbidden, NoWay::NoRoute];
                order
                    .into_iter()
                    .find(|kind| kinds.contains(kind))
                    .unwrap_or(NoWay::Other)
            }
            Self::Proxy(_) => NoWay::Other,
        }
    }
}

impl NoWay {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Self::ClosedPort,
            io::ErrorKind::TimedOut => Self::Silence,
            io::ErrorKind::PermissionDenied => Self::Forbidden,
            io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable => Self::NoRoute,
            // Linux without IPv6 says this.
            _ if error.to_string().contains("Address family not supported") => Self::NoRoute,
            _ => Self::Other,
        }
    }
}

/// What is wrong with a name. The standard library gives the codes of getaddrinfo only as text: these are the texts of
/// glibc, musl, macOS and Windows.
fn unresolved(error: &io::Error) -> NoWay {
    let text = error.to_string().to_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    let is_silent = error.kind() == io::ErrorKind::TimedOut;
    if is_silent
        || says(&[
            "temporary failure",
            "try again",
            "temporary error",
            "non-recoverable failure",
        ])
    {
        NoWay::NoResolver
    } else if says(&[
        "name or service not known",
        "no address",
        "does not resolve",
        "name has no usable address",
        "nodename nor servname",
        "no such host",
    ]) {
        NoWay::NoSuchName
    } else {
        NoWay::Other
    }
}

/// `a: reason; b: reason`
fn list(failures: &[(SocketAddr, io::Error)]) -> String {
    let words: Vec<_> = failures
        .iter()
        .map(|(address, error)| format!("{address}: {error}"))
        .collect();
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_resolvers_say() {
        for (text, expected) in [
            (
                "failed to lookup address information: Name or service not known",
                NoWay::NoSuchName,
            ),
            (
                "failed to lookup address information: No address associated with hostname",
                NoWay::NoSuchName,
            ),
            (
                "failed to lookup address information: Temporary failure in name resolution",
                NoWay::NoResolver,
            ),
            (
                "failed to lookup address information: Name does not resolve",
                NoWay::NoSuchName,
            ),
            ("failed to lookup address information: Try again", NoWay::NoResolver),
            ("No such host is known. (os error 11001)", NoWay::NoSuchName),
            ("it has no address", NoWay::NoSuchName),
            ("out of memory", NoWay::Other),
        ] {
            let name = Unreachable::Name {
                host: "imap.example.org".into(),
                source: io::Error::other(text),
            };
            assert_eq!(name.kind(), expected, "{text}");
        }
        assert_eq!(unresolved(&io::ErrorKind::TimedOut.into()), NoWay::NoResolver);
    }

    #[test]
    fn the_address_that_came_farthest_counts() {
        let failures = |kinds: &[io::ErrorKind]| {
            let address = SocketAddr::from(([192, 0, 2, 1], 993));
            Unreachable::Addresses(kinds.iter().map(|&kind| (address, kind.into())).collect())
        };
        for (kinds, expected) in [
            (&[io::ErrorKind::NetworkUnreachable][..], NoWay::NoRoute),
            (
                &[io::ErrorKind::NetworkUnreachable, io::ErrorKind::ConnectionRefused],
                NoWay::ClosedPort,
            ),
            (
                &[io::ErrorKind::HostUnreachable, io::ErrorKind::TimedOut],
                NoWay::Silence,
            ),
            (&[io::ErrorKind::PermissionDenied], NoWay::Forbidden),
            (&[io::ErrorKind::OutOfMemory], NoWay::Other),
        ] {
            assert_eq!(failures(kinds).kind(), expected, "{kinds:?}");
        }
    }
}
