//! `popgate state`: beside a running gateway, and without one.

#![cfg(unix)]
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Output, Stdio},
};

use popgate::{
    state::{FileStore, Mailboxes, Marks, StateStore},
    types::MailboxName,
};
use tempfile::TempDir;

/// An upstream that nobody reaches: nothing here asks it.
const CONFIG: &str = r#"
[upstream.home]
host = "127.0.0.1"
port = 1
tls = "off"
[upstream.home.maildrop]
on_delete = "hide"
[[listener]]
address = "127.0.0.1:0"
[[account]]
login = "tickets"
password = "on paper"
upstream = "home"
user = "office"
upstream_password = "kestrel"
[state]
dir = "kept/state"
"#;

/// What is told of what [`directory`] has.
const ALL: &str = "\
laptop: INBOX of office at [upstream.home]: 3 hidden, 1 retrieved on 2023-11-14 (UIDVALIDITY 7)
tickets: INBOX of office at [upstream.home]: 2 hidden (UIDVALIDITY 7)
tickets: Tickets/Old of office at [upstream.home]: 1 hidden, 1 notices deleted, 1 not delivered by the upstream (UIDVALIDITY 9)
";

fn mailbox(folder: &str) -> MailboxName {
    MailboxName {
        upstream: "home".into(),
        user: "office".into(),
        folder: folder.into(),
    }
}

fn state_dir(directory: &TempDir) -> PathBuf {
    directory.path().join("kept/state")
}

/// A configuration, and state in which two logins have done something.
#[tokio::main(flavor = "current_thread")]
async fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("gateway.toml"), CONFIG).unwrap();
    let store = FileStore::open(&state_dir(&directory)).unwrap();
    let marks = |uid_validity, hidden: &[u32]| Marks {
        uid_validity,
        hidden: hidden.iter().copied().collect(),
        ..Marks::default()
    };
    let laptop = Marks {
        retrieved: [(1, 1_700_000_000)].into(),
        ..marks(7, &[1, 2, 3])
    };
    let old = Marks {
        noticed: [5].into(),
        undelivered: [5].into(),
        ..marks(9, &[4])
    };
    for (login, folder, marks) in [
        ("tickets", "INBOX", marks(7, &[1, 2])),
        ("laptop", "INBOX", laptop),
        ("tickets", "Tickets/Old", old),
    ] {
        store.set_marks(login, &mailbox(folder), &marks, 0).await.unwrap();
    }
    directory
}

/// The logins and folders of which something is in the file.
#[tokio::main(flavor = "current_thread")]
async fn in_the_file(directory: &TempDir) -> Vec<String> {
    let store = FileStore::open(&state_dir(directory)).unwrap();
    let all = store.all_marks().await.unwrap();
    let mut all: Vec<_> = all
        .into_iter()
        .map(|(login, mailbox, _)| format!("{login} {}", mailbox.folder))
        .collect();
    all.sort();
    all
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_popgate"));
    command.args(arguments).current_dir(directory).env_clear();
    command.stdin(Stdio::null());
    command
}

