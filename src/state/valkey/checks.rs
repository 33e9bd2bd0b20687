//! Checks before a gateway uses a shared store: whether the settings of the servers suit, and whether the other
//! gateways have the same key and the same upstreams.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_lc_rs::digest::{Context, SHA256};
use redis::Value;
use serde::{Deserialize, Serialize};

use super::{
    super::now,
    connect::{Care, Link},
    failure::Failure,
    keys::Keys,
};
use crate::{
    config::{Secret, SharedState, StateServer},
    types::hex,
};

/// The oldest version of Redis, major and minor, that is supported. Every Valkey reports a newer one.
const OLDEST: (u32, u32) = (7, 0);
/// How often a gateway announces itself.
pub(super) const PULSE: Duration = Duration::from_secs(60);
/// A gateway that has not announced itself for this many seconds is gone.
const GONE: u32 = 600;

/// What a gateway announces of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Replica {
    /// The version of popgate.
    version: String,
    /// A fingerprint of the key that tokens are sealed with; `None` if there is no key.
    key: Option<String>,
    /// The host of each upstream, by its name.
    #[serde(default)]
    upstreams: BTreeMap<String, String>,
    /// When it was announced, in seconds since 1970.
    seen: u32,
}

/// Checks the version, the role and the settings of all servers that have records.
pub(super) async fn servers(link: &Arc<Link>, options: &SharedState) -> Result<(), Failure> {
    for server in link.primaries().await? {
        let info = information(&link.ask_server(&server, redis::cmd("INFO")).await?)?;
        judge(&server, &info, options).map_err(Failure::wrong)?;
        if options.fsync {
            let mut command = redis::cmd("CONFIG");
            command.arg("GET").arg("append*");
            let settings = pairs(&link.ask_server(&server, command).await?)?;
            judge_fsync(&server, &settings).map_err(Failure::wrong)?;
        }
    }
    Ok(())
}

/// The fields in an answer to INFO, by name.
fn information(answer: &Value) -> Result<BTreeMap<String, String>, Failure> {
    let text = match answer {
        Value::BulkString(octets) => String::from_utf8_lossy(octets),
        Value::VerbatimString { text, .. } => text.as_str().into(),
        other => return Err(Failure::strange(other)),
    };
    let pair = |line: &str| {
        let (name, value) = line.trim_end().split_once(':')?;
        Some((name.to_owned(), value.to_owned()))
    };
    Ok(text.lines().filter_map(pair).collect())
}

/// An answer in which names and values alternate.
fn pairs(answer: &Value) -> Result<BTreeMap<String, String>, Failure> {
    redis::from_redis_value_ref(answer).map_err(|_| Failure::strange(answer))
}

/// Fails if a server cannot be used. The error says why.
fn judge(server: &StateServer, info: &BTreeMap<String, String>, options: &SharedState) -> Result<(), String> {
    let value = |name: &str| info.get(name).map_or("", String::as_str);
    let version = value("redis_version");
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST {
        return Err(format!(
            "{server} is of version {version:?}: popgate needs Valkey, or Redis {}.{} or later",
            OLDEST.0, OLDEST.1
        ));
    }
    if value("role") != "master" {
        return Err(format!(
            "{server} is a replica and takes no writes: name the primary, or the Sentinels (redis+sentinel://…)"
        ));
    }
    let policy = value("maxmemory_policy");
    if !policy.is_empty() && policy != "noeviction" {
        return Err(format!(
            "{server} would drop locks and marks if its memory were full (maxmemory-policy {policy}): set maxmemory-policy \
             noeviction there"
        ));
    }
    let replicas: usize = value("connected_slaves").parse().unwrap_or(0);
    if replicas < options.replicas {
        tracing::warn!(
            %server,
            connected = replicas,
            wanted = options.replicas,
            "the server has fewer replicas than must confirm each write (`replicas` in [state]): until it has them, what \
             must not be lost cannot be stored (hidden messages, moves by COPY, consents), and sessions that need it fail"
        );
    }
    Ok(())
}

