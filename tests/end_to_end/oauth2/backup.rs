//! Consents in a backup.

use std::{fs, process::Stdio};

use super::{Lab, XOAUTH2, lets_in, refuses};
use crate::{
    backup::{popgate, succeeds},
    support::provider::TOKEN_MARK,
};

#[test]
fn a_consent_survives_with_its_key_and_only_with_it() {
    let Some(mut lab) = Lab::new(XOAUTH2) else { return };
    let gateway = lab.by_device().start();
    lab.sign_in(&gateway, "pbx", "eva");
    let backups = tempfile::tempdir().unwrap();
    let file = backups.path().join("state");
    let said = succeeds(popgate(
        &gateway.file(),
        &["backup", file.to_str().unwrap()],
        Stdio::null(),
    ));
    assert!(said.contains("1 consent\n"), "{said}");
    assert!(
        said.contains("The key that opens consents is not in the backup"),
        "{said}"
    );
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains(lab.key) && !text.contains(TOKEN_MARK), "{text}");
    gateway.stop();

    // As on another machine.
    lab.state = tempfile::tempdir().unwrap();
    let mut gateway = lab.by_device().start();
    refuses(&gateway, "pbx", "SYS/PERM");
    gateway.signal("TERM");
    gateway.wait();
    let said = succeeds(popgate(
        &gateway.file(),
        &["restore", file.to_str().unwrap()],
        Stdio::null(),
    ));
    assert!(
        said.contains("The consents open only with the key of that time"),
        "{said}"
    );
    let gateway = lab.by_device().start();
    lets_in(&gateway, "pbx");
    gateway.stop();
    lab.key = "fedcba9876543210fedcba9876543210";
    let gateway = lab.by_device().start();
    refuses(&gateway, "pbx", "SYS/PERM");
}