/// Runs `popgate state`.
fn state(directory: &TempDir, arguments: &[&str]) -> Output {
    let arguments = [&["state"], arguments].concat();
    command(directory.path(), &arguments).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// What it said, where it did what was asked.
fn said(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    assert_eq!(stderr(output), "");
    stdout(output)
}

fn refused(output: &Output, code: i32) -> &str {
    assert_eq!(output.status.code(), Some(code), "{}", stdout(output));
    assert_eq!(stdout(output), "");
    stderr(output)
}

/// A running gateway; killed when it is dropped.
struct Gateway {
    process: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl Gateway {
    /// Returns once it can be asked.
    fn start(directory: &TempDir) -> Self {
        let mut process = command(directory.path(), &["serve"])
            .env("POPGATE__LOG__LEVEL", "info,popgate::local_socket=debug")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut gateway = Self { process, log };
        let mut before = Vec::new();
        for line in gateway.log.by_ref().map(Result::unwrap) {
            if line.contains("other processes can ask") && line.contains("state.sock") {
                return gateway;
            }
            before.push(line);
        }
        panic!("it has ended: {before:#?}");
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Its exit code after SIGTERM.
    fn end(mut self) -> Option<i32> {
        self.signal("TERM");
        self.log.by_ref().for_each(drop);
        self.process.wait().unwrap().code()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Shows, and forgets bit by bit; the same with a gateway and without.
fn show_and_forget(directory: &TempDir) {
    assert_eq!(said(&state(directory, &[])), ALL);
    assert_eq!(
        said(&state(directory, &["laptop"])),
        ALL.lines().next().unwrap().to_owned() + "\n"
    );
    assert_eq!(said(&state(directory, &["lap"])), "nothing is kept of login lap\n");

    let unknown = state(directory, &["--reset", "lap"]);
    assert_eq!(
        refused(&unknown, 1),
        "popgate: nothing is kept of login lap (popgate state shows what is)\n"
    );
    let elsewhere = state(directory, &["--reset", "tickets", "--folder", "Tickets"]);
    assert_eq!(
        refused(&elsewhere, 1),
        "popgate: nothing is kept of Tickets of login tickets (popgate state shows what is)\n"
    );
    assert_eq!(said(&state(directory, &[])), ALL);

    let folder = state(directory, &["--reset", "tickets", "--folder", "Tickets/Old"]);
    assert_eq!(
        said(&folder),
        "forgotten: what was kept of Tickets/Old of login tickets, in one mailbox; it sees all messages again\n"
    );
    let left = ALL.lines().take(2).map(|line| format!("{line}\n")).collect::<String>();
    assert_eq!(said(&state(directory, &[])), left);
    assert!(said(&state(directory, &["--reset", "tickets"])).contains("login tickets, in one mailbox;"));
    assert_eq!(
        said(&state(directory, &["tickets"])),
        "nothing is kept of login tickets\n"
    );
    assert!(refused(&state(directory, &["--reset", "tickets"]), 1).contains("nothing is kept of login tickets"));
}

#[test]
fn beside_a_running_gateway() {
    let directory = directory();
    let gateway = Gateway::start(&directory);
    show_and_forget(&directory);
    assert_eq!(gateway.end(), Some(0));
    assert_eq!(in_the_file(&directory), ["laptop INBOX"]);
}

#[test]
fn without_a_gateway() {
    let directory = directory();
    show_and_forget(&directory);
    assert_eq!(in_the_file(&directory), ["laptop INBOX"]);
}

#[test]
fn several_mailboxes_are_forgotten_at_once() {
    let directory = directory();
    let all = state(&directory, &["--reset", "tickets"]);
    assert_eq!(
        said(&all),
        "forgotten: what was kept of login tickets, in 2 mailboxes; it sees all messages again\n"
    );
    assert_eq!(in_the_file(&directory), ["laptop INBOX"]);
}

#[test]
fn the_socket_is_ours_alone_and_goes_with_the_gateway() {
    let directory = directory();
    let socket = state_dir(&directory).join("state.sock");
    let gateway = Gateway::start(&directory);
    let metadata = fs::metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(gateway.end(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn after_a_kill_the_file_is_asked_and_the_next_gateway_answers() {
    let directory = directory();
    let socket = state_dir(&directory).join("state.sock");
    let mut killed = Gateway::start(&directory);
    killed.signal("KILL");
    killed.process.wait().unwrap();
    assert!(socket.exists(), "left behind");
    assert_eq!(said(&state(&directory, &[])), ALL);
    let next = Gateway::start(&directory);
    assert_eq!(said(&state(&directory, &[])), ALL);
    assert_eq!(next.end(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn a_second_gateway_is_refused_and_takes_nothing_from_the_first() {
    let directory = directory();
    let first = Gateway::start(&directory);
    let second = command(directory.path(), &["serve"]).output().unwrap();
    assert_eq!(second.status.code(), Some(2));
    assert!(
        stderr(&second).contains("state.dir: another popgate is using"),
        "{}",
        stderr(&second)
    );
    assert_eq!(said(&state(&directory, &[])), ALL);
    assert_eq!(first.end(), Some(0));
}

#[test]
fn a_gateway_that_does_not_answer_is_told_of() {
    let directory = directory();
    let _gateway = FileStore::open(&state_dir(&directory)).unwrap();
    for arguments in [&[][..], &["tickets"], &["--reset", "tickets"]] {
        let output = state(&directory, arguments);
        let stderr = refused(&output, 1);
        assert!(stderr.contains("does not answer"), "{stderr}");
        assert!(
            stderr.ends_with("popgate: the state cannot be read or written, see the log\n"),
            "{stderr}"
        );
    }
}

#[test]
fn without_a_directory_there_is_nothing_to_ask() {
    let directory = tempfile::tempdir().unwrap();
    let config = CONFIG.split("[state]").next().unwrap();
    fs::write(directory.path().join("gateway.toml"), config).unwrap();
    let output = state(&directory, &[]);
    assert!(
        refused(&output, 2).starts_with("popgate: [state] has no `dir`: "),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_folder_is_for_reset() {
    let directory = directory();
    for arguments in [&["--folder", "INBOX"][..], &["tickets", "--reset", "tickets"]] {
        refused(&state(&directory, arguments), 2);
    }
    assert_eq!(said(&state(&directory, &[])), ALL);
}

/// A file made by whoever asks, root perhaps, the gateway might not be able to open.
#[test]
fn asking_before_the_first_gateway_makes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("gateway.toml"), CONFIG).unwrap();
    assert_eq!(said(&state(&directory, &[])), "nothing is kept of any login\n");
    refused(&state(&directory, &["--reset", "tickets"]), 1);
    assert!(!directory.path().join("kept").exists());
}

/// Set aside by whoever asks, root perhaps, it would leave a new one that the gateway can't open.
#[test]
fn a_damaged_file_is_told_of_and_left_as_it_is() {
    let directory = directory();
    let file = state_dir(&directory).join("state.redb");
    let damaged = "no such thing".repeat(1_000);
    fs::write(&file, &damaged).unwrap();
    fs::remove_file(state_dir(&directory).join("state.lock")).unwrap();
    for arguments in [&[][..], &["--reset", "tickets"]] {
        let output = state(&directory, arguments);
        let told = refused(&output, 1);
        assert!(told.contains("state.dir: kept/state/state.redb is damaged"), "{told}");
        assert!(told.contains("start the gateway"), "{told}");
    }
    let names = fs::read_dir(state_dir(&directory)).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["state.redb"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), damaged);
}