fn judge_fsync(server: &StateServer, settings: &BTreeMap<String, String>) -> Result<(), String> {
    let is = |name: &str, value: &str| settings.get(name).is_some_and(|set| set == value);
    if is("appendonly", "yes") && is("appendfsync", "always") {
        Ok(())
    } else {
        Err(format!(
            "{server} does not write to its disk before it answers, but `fsync` in [state] wants that: set appendonly yes and \
             appendfsync always there, or leave `fsync` out"
        ))
    }
}

impl Replica {
    /// This gateway with these options, which seals with `key`, at this moment.
    pub(super) fn new(options: &SharedState, key: Option<&Secret>) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            key: key.map(fingerprint),
            upstreams: options.upstreams.clone(),
            seen: now(),
        }
    }
}

/// Fails if a gateway other than `name` has another key than `us`, or another host as an upstream.
pub(super) async fn others(link: &Arc<Link>, keys: &Keys, name: &str, us: &Replica) -> Result<(), Failure> {
    compared(link, keys, name, us).await?.map_err(Failure::wrong)
}

/// What differs between `us` and another gateway than `name`: see [`compare`]. Fails only if the servers cannot be
/// asked.
async fn compared(link: &Arc<Link>, keys: &Keys, name: &str, us: &Replica) -> Result<Result<(), String>, Failure> {
    let registry = keys.replicas();
    let mut command = redis::cmd("HGETALL");
    command.arg(&registry);
    let answer = link.ask(&registry, &command.into(), Care::Light).await?;
    Ok(compare(name, us, &pairs(&answer)?))
}

/// Announces the gateway `name`, and fails as [`others`] does. The others are checked before, so that a gateway that
/// differs from them does not replace the announcement of one that runs under its name. They are checked again
/// afterwards: otherwise gateways that start at the same moment would not see one another.
pub(super) async fn join(link: &Arc<Link>, keys: &Keys, name: &str, us: &Replica) -> Result<(), Failure> {
    others(link, keys, name, us).await?;
    announce(link, keys, name, us, Care::Light).await?;
    let compared = compared(link, keys, name, us).await?;
    if compared.is_err() {
        let registry = keys.replicas();
        let mut command = redis::cmd("HDEL");
        command.arg(&registry).arg(name);
        // If this fails, the announcement is out of date in some minutes.
        let _ = link.ask(&registry, &command.into(), Care::Light).await;
    }
    compared.map_err(Failure::wrong)
}

/// Announces the gateway `name` to the others.
pub(super) async fn announce(
    link: &Arc<Link>,
    keys: &Keys,
    name: &str,
    us: &Replica,
    care: Care,
) -> Result<(), Failure> {
    let registry = keys.replicas();
    let mut command = redis::cmd("HSET");
    command
        .arg(&registry)
        .arg(name)
        .arg(serde_json::to_string(us).unwrap_or_default());
    link.ask(&registry, &command.into(), care).await.map(drop)
}

/// Fails if another gateway that is not gone has another key, or another host as an upstream. An entry that cannot be
/// read comes from another version, and is skipped.
fn compare(name: &str, us: &Replica, others: &BTreeMap<String, String>) -> Result<(), String> {
    for (other, text) in others {
        let Ok(replica) = serde_json::from_str::<Replica>(text) else {
            continue;
        };
        let is_gone = replica.seen.saturating_add(GONE) < us.seen;
        if other == name || is_gone {
            continue;
        }
        if replica.key != us.key {
            return Err(format!(
                "the gateway {other:?} has another key, so each could not read the tokens of the other: give all of them the same \
                 `key_file` in [state]"
            ));
        }
        for (upstream, host) in &replica.upstreams {
            if let Some(ours) = us.upstreams.get(upstream).filter(|ours| *ours != host) {
                return Err(format!(
                    "the gateway {other:?} has {host} as upstream {upstream:?}, and this one has {ours}: what one knows of a mailbox \
                     would be wrong for the other. Give them different names, or stop that gateway first"
                ));
            }
        }
        if replica.version != us.version {
            tracing::info!(other, version = replica.version, "another gateway has another version");
        }
    }
    Ok(())
}

