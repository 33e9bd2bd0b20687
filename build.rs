//! What `popgate --version` says: version, commit, features. (A debug build is of no commit, but of whatever its author has
//! changed since.)

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=POPGATE_COMMIT");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    // Where the sources have no history, as in an image or a package, whoever builds may say it.
    let said = env::var("POPGATE_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = said.or_else(|| is_release.then(of_history).flatten());
    let commit = commit.map_or(String::new(), |commit| format!("commit {commit}, "));
    let features = match env::var_os("CARGO_FEATURE_LEGACY_TLS") {
        Some(_) => "legacy-tls",
        None => "none",
    };
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo::rustc-env=POPGATE_VERSION={version} ({commit}features: {features})");
}

/// The commit that is checked out, if these sources are a repository of their own.
fn of_history() -> Option<String> {
    let ask = |arguments: &[&str]| {
        let asked = Command::new("git").args(arguments).output().ok()?;
        let said = String::from_utf8(asked.stdout).ok()?.trim().to_owned();
        (asked.status.success() && !said.is_empty()).then_some(said)
    };
    // Not of a repository that merely contains the sources: a package that is unpacked in somebody's home.
    let top = ask(&["rev-parse", "--show-toplevel"])?;
    if top != env::var("CARGO_MANIFEST_DIR").ok()? {
        return None;
    }
    let log = ask(&["rev-parse", "--git-path", "logs/HEAD"])?;
    println!("cargo::rerun-if-changed={log}");
    ask(&["rev-parse", "--short=12", "HEAD"])
}
