//! Describes the results of steps in words.

use std::{io, net::SocketAddr, time::Duration};

use super::{Outcome, Step};
use crate::{
    accounts::Account,
    config::{self, Listener},
    maildrop::{DeleteEffect, DeletePreview, Fetched, FolderSummary, Obstacle},
    state,
    tls::Agreement,
    types::Octets,
};

/// If a certificate expires in less than this many seconds, its step ends with a warning.
const SOON: i64 = 14 * 24 * 3600;

pub(super) fn addresses(upstream: &config::Upstream, addresses: &[SocketAddr]) -> Outcome {
    let host = upstream.proxy.as_ref().map_or(&upstream.host, |proxy| &proxy.host);
    let addresses: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    let list = addresses.join(", ");
    if addresses.len() == 1 && list == *host {
        Outcome::passed(format!("{host} is an address"))
    } else {
        Outcome::passed(format!("{host} is {list}"))
    }
}

pub(super) fn agreement(agreement: &Agreement) -> Outcome {
    let version = agreement.version.replace("TLSv", "TLS ").replace('_', ".");
    let Some(leaf) = &agreement.leaf else {
        return Outcome::passed(version);
    };
    let text = format!(
        "{version}, certificate of {} by {} (chain of {}), valid until {}",
        leaf.names.join(", "),
        leaf.issuer,
        agreement.chain,
        leaf.end()
    );
    let left = leaf.until - i64::from(state::now());
    if left <= 0 {
        Outcome::Warned(format!(
            "{text}: it has expired, and is taken because the configuration names it"
        ))
    } else if left < SOON {
        Outcome::Warned(format!("{text}: whoever runs the server must renew it"))
    } else {
        Outcome::Passed(text)
    }
}

pub(super) fn folder(folder: &FolderSummary) -> Outcome {
    let Octets(octets) = folder.octets;
    let read_only = if folder.is_read_only { ", read-only" } else { "" };
    Outcome::passed(format!(
        "{} of {octets} octets{read_only}",
        messages(folder.messages as u64)
    ))
}

pub(super) fn listing(count: u32, Octets(octets): Octets) -> Outcome {
    Outcome::passed(format!("{} of {octets} octets for the device", messages(count.into())))
}

pub(super) fn fetched(fetched: &Option<Fetched>) -> Outcome {
    match fetched {
        None => Outcome::passed("there is no message to fetch"),
        Some(Fetched { uid, octets, listed }) => {
            let Octets(count) = octets;
            let listed = if listed == octets {
                String::new()
            } else {
                format!(", listed with {}", listed.0)
            };
            Outcome::passed(format!("UID {uid}: {count} octets{listed}, not marked as read"))
        }
    }
}

fn messages(count: u64) -> String {
    match count {
        1 => "1 message".to_owned(),
        count => format!("{count} messages"),
    }
}

pub(super) fn delete(preview: &DeletePreview, account: &Account, took: Duration) -> Step {
    let effects: Vec<_> = preview.effects.iter().map(effect).collect();
    let text = effects.join("; ");
    let name = "delete";
    if let Some(obstacle) = preview.obstacles.first() {
        let all: Vec<_> = preview.obstacles.iter().map(hindrance).collect();
        let outcome = Outcome::Failed(format!("{text}, but {}", all.join(", and ")));
        return Step::new(name, took, outcome).advised(help(obstacle, account));
    }
    if preview.effects.contains(&DeleteEffect::Kept) {
        let advice = format!(
            "set `on_delete` of {} to another folder, or to \"hide\"",
            policy(account)
        );
        return Step::new(name, took, Outcome::Warned(text)).advised(advice);
    }
    Step::new(name, took, Outcome::Passed(text))
}

fn effect(effect: &DeleteEffect) -> String {
    match effect {
        DeleteEffect::Hidden => "a delete hides the message from this login only".to_owned(),
        DeleteEffect::Expunged => "a delete removes the message for good".to_owned(),
        DeleteEffect::Kept => "a delete leaves the message in the folder in which it is".to_owned(),
        DeleteEffect::Moved(folder) => format!("a delete moves the message to {folder}"),
        DeleteEffect::MovedToNew(folder) => {
            format!("a delete moves the message to {folder}, which the first delete makes")
        }
    }
}

fn hindrance(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::ReadOnly(folder) => format!("{folder} can only be read"),
        Obstacle::MayNotRemove(folder) => format!("the user may not remove messages from {folder}"),
        Obstacle::MayNotInsert(folder) => format!("the user may not file messages into {folder}"),
        Obstacle::CannotBeMade(folder, above) => format!("{folder} is missing and cannot be made below {above}"),
    }
}

fn help(obstacle: &Obstacle, account: &Account) -> String {
    let (user, policy) = (&account.user, policy(account));
    match obstacle {
        Obstacle::ReadOnly(folder) | Obstacle::MayNotRemove(folder) => format!(
            "give {user} the right to remove mail from {folder} at the server, or set `on_delete` of {policy} to \"hide\""
        ),
        Obstacle::MayNotInsert(folder) => format!(
            "give {user} the right to file mail into {folder} at the server, or set `on_delete` of {policy} to another folder"
        ),
        Obstacle::CannotBeMade(folder, _) => {
            format!("make {folder} at the server, or set `on_delete` of {policy} to another folder")
        }
    }
}

/// Where in the configuration the policy of `account` is.
fn policy(account: &Account) -> String {
    format!("[upstream.{}.maildrop] (or of the account)", account.upstream.name)
}

pub(super) fn listener(listener: &Listener, took: Duration, answer: io::Result<()>) -> Step {
    let name = format!("listener {}", listener.address);
    match answer {
        Ok(()) => Step::new(name, took, Outcome::passed("the gateway answers")),
        Err(error) => {
            let advice = match error.kind() {
                io::ErrorKind::ConnectionRefused => "start the gateway: popgate serve".to_owned(),
                io::ErrorKind::TimedOut => "is the gateway overloaded, or does a firewall stand between?".to_owned(),
                _ => "does another program listen there, or a gateway with another configuration? Check `address` and `tls` of \
                      the [[listener]]"
                    .to_owned(),
            };
            Step::new(name, took, Outcome::Failed(error.to_string())).advised(advice)
        }
    }
}
