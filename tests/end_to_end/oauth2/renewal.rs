//! Renewal of tokens: early, once for all logins that wait for it, and without losing a consent at any failure.

use std::thread;

use serde_json::json;

use super::{LOCAL, Lab, SignIn, XOAUTH2, lets_in, log_in_at_once, pass, refuses};
use crate::support::{
    pop::Pop,
    provider::{Hold, TOKEN_MARK, Trouble},
};

#[test]
fn a_hundred_logins_cause_one_refresh() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(gateway) = lab.after_a_day() else { return };
    log_in_at_once(&lab, [gateway.address()].into_iter().cycle().take(100));
    assert_eq!(lab.provider.asked("refresh_token"), 1);
}

#[test]
fn a_rotated_token_is_kept() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(gateway) = lab.after_a_day() else { return };
    for expected in 1..=3 {
        lets_in(&gateway, "pbx");
        assert_eq!(lab.provider.asked("refresh_token"), 1, "still good");
        if expected == 3 {
            gateway.stop();
            break;
        }
    }
    // Each day the access token is renewed by the latest refresh token. An older refresh token would end the consent.
    for days in 2..=5 {
        let Some(gateway) = lab.days_later(days) else { return };
        lets_in(&gateway, "pbx");
        gateway.stop();
        assert_eq!(lab.provider.asked("refresh_token"), days as usize);
    }
}

#[test]
fn a_provider_without_rotation_or_lifetime() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    {
        let mut book = lab.provider.book();
        (book.rotates, book.tells_lifetime) = (false, false);
    }
    let Some(gateway) = lab.after_a_day() else { return };
    lets_in(&gateway, "pbx");
    gateway.stop();
    let Some(gateway) = lab.days_later(2) else { return };
    lets_in(&gateway, "pbx");
    assert_eq!(lab.provider.asked("refresh_token"), 2);
}

/// Each response brings the only valid refresh token, so no response may be thrown away because of its form.
#[test]
fn however_an_answer_is_written_its_tokens_are_kept() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(gateway) = lab.after_a_day() else { return };
    gateway.stop();
    for (days, oddities) in (2..).zip([
        json!({ "expires_in": "3600" }),
        json!({ "expires_in": 3599.5 }),
        json!({ "expires_in": -1 }),
        json!({ "expires_in": 0 }),
        json!({ "expires_in": 1e40 }),
        json!({ "expires_in": "soon" }),
        json!({ "expires_in": [3600] }),
        json!({ "refresh_token_expires_in": "7776000" }),
        json!({ "refresh_token_expires_in": -1 }),
        json!({ "scope": ["mail"] }),
        json!({ "token_type": null }),
        json!({ "token_type": 1 }),
        json!({ "scope": null }),
    ]) {
        let Some(gateway) = lab.days_later(days) else { return };
        lab.provider.book().oddities = oddities.clone();
        let asked = lab.provider.asked("refresh_token");
        for _ in 0..2 {
            let (reply, mut pop) = pass(&gateway, "pbx");
            assert!(reply.starts_with("+OK 3 "), "{oddities}: {reply}");
            pop.ok("QUIT");
        }
        assert_eq!(lab.provider.asked("refresh_token"), asked + 1, "{oddities}");
        gateway.stop();
        // Ends the access token, because one without an end would not need a renewal the next day.
        lab.provider.end_access("eva");
    }
}

#[test]
fn an_empty_token_is_none() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    lab.provider.book().rotates = false;
    let Some(gateway) = lab.after_a_day() else { return };
    lab.provider.book().oddities = json!({ "access_token": "" });
    refuses(&gateway, "pbx", "SYS/TEMP");
    gateway.stop();
    for days in 2..4 {
        lab.provider.book().oddities = json!({ "refresh_token": "" });
        let Some(gateway) = lab.days_later(days) else { return };
        lets_in(&gateway, "pbx");
    }
}

#[test]
fn what_a_provider_repeats_of_a_token_is_not_told() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(gateway) = lab.after_a_day() else { return };
    let echo = Trouble::Echo("invalid_grant", &["refresh_token"]);
    lab.provider.book().troubles.push_back(echo);
    refuses(&gateway, "pbx", "SYS/PERM");
    let list = SignIn::begin(&gateway.file(), &["--list"]).succeed();
    assert!(
        list.contains("invalid refresh_token: …") && !list.contains(TOKEN_MARK),
        "{list}"
    );
}

