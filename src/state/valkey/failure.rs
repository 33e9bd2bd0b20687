//! Why a request to a shared store failed.

use std::{fmt, sync::Arc};

use redis::{ErrorKind, RedisError, ServerErrorKind, Value};

use crate::config::StateServer;

/// A failure of a request, and what can be done about it.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// A sentence: which server, and what is wrong with it.
    what: Arc<str>,
    pub(super) remedy: Remedy,
}

/// What may help after a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Remedy {
    /// A new connection, perhaps to another server.
    Reconnect,
    /// Waiting, because the servers are reorganising themselves.
    Wait,
    /// Asking another node of the cluster: from now on (`is_for_good`), or only for this request.
    Redirect { to: StateServer, is_for_good: bool },
    /// Sending the whole script, because the server does not know its digest.
    Load,
    /// Nothing but a change by the operator.
    Operator,
}

impl Failure {
    pub(super) fn unreachable(server: &dyn fmt::Display, why: &dyn fmt::Display) -> Self {
        Self {
            what: format!("{server} cannot be reached: {why}").into(),
            remedy: Remedy::Reconnect,
        }
    }

    /// A failure that only the operator can mend.
    pub(super) fn wrong(what: impl Into<Arc<str>>) -> Self {
        Self {
            what: what.into(),
            remedy: Remedy::Operator,
        }
    }

    /// The answer does not have the expected form. It may have secrets and be of any length, so the failure tells only
    /// its kind and its length.
    pub(super) fn strange(answer: &Value) -> Self {
        let answer = match answer {
            Value::Nil => "nothing".to_owned(),
            Value::Int(_) => "a number".to_owned(),
            Value::Okay => "OK".to_owned(),
            Value::BulkString(octets) => format!("a string of {} octets", octets.len()),
            Value::SimpleString(text) => format!("a line of {} octets", text.len()),
            Value::Array(parts) => format!("an array of {} parts", parts.len()),
            _ => "of a kind that popgate does not know".to_owned(),
        };
        Self::wrong(format!(
            "the answer was not expected ({answer}): is this a Valkey or Redis server of version 7 or later?"
        ))
    }

    /// The error that `server` has answered.
    pub(super) fn of(server: &StateServer, error: &RedisError) -> Self {
        let remedy = match error.kind() {
            ErrorKind::Io => Remedy::Reconnect,
            ErrorKind::Server(kind) => match kind {
                ServerErrorKind::NoScript => Remedy::Load,
                ServerErrorKind::Moved | ServerErrorKind::Ask => {
                    let to = error
                        .redirect_node()
                        .and_then(|(address, _)| redirected(address, server));
                    match to {
                        Some(to) => Remedy::Redirect {
                            to,
                            is_for_good: kind == ServerErrorKind::Moved,
                        },
                        None => Remedy::Reconnect,
                    }
                }
                ServerErrorKind::TryAgain | ServerErrorKind::ClusterDown => Remedy::Wait,
                ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading => {
                    Remedy::Reconnect
                }
                _ => Remedy::Operator,
            },
            // A primary that has lost its replicas may no longer be the primary.
            _ if matches!(error.code(), Some("NOREPLICAS" | "UNBLOCKED" | "MISCONF")) => Remedy::Reconnect,
            _ => Remedy::Operator,
        };
        let advice = match error.code() {
            Some("WRONGPASS" | "NOAUTH") => " (check the user in `url` of [state], and `password_file`)",
            Some("NOPERM") => {
                " (let the ACL user of `url` in [state] use all keys under `prefix`, and the commands of @all)"
            }
            Some("OOM") => " (the server is full: give it more maxmemory)",
            Some("NOREPLICAS") => " (too few of its replicas are there for min-replicas-to-write)",
            Some("MISCONF") => " (the server cannot write to its disk)",
            _ if error.kind() == ErrorKind::AuthenticationFailed => {
                " (check the user in `url` of [state], and `password_file`)"
            }
            _ => "",
        };
        Self {
            what: format!("{server}: {error}{advice}").into(),
            remedy,
        }
    }

    /// A failure after which `remedy` may help.
    pub(super) fn passing(what: impl Into<Arc<str>>, remedy: Remedy) -> Self {
        Self {
            what: what.into(),
            remedy,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// The node that a redirection names. If it names no host, it is the host of `server`.
fn redirected(address: &str, server: &StateServer) -> Option<StateServer> {
    match address.strip_prefix(':') {
        Some(port) => Some(StateServer {
            host: server.host.clone(),
            port: port.parse().ok()?,
        }),
        None => {
            // An IPv6 address has no brackets here.
            let (host, port) = address.rsplit_once(':')?;
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            Some(StateServer {
                host,
                port: port.parse().ok()?,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_not_expected_is_not_repeated() {
        let secret = || Value::BulkString(b"hunter2".to_vec());
        let strange = |answer| Failure::strange(&answer).to_string();
        assert!(strange(secret()).starts_with("the answer was not expected (a string of 7 octets): "));
        for answer in [
            secret(),
            Value::SimpleString("hunter2".into()),
            Value::Array(vec![secret(), Value::Nil]),
            Value::Map(vec![(secret(), secret())]),
        ] {
            let told = strange(answer);
            assert!(!told.contains("hunter2") && !told.contains("104"), "{told}");
        }
    }

    #[test]
    fn redirections_name_a_node() {
        let here = StateServer {
            host: "a".into(),
            port: 1,
        };
        let to = |address| redirected(address, &here).map(|server| server.to_string());
        assert_eq!(to("10.0.0.1:7001").as_deref(), Some("10.0.0.1:7001"));
        assert_eq!(to("fe80::1:7001").as_deref(), Some("[fe80::1]:7001"));
        assert_eq!(to("[fe80::1]:7001").as_deref(), Some("[fe80::1]:7001"));
        assert_eq!(to(":7001").as_deref(), Some("a:7001"));
        assert_eq!(to("nonsense"), None);
    }
}
