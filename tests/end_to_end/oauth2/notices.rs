//! Consents that end, and tokens that cannot be written: the webhook gets one notice, and no other until somebody has
//! acted.

use serde_json::{Value, json};

use super::{Lab, XOAUTH2, lets_in, refuses, safety::Full};
use crate::support::{
    gateway::{Gateway, Setup},
    receiver::Receiver,
};

fn notify(setup: Setup, receiver: &Receiver) -> Setup {
    setup.table(&format!("[notify]\nwebhook = {:?}", receiver.url()))
}

/// A gateway whose clock is this number of days ahead.
fn later(lab: &Lab, receiver: &Receiver, days: u32) -> Option<Gateway> {
    Some(notify(lab.by_device(), receiver).days_ahead(days)?.start())
}

/// The notices that have come, without the fields that differ each time.
fn told(receiver: &Receiver, count: usize) -> Vec<Value> {
    let came = receiver.wait(count);
    assert_eq!(came.len(), count, "{came:?}");
    came.iter().map(|posted| posted.json()).collect()
}

#[test]
fn a_consent_that_ends_soon_is_told_once() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let receiver = Receiver::start();
    lab.consent_of(90);
    // Long before the end, shortly before it, and once more.
    for days in [60, 80, 81] {
        let Some(gateway) = later(&lab, &receiver, days) else {
            return;
        };
        lets_in(&gateway, "pbx");
        if days > 60 {
            told(&receiver, 1);
        }
        gateway.stop();
    }
    let event = &told(&receiver, 1)[0];
    let expected = (json!("consent-ending"), json!("lab"), json!(["pbx"]), json!("eva"));
    let found = (&event["event"], &event["upstream"], &event["logins"], &event["user"]);
    assert_eq!(found, (&expected.0, &expected.1, &expected.2, &expected.3));
    let text = event["text"].as_str().unwrap();
    assert!(
        text.contains("Sign in again before: run `popgate sign-in pbx`."),
        "{text}"
    );
    assert!(event["ends"].as_str().unwrap() > event["at"].as_str().unwrap());
}

#[test]
fn a_consent_that_has_ended_is_told_once_until_somebody_has_signed_in() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let receiver = Receiver::start();
    lab.consent_of(90);
    let Some(gateway) = later(&lab, &receiver, 1) else {
        return;
    };
    lab.provider.revoke("eva");
    for _ in 0..3 {
        refuses(&gateway, "pbx", "SYS/PERM");
    }
    let event = &told(&receiver, 1)[0];
    assert_eq!(
        (&event["event"], &event["user"]),
        (&json!("consent-ended"), &json!("eva"))
    );
    gateway.stop();
    let Some(gateway) = later(&lab, &receiver, 1) else {
        return;
    };
    refuses(&gateway, "pbx", "SYS/PERM");
    lab.sign_in(&gateway, "pbx", "eva");
    lets_in(&gateway, "pbx");
    gateway.stop();
    let Some(gateway) = later(&lab, &receiver, 2) else {
        return;
    };
    gateway.events("nobody needs to act any more", 1);
    lab.provider.revoke("eva");
    refuses(&gateway, "pbx", "SYS/PERM");
    let events = told(&receiver, 2);
    assert_eq!(events[1]["event"], "consent-ended");
    assert_ne!(events[0]["id"], events[1]["id"]);
    gateway.stop();
}

#[test]
fn state_that_cannot_be_written() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let receiver = Receiver::start();
    lab.consent_of(90);
    let Some(gateway) = later(&lab, &receiver, 1) else {
        return;
    };
    let full = Full::new(&lab);
    for _ in 0..2 {
        refuses(&gateway, "pbx", "SYS/TEMP");
    }
    let event = &told(&receiver, 1)[0];
    assert_eq!(event["event"], "state-failing");
    full.end();
    lets_in(&gateway, "pbx");
    gateway.stop();
    let Some(gateway) = later(&lab, &receiver, 1) else {
        return;
    };
    gateway.events("nobody needs to act any more", 1);
    gateway.stop();
    told(&receiver, 1);
}