#[test]
fn no_trouble_of_the_provider_discards_a_consent() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(gateway) = lab.after_a_day() else { return };
    gateway.stop();
    for trouble in [
        Trouble::Status(500),
        Trouble::Status(503),
        Trouble::Status(429),
        Trouble::Status(404),
        Trouble::Refusal("temporarily_unavailable", "later"),
        Trouble::Refusal("server_error", ""),
    ] {
        let Some(gateway) = lab.days_later(1) else { return };
        lab.provider.book().troubles.push_back(trouble.clone());
        let asked = lab.provider.asked("refresh_token");
        refuses(&gateway, "pbx", "SYS/TEMP");
        // The provider is not asked again for a moment.
        refuses(&gateway, "pbx", "SYS/TEMP");
        assert_eq!(lab.provider.asked("refresh_token"), asked + 1, "{trouble:?}");
        let list = SignIn::begin(&gateway.file(), &["--list"]).succeed();
        assert!(list.contains("the provider is not available"), "{trouble:?}: {list}");
        gateway.stop();
    }
    let Some(gateway) = lab.days_later(1) else { return };
    lets_in(&gateway, "pbx");
    let list = SignIn::begin(&gateway.file(), &["--list"]).succeed();
    assert!(!list.contains("not available"), "{list}");
}

#[test]
fn a_client_that_is_refused_keeps_the_consent() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(gateway) = lab.after_a_day() else { return };
    let expired = "AADSTS7000222: The provided client secret keys for app 'x' are expired.";
    lab.provider
        .book()
        .troubles
        .push_back(Trouble::Refusal("invalid_client", expired));
    refuses(&gateway, "pbx", "SYS/PERM");
    let told = gateway.events("popgate got no token", 1);
    let why = told[0]["error"].as_str().unwrap();
    assert!(why.starts_with("The application's client secret has expired"), "{why}");
    gateway.stop();
    let Some(gateway) = lab.days_later(1) else { return };
    lets_in(&gateway, "pbx");
}

#[test]
fn a_consent_that_has_ended_is_told_of_once() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(gateway) = lab.after_a_day() else { return };
    lab.provider.revoke("eva");
    for _ in 0..3 {
        refuses(&gateway, "pbx", "SYS/PERM");
    }
    assert_eq!(lab.provider.asked("refresh_token"), 1, "it is not asked again");
    let message = "the consent has ended: somebody must sign in again (popgate sign-in)";
    let told = gateway.events(message, 1);
    assert_eq!((told.len(), told[0]["level"].as_str().unwrap()), (1, "ERROR"));
    assert!(told[0]["error"].as_str().unwrap().contains("last 7 days"), "{told:?}");
    let list = SignIn::begin(&gateway.file(), &["--list"]).succeed();
    assert!(
        list.contains("needs a new sign-in since ") && list.contains("(popgate sign-in pbx)"),
        "{list}"
    );
    // The sign-in runs beside the gateway. The gateway's clock is a day ahead, so it renews the new token at once.
    lab.sign_in(&gateway, "pbx", "eva");
    lets_in(&gateway, "pbx");
    assert_eq!(gateway.events(message, 1).len(), 1);
}

#[test]
fn a_wrong_password_of_a_device_touches_no_token() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(gateway) = lab.after_a_day() else { return };
    let logins = lab.bearer.seen().len();
    let mut pop = Pop::connect(gateway.address());
    let reply = pop.try_log_in("pbx", "4321");
    assert!(reply.starts_with("-ERR [AUTH] "), "{reply}");
    assert_eq!(lab.provider.asked("refresh_token"), 0);
    assert_eq!(lab.bearer.seen().len(), logins);
}

#[test]
fn a_token_that_ends_before_its_time_is_replaced() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    lab.provider.book().lifetime = 7 * 24 * 3600;
    let Some(gateway) = lab.after_a_day() else { return };
    lab.provider.end_access("eva");
    lets_in(&gateway, "pbx");
    assert_eq!(lab.provider.asked("refresh_token"), 1);
    let seen = lab.bearer.seen();
    assert_eq!(seen[seen.len() - 2..], ["XOAUTH2 eva out", "XOAUTH2 eva in"]);
    // If a token is refused just after it was issued, the gateway does not ask for another again and again.
    lab.provider.end_access("eva");
    refuses(&gateway, "pbx", "SYS/PERM");
    assert_eq!(lab.provider.asked("refresh_token"), 1);
}

