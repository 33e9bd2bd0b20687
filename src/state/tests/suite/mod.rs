//! What every store promises: memory, a file, a running gateway's store by its socket, and servers that several
//! gateways share.

macro_rules! for_every_store {
    ($($test:ident,)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&crate::state::MemoryStore::default()).await;
            })*
        }
        mod file {
            $(#[tokio::test]
            async fn $test() {
                let dir = crate::state::tests::directory();
                super::$test(&crate::state::FileStore::open(dir.path()).unwrap()).await;
            })*
        }
        #[cfg(unix)]
        mod remote {
            $(#[tokio::test]
            async fn $test() {
                let dir = crate::state::tests::directory();
                let store = crate::state::FileStore::open(dir.path()).unwrap();
                let served = crate::state::tests::Served::new(std::sync::Arc::new(store), dir.path()).await;
                super::$test(&served.store).await;
                served.end().await;
            })*
        }
        #[cfg(unix)]
        for_every_shared_store! { $($test,)* }
    };
}

/// Runs tests over each program that serves shared state.
#[cfg(unix)]
macro_rules! for_every_shared_store {
    ($($test:ident,)*) => {
        mod redis {
            $(#[tokio::test]
            async fn $test() {
                if let Some(server) = crate::state::tests::server::Server::start(
                    crate::state::tests::server::Program::Redis,
                    &[],
                ) {
                    super::$test(&server.store().await).await;
                }
            })*
        }
        mod valkey {
            $(#[tokio::test]
            async fn $test() {
                if let Some(server) = crate::state::tests::server::Server::start(
                    crate::state::tests::server::Program::Valkey,
                    &[],
                ) {
                    super::$test(&server.store().await).await;
                }
            })*
        }
    };
}

mod backup;
#[cfg(unix)]
mod gateways;
#[cfg(unix)]
mod leases;
mod mailboxes;
mod marks;
mod notices;
mod tokens;

use crate::{
    state::{Former, Identity, Index, Mailboxes, Marks, Past, PendingMove, StateStore},
    types::{MailboxName, Uid},
};

pub(super) fn at(upstream: &str, user: &str, folder: &str) -> MailboxName {
    MailboxName {
        upstream: upstream.into(),
        user: user.into(),
        folder: folder.into(),
    }
}

pub(super) fn inbox() -> MailboxName {
    at("home", "eva", "INBOX")
}

/// Marks under UIDVALIDITY 7.
pub(super) fn marks(hidden: &[u32]) -> Marks {
    Marks {
        uid_validity: 7,
        hidden: hidden.iter().copied().collect(),
        ..Marks::default()
    }
}

pub(super) fn full_marks() -> Marks {
    Marks {
        uid_validity: 7,
        hidden: [1, 2, 9].into(),
        noticed: [3, u32::MAX].into(),
        undelivered: [3, u32::MAX].into(),
        retrieved: [(1, 100), (4, 200)].into(),
        imported: [(2, "two".into()), (9, "nïne\n\"".into())].into(),
        import: u64::MAX,
    }
}

/// A past under UIDVALIDITY 7.
pub(super) fn past(identities: &[(u32, u8)], former: &[(u32, u32)]) -> Past {
    Past {
        uid_validity: 7,
        first_uid_validity: 6,
        identities: identities
            .iter()
            .map(|&(uid, octet)| (uid, Identity([octet; 16])))
            .collect(),
        former: former
            .iter()
            .map(|&(now, uid)| {
                (
                    now,
                    Former {
                        uid_validity: 6,
                        uid: Uid(uid),
                    },
                )
            })
            .collect(),
    }
}

pub(super) fn pending() -> PendingMove {
    PendingMove {
        uid_validity: 7,
        uids: [1, 5, 6].into(),
        target: "Trash".into(),
        target_uid_validity: 9,
        target_uid_next: Uid(44),
    }
}

/// An index under UIDVALIDITY 7.
pub(super) fn index(uids: &[u32]) -> Index {
    let mut index = Index {
        uid_validity: 7,
        ..Index::default()
    };
    for &uid in uids {
        index.push(Uid(uid), 1_000, Some(1_700_000_000), Some("M1".into()));
    }
    index
}

pub(super) async fn keep(store: &dyn StateStore, login: &str, mailbox: &MailboxName, marks: &Marks) {
    let kept = store.marks(login, mailbox).await.unwrap().uid_validity;
    store.set_marks(login, mailbox, marks, kept).await.unwrap();
}

pub(super) async fn hidden(store: &dyn StateStore, login: &str, mailbox: &MailboxName) -> Vec<u32> {
    let marks = store.marks(login, mailbox).await.unwrap();
    marks.hidden.uids().map(|uid| uid.0).collect()
}
