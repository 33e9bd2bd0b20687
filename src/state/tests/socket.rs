//! The socket of a running gateway, and the processes that use it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

use super::{Served, directory, index, mailbox};
use crate::state::{Consent, FileStore, Mailboxes, Marks, MemoryStore, RemoteStore, StateStore, Unavailable, reach};

fn socket(dir: &Path) -> PathBuf {
    dir.join("state.sock")
}

fn marks() -> Marks {
    Marks {
        uid_validity: 7,
        hidden: [3, 6, 9].into(),
        ..Marks::default()
    }
}

#[tokio::test]
async fn it_is_for_our_user_and_goes_at_the_end() {
    let dir = directory();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let served = Served::new(Arc::new(MemoryStore::default()), dir.path()).await;
    let mode = fs::metadata(socket(dir.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    served.end().await;
    assert!(!socket(dir.path()).exists());
}

#[tokio::test]
async fn one_that_a_killed_gateway_left_is_replaced() {
    let dir = directory();
    drop(std::os::unix::net::UnixListener::bind(socket(dir.path())).unwrap());
    assert!(socket(dir.path()).exists());
    let gone = RemoteStore::new(dir.path()).marks("a", &mailbox("eva")).await;
    assert_eq!(gone, Err(Unavailable::Failed));
    let served = Served::new(Arc::new(MemoryStore::default()), dir.path()).await;
    assert_eq!(served.store.marks("a", &mailbox("eva")).await, Ok(Marks::default()));
    served.end().await;
}

#[tokio::test]
async fn without_a_socket_a_gateway_serves_nevertheless() {
    let dir = directory();
    fs::create_dir(socket(dir.path())).unwrap();
    let served = Served::new(Arc::new(MemoryStore::default()), dir.path()).await;
    assert!(served.answering.is_finished());
    assert_eq!(served.store.all_marks().await, Err(Unavailable::Failed));
    assert_eq!(served.store.index(&mailbox("eva")).await, None);
    assert!(socket(dir.path()).is_dir());
}

/// Paths of sockets have at most 108 octets on Linux, and fewer on other systems.
#[tokio::test]
async fn a_path_too_long_for_a_socket_is_no_reason_not_to_serve() {
    let parent = directory();
    let dir = parent.path().join("d".repeat(120));
    fs::create_dir(&dir).unwrap();
    let served = Served::new(Arc::new(MemoryStore::default()), &dir).await;
    assert!(served.answering.is_finished());
    assert_eq!(served.store.all_marks().await, Err(Unavailable::Failed));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[tokio::test]
async fn a_request_without_end_is_not_read_on() {
    let dir = directory();
    let served = Served::new(Arc::new(MemoryStore::default()), dir.path()).await;
    let (mut reading, mut writing) = UnixStream::connect(socket(dir.path())).await.unwrap().into_split();
    // If this were read, it would be answered, because JSON may begin with spaces.
    let asking = async {
        let spaces = b" ".repeat(64 << 20);
        let _ = writing.write_all(&spaces).await;
        let _ = writing.write_all(b"\"AllMarks\"\n").await;
        let _ = writing.shutdown().await;
    };
    let mut answer = Vec::new();
    // If the socket is closed before all was read, this may be an error.
    let (_, _) = tokio::join!(asking, reading.read_to_end(&mut answer));
    assert_eq!(answer.escape_ascii().to_string(), "");
    served.end().await;
}

#[tokio::test]
async fn a_token_is_renewed_by_the_gateway() {
    let dir = directory();
    let served = Served::new(Arc::new(MemoryStore::default()), dir.path()).await;
    let consent = Consent {
        upstream: "home".into(),
        name: "eva".into(),
    };
    assert_eq!(served.store.renew(&consent, true).await, Ok("home/eva true".into()));
    assert_eq!(
        MemoryStore::default().renew(&consent, true).await,
        Err(Unavailable::Failed)
    );
    served.end().await;
}

#[tokio::test]
async fn what_is_no_request_ends_the_connection_and_nothing_else() {
    let dir = directory();
    let served = Served::new(Arc::new(MemoryStore::default()), dir.path()).await;
    for octets in [
        &b"\n"[..],
        b"USER eva\r\n",
        b"{\"Kept\":[\"a\"]}\n",
        b"\"Forget\"\n",
        b"\"AllMarks\" \xff\n",
    ] {
        let mut stream = UnixStream::connect(socket(dir.path())).await.unwrap();
        stream.write_all(octets).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"", "{}", octets.escape_ascii());
    }
    let mut stream = UnixStream::connect(socket(dir.path())).await.unwrap();
    stream.write_all(b"\"AllMarks\"").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"", "a request without its end");

    let mut stream = UnixStream::connect(socket(dir.path())).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"\"AllMarks\"\n").await.unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, *b"{\"Ok\":[]}\n");
    }
    served.end().await;
}