/// A text by which keys are compared. It does not reveal the key.
fn fingerprint(key: &Secret) -> String {
    let mut context = Context::new(&SHA256);
    context.update(b"popgate state key");
    context.update(key.expose());
    hex(&context.finish().as_ref()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> StateServer {
        StateServer {
            host: "valkey".into(),
            port: 6379,
        }
    }

    fn info(lines: &str) -> BTreeMap<String, String> {
        information(&Value::BulkString(lines.replace('\n', "\r\n").into_bytes())).unwrap()
    }

    #[test]
    fn servers_that_would_lose_something_are_refused_in_words() {
        let options = SharedState::of("redis://valkey");
        let judged = |lines: &str| judge(&server(), &info(lines), &options).err().unwrap_or_default();
        let good = "# Server\nredis_version:7.2.4\nrole:master\nmaxmemory_policy:noeviction\nconnected_slaves:0\n";
        assert_eq!(judged(good), "");
        assert_eq!(
            judged("redis_version:7.0.15\nrole:master\n"),
            "",
            "INFO without the policy"
        );
        for (lines, what) in [
            (
                "redis_version:6.2.7\nrole:master\n",
                "valkey:6379 is of version \"6.2.7\"",
            ),
            ("", "needs Valkey, or Redis 7.0 or later"),
            ("redis_version:8.0.0\nrole:slave\n", "is a replica and takes no writes"),
            (
                "redis_version:8.0.0\nrole:master\nmaxmemory_policy:allkeys-lru\n",
                "set maxmemory-policy noeviction there",
            ),
        ] {
            assert!(judged(lines).contains(what), "{}", judged(lines));
        }
        let settings = |fsync: &str| {
            BTreeMap::from([
                ("appendonly".into(), "yes".into()),
                ("appendfsync".into(), fsync.into()),
            ])
        };
        assert_eq!(judge_fsync(&server(), &settings("always")), Ok(()));
        assert!(judge_fsync(&server(), &settings("everysec")).is_err());
        assert!(judge_fsync(&server(), &BTreeMap::new()).is_err());
    }

    #[test]
    fn gateways_with_another_key_are_named_while_they_are_there() {
        let replica = |key: &str, seen| Replica {
            version: "1".into(),
            key: Some(fingerprint(&key.into())),
            upstreams: BTreeMap::from([("home".into(), "imap.example.org".into())]),
            seen,
        };
        let text = |replica: &Replica| serde_json::to_string(replica).unwrap();
        let us = replica("one", 10_000);
        let others =
            |other: &Replica| BTreeMap::from([("a".to_owned(), text(other)), ("new".to_owned(), "x".to_owned())]);
        assert_eq!(compare("b", &us, &others(&replica("one", 9_990))), Ok(()));
        assert_eq!(compare("b", &us, &others(&replica("two", 9_000))), Ok(()), "gone");
        assert_eq!(
            compare("a", &us, &others(&replica("two", 9_990))),
            Ok(()),
            "ourselves, before a restart"
        );
        let error = compare("b", &us, &others(&replica("two", 9_990))).unwrap_err();
        assert!(error.starts_with("the gateway \"a\" has another key"), "{error}");
        let with = |upstream: &str, host: &str| Replica {
            upstreams: BTreeMap::from([(upstream.into(), host.into())]),
            ..us.clone()
        };
        assert_eq!(compare("b", &us, &others(&with("work", "imap.example.net"))), Ok(()));
        let error = compare("b", &us, &others(&with("home", "imap.example.net"))).unwrap_err();
        assert!(
            error.starts_with(
                "the gateway \"a\" has imap.example.net as upstream \"home\", and this one has imap.example.org"
            ),
            "{error}"
        );
    }
}
