//! Composes what `popgate --version` prints: version, commit and features. A debug build does not ask git for the
//! commit, because its sources may have changed since.

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=POPGATE_COMMIT");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    // Sources in an image or a package have no git history: whoever builds them can name the commit.
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

/// The commit that is checked out, if these sources are a git repository of their own.
fn of_history() -> Option<String> {
    let ask = |arguments: &[&str]| {
        let asked = Command::new("git").args(arguments).output().ok()?;
        let said = String::from_utf8(asked.stdout).ok()?.trim().to_owned();
        (asked.status.success() && !said.is_empty()).then_some(said)
    };
    // A package may be unpacked inside another repository, such as somebody's home. The commit of that repository is
    // not the commit of these sources.
    let top = ask(&["rev-parse", "--show-toplevel"])?;
    if top != env::var("CARGO_MANIFEST_DIR").ok()? {
        return None;
    }
    let log = ask(&["rev-parse", "--git-path", "logs/HEAD"])?;
    println!("cargo::rerun-if-changed={log}");
    ask(&["rev-parse", "--short=12", "HEAD"])
}
