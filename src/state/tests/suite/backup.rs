use super::*;
use crate::state::{
    Backup, BackupWriter, Consent, FileStore, Kind, Mailboxes,
    tests::{directory, index as long_index},
};

for_every_store! {
    a_backup_restores_every_kind_of_record,
    a_store_of_nothing_has_a_backup,
}

/// The octets of a backup of `store`.
async fn back_up(store: &dyn StateStore) -> Vec<u8> {
    let mut writer = BackupWriter::begin(Vec::new(), 1_700_000_000).unwrap();
    let mut parts = store.parts().await.unwrap();
    loop {
        let portion = parts.next().await.unwrap();
        if portion.is_empty() {
            return writer.end().unwrap().0;
        }
        for part in portion {
            writer.add(part).unwrap();
        }
    }
}

async fn a_backup_restores_every_kind_of_record(store: &dyn StateStore) {
    let archive = at("home", "eva", "Lists/\"Wörk\"\n");
    let consent = Consent {
        upstream: "home".into(),
        name: "eva@example.org".into(),
    };
    let (past, pending) = (past(&[(1, 1), (9, 9)], &[(1, 90)]), pending());
    // The first index has many parts.
    store.set_index(&archive, long_index(200_000)).await;
    store
        .set_index(&inbox(), index(&[1, 2, 3, 4, 9, u32::MAX]).into())
        .await;
    keep(store, "pbx", &inbox(), &full_marks()).await;
    keep(store, "fax", &archive, &marks(&[3, 6])).await;
    store.set_past(&inbox(), &past).await.unwrap();
    store.set_pending_move(&inbox(), Some(&pending)).await.unwrap();
    store.set_token(&consent, None, Some(b"sealed\0\xff")).await.unwrap();

    let octets = back_up(store).await;
    let backup = Backup::read(&octets[..]).unwrap();
    let tally = backup.tally();
    let counts = Kind::ALL.map(|kind| tally.of(kind));
    assert_eq!((counts, tally.damaged()), ([2, 2, 1, 1, 1, 0], 0));
    assert_eq!(
        tally.to_string(),
        "2 indexes, 2 records of what logins have done, 1 history of a mailbox, 1 removal under way, 1 consent"
    );
    let longest = octets.split(|&octet| octet == b'\n').map(<[u8]>::len).max();
    assert!(longest < Some(6_000), "{longest:?}");

    let dir = directory();
    assert!(crate::state::restore(dir.path(), &backup).unwrap().is_empty());
    let restored = FileStore::open(dir.path()).unwrap();
    assert_eq!(restored.index(&archive).await, Some(long_index(200_000)));
    assert_eq!(restored.index(&inbox()).await, store.index(&inbox()).await);
    assert_eq!(restored.marks("pbx", &inbox()).await, Ok(full_marks()));
    assert_eq!(restored.marks("fax", &archive).await, Ok(marks(&[3, 6])));
    assert_eq!(restored.all_marks().await.unwrap().len(), 2);
    assert_eq!(restored.past(&inbox()).await, Ok(past));
    assert_eq!(restored.pending_move(&inbox()).await, Ok(Some(pending)));
    assert_eq!(restored.token(&consent).await, Ok(Some(b"sealed\0\xff".to_vec())));
    // Stores of any kind make the same backup of the same records, except for their order.
    assert_eq!(lines(&back_up(&restored).await), lines(&octets));
}

/// The lines of the parts, sorted.
fn lines(backup: &[u8]) -> Vec<&str> {
    let mut lines: Vec<&str> = std::str::from_utf8(backup).unwrap().lines().collect();
    assert!(lines.pop().unwrap().starts_with("{\"parts\":"));
    lines.sort_unstable();
    lines
}

async fn a_store_of_nothing_has_a_backup(store: &dyn StateStore) {
    let backup = Backup::read(&back_up(store).await[..]).unwrap();
    assert_eq!(backup.tally().to_string(), "no records");
    let dir = directory();
    crate::state::restore(dir.path(), &backup).unwrap();
    let restored = FileStore::open(dir.path()).unwrap();
    assert_eq!(restored.all_marks().await.unwrap(), []);
}

/// From a file of one gateway to servers that several share.
#[cfg(unix)]
mod into_servers {
    use super::*;
    use crate::{
        config::SharedState,
        state::{
            restore_shared,
            tests::server::{Program, Server, key, open},
        },
    };

    #[tokio::test]
    async fn a_backup_fills_servers_that_have_nothing() {
        for program in [Program::Redis, Program::Valkey] {
            let Some(server) = Server::start(program, &[]) else {
                continue;
            };
            let dir = directory();
            let store = FileStore::open(dir.path()).unwrap();
            let consent = Consent {
                upstream: "home".into(),
                name: "eva".into(),
            };
            store.set_index(&at("home", "ida", "INBOX"), long_index(200_000)).await;
            store.set_index(&inbox(), index(&[1, 2, 9]).into()).await;
            keep(&store, "pbx", &inbox(), &full_marks()).await;
            keep(&store, "fax", &inbox(), &marks(&[3, 6])).await;
            store.set_past(&inbox(), &past(&[(1, 1)], &[(1, 90)])).await.unwrap();
            store.set_pending_move(&inbox(), Some(&pending())).await.unwrap();
            store.set_token(&consent, None, Some(b"sealed")).await.unwrap();
            store.set_notice("upstream home", None, Some(b"told")).await.unwrap();
            let octets = back_up(&store).await;
            let backup = Backup::read(&octets[..]).unwrap();

            let url = format!("redis://{}", server.address());
            let servers = SharedState::of(&url);
            restore_shared(&servers, key().as_ref(), &backup).await.unwrap();
            let filled = open(&url).await;
            assert_eq!(lines(&back_up(&filled).await), lines(&octets), "{program:?}");

            let again = restore_shared(&servers, key().as_ref(), &backup).await;
            let error = again.unwrap_err().to_string();
            assert!(error.contains("there is state under \"popgate\" already"), "{error}");
            assert_eq!(lines(&back_up(&filled).await), lines(&octets), "nothing was changed");
        }
    }

    #[tokio::test]
    async fn servers_that_have_notices_are_not_filled() {
        let Some(server) = Server::start(Program::Redis, &[]) else {
            return;
        };
        let url = format!("redis://{}", server.address());
        let store = open(&url).await;
        store.set_notice("upstream home", None, Some(b"told")).await.unwrap();
        let backup = Backup::read(&back_up(&store).await[..]).unwrap();
        let filled = restore_shared(&SharedState::of(&url), key().as_ref(), &backup).await;
        let error = filled.unwrap_err().to_string();
        assert!(error.contains("there is state under \"popgate\" already"), "{error}");
    }

    /// The server refuses to write.
    #[tokio::test]
    async fn a_restore_that_fails_midway_says_how_to_go_on() {
        let settings = ["--user", "default", "on", "nopass", "~popgate:*", "+@all", "-hset"];
        let Some(server) = Server::start(Program::Redis, &settings) else {
            return;
        };
        let store = crate::state::MemoryStore::default();
        keep(&store, "pbx", &inbox(), &full_marks()).await;
        let backup = Backup::read(&back_up(&store).await[..]).unwrap();
        let servers = SharedState::of(&format!("redis://{}", server.address()));
        let filled = restore_shared(&servers, key().as_ref(), &backup).await;
        let error = filled.unwrap_err().to_string();
        assert!(
            error.ends_with("delete all keys that begin with \"popgate:\", or give another `prefix`"),
            "{error}"
        );
    }
}
