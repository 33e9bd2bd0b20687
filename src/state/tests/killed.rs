//! A process that is killed while it writes: every write that the store has confirmed is in the file.

use std::{
    collections::HashMap,
    env,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

use super::{directory, mailbox, set_aside};
use crate::state::{FileStore, Mailboxes, Marks};

/// The variable that tells the writing process its directory.
const DIRECTORY: &str = "POPGATE_TEST_WRITES_IN";
const USERS: [&str; 2] = ["a", "b"];
const KILLS: u32 = 50;

/// The marks of a round: few, in one piece, or many, in several.
fn marks(round: u32) -> Marks {
    if round == 0 {
        return Marks::default();
    }
    Marks {
        uid_validity: 7,
        hidden: (1..=round % 7 * 2_000).chain([1_000_000 + round]).collect(),
        ..Marks::default()
    }
}

/// Writes marks of both users at the same time until it is killed. Reports each confirmed write on stderr, where the
/// test harness writes nothing.
async fn write_on(dir: &Path) {
    let store = FileStore::open(dir).unwrap();
    tokio::join!(write_of(USERS[0], &store), write_of(USERS[1], &store));
}

async fn write_of(user: &str, store: &FileStore) {
    for round in 1.. {
        let followed = marks(round - 1).uid_validity;
        let kept = store
            .set_marks("tickets", &mailbox(user), &marks(round), followed)
            .await;
        let line = format!("{user} {round} {kept:?}\n");
        io::stderr().write_all(line.as_bytes()).unwrap();
    }
}

/// Runs this test as another process. Kills it during the write that follows the `lines`-th line, after this many
/// `hundredths` of the time that writes have taken. Returns the last round of each user that the process reported as
/// confirmed.
fn kill_a_writer(dir: &Path, lines: usize, hundredths: u32) -> HashMap<String, u32> {
    let mut writer = Command::new(env::current_exe().unwrap())
        .args(["--exact", "state::tests::killed::what_was_told_to_be_kept_is_kept"])
        .args(["--nocapture", "--test-threads", "1"])
        .env(DIRECTORY, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(writer.stderr.take().unwrap()).lines();
    let mut rounds = HashMap::new();
    let mut take = |line: String| {
        let (user, round) = line
            .strip_suffix(" Ok(())")
            .and_then(|line| line.split_once(' '))
            .unwrap_or_else(|| panic!("{line}"));
        rounds.insert(user.to_owned(), round.parse().unwrap());
    };
    take(told.next().unwrap().unwrap());
    let begun = Instant::now();
    for line in told.by_ref().take(lines) {
        take(line.unwrap());
    }
    let write = begun.elapsed() / u32::try_from(lines).unwrap();
    // This does not wait for the writer to reach a certain point: any point will do.
    std::thread::sleep(write * hundredths / 100);
    writer.kill().unwrap();
    told.for_each(|line| take(line.unwrap()));
    writer.wait().unwrap();
    rounds
}

#[tokio::test]
async fn what_was_told_to_be_kept_is_kept() {
    if let Some(dir) = env::var_os(DIRECTORY) {
        return write_on(Path::new(&dir)).await;
    }
    let mut runner = TestRunner::deterministic();
    let points = (1..30_usize, 0..100_u32);
    for kill in 0..KILLS {
        let (lines, hundredths) = points.new_tree(&mut runner).unwrap().current();
        let dir = directory();
        let told = kill_a_writer(dir.path(), lines, hundredths);
        let context = format!("kill {kill} after {lines} lines and {hundredths} hundredths: {told:?}");
        let store = FileStore::open(dir.path()).unwrap();
        for user in USERS {
            let told = told.get(user).copied().unwrap_or_default();
            let kept = store.marks("tickets", &mailbox(user)).await.unwrap();
            // The next round was being written.
            let is_exact = kept == marks(told) || kept == marks(told + 1);
            assert!(is_exact, "{context}: {user}");
        }
        assert_eq!(set_aside(dir.path()).len(), 0, "{context}");
    }
}
