//! The gateway loses no consent: lost answers, kills, full disks, damaged files.

use std::time::Duration;

use super::{LOCAL, Lab, XOAUTH2, account, lets_in, refuses};
use crate::support::{
    gateway::Gateway,
    pop::Pop,
    provider::{Hold, Trouble},
};

/// The provider has rotated the refresh token, but its answer with the new one never arrives. For this case, providers
/// accept the old one for some more seconds.
#[test]
fn a_lost_answer_is_asked_for_again_at_once() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(gateway) = lab.after_a_day() else { return };
    gateway.stop();
    lab.provider.book().grace = Some(Duration::from_secs(30));
    for (days, instead) in (2..).zip([
        Trouble::Closed,
        Trouble::Garbage,
        Trouble::Huge,
        Trouble::Status(502),
        Trouble::Status(504),
    ]) {
        let Some(gateway) = lab.days_later(days) else { return };
        let asked = lab.provider.asked("refresh_token");
        let lost = Trouble::Lost(Box::new(instead.clone()));
        // After a lost answer, the next request may meet a provider in trouble.
        lab.provider
            .book()
            .troubles
            .extend([lost.clone(), Trouble::Status(503), lost]);
        lets_in(&gateway, "pbx");
        assert_eq!(lab.provider.asked("refresh_token"), asked + 4, "{instead:?}");
        gateway.stop();
    }
    lab.provider.book().grace = Some(Duration::ZERO);
    let Some(gateway) = lab.days_later(10) else { return };
    lets_in(&gateway, "pbx");
}

/// If the gateway is killed while a token request is in flight, it asks again as soon as it is started. When the next
/// device comes, it would be too late.
#[test]
fn what_a_kill_interrupted_is_asked_again_at_the_start() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(mut gateway) = lab.after_a_day() else { return };
    lab.provider.book().hold = Hold::After;
    let mut device = Pop::connect(gateway.address());
    device.send(format!("USER pbx\r\nPASS {LOCAL}\r\n").as_bytes());
    lab.provider.wait_held(1);
    gateway.signal("KILL");
    gateway.wait();
    lab.provider.release();
    let Some(gateway) = lab.days_later(1) else { return };
    lab.provider.wait_asked("refresh_token", 2);
    lets_in(&gateway, "pbx");
    gateway.stop();
    // After that, there is nothing to ask at the next start.
    let Some(gateway) = lab.days_later(1) else { return };
    lets_in(&gateway, "pbx");
    assert_eq!(lab.provider.asked("refresh_token"), 2);
}

/// Makes writes of tokens fail until [`Full::end`].
pub(super) struct Full(std::path::PathBuf);

impl Full {
    pub(super) fn new(lab: &Lab) -> Self {
        let path = lab.state.path().join("tokens.jsonl.new");
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn end(self) {
        std::fs::remove_dir(self.0).unwrap();
    }
}

/// The disk becomes full when the provider has just rotated the token.
fn rotated_and_not_written(lab: &Lab, gateway: &Gateway) -> Full {
    lab.provider.book().hold = Hold::After;
    let mut device = Pop::connect(gateway.address());
    device.send(format!("USER pbx\r\nPASS {LOCAL}\r\n").as_bytes());
    lab.provider.wait_held(1);
    let full = Full::new(lab);
    lab.provider.release();
    gateway.events(
        "tokens cannot be written: is the disk full? Consents may be lost at a restart",
        1,
    );
    full
}

#[test]
fn a_rotated_token_that_could_not_be_written_is_written_later() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    // The provider accepts no rotated token any more.
    lab.provider.book().grace = Some(Duration::ZERO);
    let Some(gateway) = lab.after_a_day() else { return };
    let full = rotated_and_not_written(&lab, &gateway);
    refuses(&gateway, "pbx", "SYS/TEMP");
    full.end();
    // The gateway writes the tokens without waiting for a device.
    gateway.events("tokens can be written again", 1);
    lets_in(&gateway, "pbx");
    gateway.stop();
    let Some(gateway) = lab.days_later(2) else { return };
    lets_in(&gateway, "pbx");
    assert_eq!(lab.provider.asked("refresh_token"), 2);
}

#[test]
fn a_rotated_token_that_could_not_be_written_is_written_at_the_end() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    lab.provider.book().grace = Some(Duration::ZERO);
    let Some(mut gateway) = lab.after_a_day() else { return };
    let full = rotated_and_not_written(&lab, &gateway);
    gateway.signal("TERM");
    gateway.events("draining", 1);
    full.end();
    assert!(gateway.wait().success());
    drop(gateway);
    let Some(gateway) = lab.days_later(2) else { return };
    lets_in(&gateway, "pbx");
    assert_eq!(lab.provider.asked("refresh_token"), 2);
}

/// If the new token could not be stored, the gateway does not ask for it, so the old refresh token stays valid.
#[test]
fn on_a_full_disk_no_token_is_rotated() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(gateway) = lab.after_a_day() else { return };
    let full = Full::new(&lab);
    refuses(&gateway, "pbx", "SYS/TEMP");
    assert_eq!(lab.provider.asked("refresh_token"), 0);
    full.end();
    lets_in(&gateway, "pbx");
}

#[test]
fn a_token_revoked_just_after_it_was_given_is_replaced_once() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(gateway) = lab.after_a_day() else { return };
    lab.provider.book().stillborn = 1;
    lets_in(&gateway, "pbx");
    assert_eq!(lab.provider.asked("refresh_token"), 2);
}

#[test]
fn a_damaged_state_file_costs_no_consent() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(gateway) = lab.after_a_day() else { return };
    gateway.stop();
    std::fs::write(lab.state.path().join("state.redb"), "damaged".repeat(1_000)).unwrap();
    let Some(gateway) = lab.days_later(1) else { return };
    lets_in(&gateway, "pbx");
}

#[test]
fn a_key_that_opens_no_token_is_told_at_the_start() {
    let Some(mut lab) = Lab::new(XOAUTH2) else { return };
    let gateway = lab.by_device().start();
    lab.sign_in(&gateway, "pbx", "eva");
    gateway.stop();
    lab.key = "another key of at least 32 octets";
    let gateway = lab.by_device().table(&account("fax", "adam", "")).start();
    let told = gateway.events("a consent cannot be opened with the key that [state] names", 1);
    assert_eq!(told[0]["login"], "pbx");
    assert_eq!(told.len(), 1);
}