/// The gateway is killed before the provider has processed the request, after it has rotated the token but before it
/// answers, and at random points. The chain of refresh tokens must go on each time.
#[test]
fn killed_around_a_rotation() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(gateway) = lab.after_a_day() else { return };
    gateway.stop();
    let mut days = 1;
    for hold in [Hold::Before, Hold::After].repeat(4) {
        days += 1;
        let Some(mut gateway) = lab.days_later(days) else {
            return;
        };
        lab.provider.book().hold = hold;
        let mut device = Pop::connect(gateway.address());
        device.send(format!("USER pbx\r\nPASS {LOCAL}\r\n").as_bytes());
        lab.provider.wait_held(1);
        gateway.signal("KILL");
        gateway.wait();
        drop(device);
        lab.provider.release();
        let Some(gateway) = lab.days_later(days) else { return };
        lets_in(&gateway, "pbx");
        gateway.stop();
    }
    // At some point between the answer and its use.
    for round in 0..30 {
        days += 1;
        let Some(mut gateway) = lab.days_later(days) else {
            return;
        };
        let mut pop = Pop::connect(gateway.address());
        let before = lab.provider.asked("refresh_token");
        pop.send(format!("USER pbx\r\nPASS {LOCAL}\r\n").as_bytes());
        while lab.provider.asked("refresh_token") == before {
            thread::yield_now();
        }
        for _ in 0..round * 2000 {
            std::hint::spin_loop();
        }
        gateway.signal("KILL");
        gateway.wait();
        let Some(gateway) = lab.days_later(days) else { return };
        let (reply, _) = pass(&gateway, "pbx");
        assert!(reply.starts_with("+OK 3 "), "round {round}: {reply}");
        gateway.stop();
    }
}

/// When the new access token is used, the old refresh token ends, so the new refresh token must be stored before that.
#[test]
fn killed_at_the_first_use_of_what_a_rotation_brought() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(gateway) = lab.after_a_day() else { return };
    gateway.stop();
    for days in 2..=4 {
        let start = || lab.days_later(days);
        let Some(mut gateway) = start() else { return };
        let (asked, logins) = (lab.provider.asked("refresh_token"), lab.bearer.seen().len());
        lab.bearer.be_silent(true);
        let mut device = Pop::connect(gateway.address());
        device.send(format!("USER pbx\r\nPASS {LOCAL}\r\n").as_bytes());
        lab.bearer.wait_seen(logins + 1);
        gateway.signal("KILL");
        gateway.wait();
        lab.bearer.be_silent(false);
        let Some(gateway) = start() else { return };
        lets_in(&gateway, "pbx");
        assert_eq!(lab.provider.asked("refresh_token"), asked + 1, "it was kept");
        gateway.stop();
    }
}

#[test]
fn another_key_opens_no_token() {
    let Some(mut lab) = Lab::new(XOAUTH2) else { return };
    let gateway = lab.by_device().start();
    lab.sign_in(&gateway, "pbx", "eva");
    let text = std::fs::read_to_string(gateway.file()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text.replace(lab.key, "another key of at least 32 octets")).unwrap();
    let list = SignIn::begin(file.path(), &["--list"]).succeed();
    assert!(list.contains("sealed with another key"), "{list}");
    lets_in(&gateway, "pbx");
    gateway.stop();
    let stored = std::fs::read(lab.state.path().join("state.redb")).unwrap();
    let mark = crate::support::provider::TOKEN_MARK.as_bytes();
    assert!(
        !stored.windows(mark.len()).any(|window| window == mark),
        "a token in the file"
    );
    // A gateway with another key says so, and leaves the stored token as it is.
    let sealed_with = std::mem::replace(&mut lab.key, "another key of at least 32 octets");
    let gateway = lab.by_device().start();
    refuses(&gateway, "pbx", "SYS/PERM");
    let told = gateway.events("the upstream failed", 1);
    let why = told[0]["error"].as_str().unwrap();
    assert!(why.contains("sealed with another key"), "{why}");
    gateway.stop();
    lab.key = sealed_with;
    lets_in(&lab.by_device().start(), "pbx");
}