#[tokio::test]
async fn a_connection_that_waits_does_not_hold_the_directory() {
    let dir = directory();
    let store = Arc::new(FileStore::open(dir.path()).unwrap());
    let served = Served::new(store, dir.path()).await;
    let mut idle = UnixStream::connect(socket(dir.path())).await.unwrap();
    served.store.all_marks().await.unwrap();
    served.end().await;
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0, "ended");
    FileStore::open(dir.path()).unwrap();
}

#[tokio::test]
async fn answers_may_be_longer_than_requests() {
    let dir = directory();
    let listener = UnixListener::bind(socket(dir.path())).unwrap();
    let gateway = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        // The spaces stand for 65 MB of marks.
        for octets in [&b"{\"Ok\":["[..], &b" ".repeat(65 << 20), b"]}\n"] {
            stream.write_all(octets).await.unwrap();
        }
    };
    let store = RemoteStore::new(dir.path());
    assert_eq!(tokio::join!(gateway, store.all_marks()).1, Ok(vec![]));
}

/// The system accepts the connection, but nobody answers. The paused clock advances when all tasks wait.
#[tokio::test(start_paused = true)]
async fn a_gateway_that_hangs_is_not_waited_for_for_ever() {
    let dir = directory();
    let _listener = UnixListener::bind(socket(dir.path())).unwrap();
    let begun = tokio::time::Instant::now();
    let store = RemoteStore::new(dir.path());
    assert_eq!(store.all_marks().await, Err(Unavailable::Failed));
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn whoever_looks_where_no_gateway_was_makes_nothing() {
    let parent = directory();
    for dir in [parent.path().to_owned(), parent.path().join("missing")] {
        let store = reach(&dir).unwrap();
        assert_eq!(store.all_marks().await, Ok(vec![]));
        assert_eq!(store.clear_marks("a", None).await, Ok(0));
    }
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    fs::write(parent.path().join("file"), "").unwrap();
    let error = reach(&parent.path().join("file")).unwrap_err().to_string();
    assert!(error.starts_with("state.dir: cannot use /"), "{error}");
}

#[tokio::test]
async fn the_file_is_reached_directly_or_through_who_has_it() {
    let dir = directory();
    let store = Arc::new(FileStore::open(dir.path()).unwrap());
    store.set_index(&mailbox("eva"), index(3)).await;
    store.set_marks("a", &mailbox("eva"), &marks(), 0).await.unwrap();
    let served = Served::new(store, dir.path()).await;
    let through = reach(dir.path()).unwrap();
    assert_eq!(through.marks("a", &mailbox("eva")).await, Ok(marks()));
    served.end().await;
    assert_eq!(
        through.marks("a", &mailbox("eva")).await,
        Err(Unavailable::Failed),
        "it has ended"
    );
    let directly = reach(dir.path()).unwrap();
    assert_eq!(directly.marks("a", &mailbox("eva")).await, Ok(marks()));
    assert_eq!(directly.index(&mailbox("eva")).await, Some(index(3)));
}
