//! What the tests use: the gateway as a process, real and scripted upstreams, and clients that show every octet.

pub mod answers;
pub mod bearer;
pub mod certificates;
pub mod chromium;
pub mod dovecot;
pub mod gateway;
pub mod hoster;
pub mod imap;
pub mod listener;
pub mod looks;
pub mod mail;
pub mod peer;
pub mod pop;
pub mod process;
pub mod provider;
pub mod proxy;
pub mod receiver;
pub mod record;
pub mod recorder;
pub mod redis;
pub mod script;
pub mod servers;
pub mod stream;
pub mod tap;
pub mod web;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// The longest wait of a test, so that a hang becomes a failure.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The password of every user of every upstream here. It must never show up in a log line.
pub const PASSWORD: &str = "kestrel-42-Hoverfly";

/// Finds a program on PATH, or where Debian puts servers.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let servers = ["/usr/sbin", "/usr/lib/dovecot"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(servers)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

/// Finds a program that a test needs. `None`: the test must be skipped, and a message says so. With
/// `POPGATE_TESTS_REQUIRE_ALL=1`, which `tests/run` sets, the test fails instead.
pub fn require_program(name: &str) -> Option<PathBuf> {
    let found = find_program(name);
    if found.is_none() {
        missing(&format!("{name} is not installed"));
    }
    found
}

/// Prints that the test is skipped, and why. With `POPGATE_TESTS_REQUIRE_ALL=1`, the test fails instead.
pub fn missing(what: &str) {
    let test = test_name();
    assert!(
        std::env::var_os("POPGATE_TESTS_REQUIRE_ALL").is_none(),
        "{test}: {what}"
    );
    eprintln!("\n!! SKIPPED {test}: {what}\n");
}

/// The name of the current test.
pub fn test_name() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

/// Sends a signal such as `TERM` to a process that the test has started.
pub fn signal(pid: u32, name: &str) -> bool {
    let kill = Command::new("/bin/sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .status();
    kill.is_ok_and(|status| status.success())
}

/// The directory of real mails beside the repository, if there is one; `POPGATE_CORPORA` names another place.
pub fn corpora() -> Option<PathBuf> {
    if let Some(directory) = std::env::var_os("POPGATE_CORPORA") {
        return Some(directory.into());
    }
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|directory| directory.join("shared/corpora"))
        .find(|directory| directory.is_dir())
}
