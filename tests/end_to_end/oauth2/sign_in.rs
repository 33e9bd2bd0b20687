//! `popgate sign-in` beside a running gateway: by device code, by browser, and by a pasted URL.

use std::time::{Duration, Instant};

use super::{Lab, SignIn, XOAUTH2, account, lets_in, refuses};
use crate::support::{
    bearer::Offer,
    process::free_port,
    provider::{Hold, Provider, TOKEN_MARK},
};

#[test]
fn by_a_code_beside_a_running_gateway() {
    for (words, seen) in [
        ("SASL-IR AUTH=XOAUTH2", "XOAUTH2 eva in"),
        ("AUTH=XOAUTH2", "XOAUTH2 eva in"),
        ("AUTH=PLAIN SASL-IR AUTH=XOAUTH2 AUTH=OAUTHBEARER", "OAUTHBEARER eva in"),
        ("AUTH=OAUTHBEARER", "OAUTHBEARER eva in"),
    ] {
        let offer = Offer { words, shared: None };
        let Some(lab) = Lab::new(offer) else { return };
        let gateway = lab.by_device().start();
        refuses(&gateway, "pbx", "SYS/PERM");
        let list = SignIn::begin(&gateway.file(), &["--list"]).succeed();
        assert!(
            list.contains("pbx → eva at 127.0.0.1: not signed in yet (popgate sign-in pbx)"),
            "{list}"
        );

        let printed = lab.sign_in(&gateway, "pbx", "eva");
        assert!(printed.contains("https://provider.test/device\n"), "{printed}");
        assert!(printed.contains("pbx: the mailbox opens, 3 messages of "), "{printed}");
        assert!(printed.contains("pbx: signed in on "), "{printed}");
        assert!(!printed.contains(TOKEN_MARK), "{printed}");
        lets_in(&gateway, "pbx");
        assert_eq!(lab.bearer.seen(), [seen, seen]);
        let list = SignIn::begin(&gateway.file(), &["--list"]).succeed();
        assert!(list.contains("pbx → eva at 127.0.0.1: signed in on "), "{list}");
        assert!(list.contains(", renewed by itself\n"), "{list}");
    }
}

#[test]
fn with_no_gateway_running() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let gateway = lab.by_device().start();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(gateway.file(), file.path()).unwrap();
    gateway.stop();
    let mut command = SignIn::begin(file.path(), &["pbx"]);
    let code = command.code();
    lab.provider.approve(&code, "eva");
    command.succeed();
    lets_in(&lab.by_device().start(), "pbx");
}

#[test]
fn a_code_that_comes_to_nothing() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let gateway = lab.by_device().start();
    type Decide = fn(&Provider, &str);
    for (decide, says) in [
        (Provider::deny as Decide, "The sign-in was declined."),
        (Provider::expire, "The code has expired"),
        (
            |provider, code| provider.approve(code, "adam"),
            "the mailbox does not open",
        ),
    ] {
        let mut command = SignIn::begin(&gateway.file(), &["pbx"]);
        let code = command.code();
        decide(&lab.provider, &code);
        let printed = command.fail();
        assert!(printed.contains(says), "{printed}");
        refuses(&gateway, "pbx", "SYS/PERM");
    }
    // If the provider says `slow_down`, the command asks less often, and goes on.
    let mut command = SignIn::begin(&gateway.file(), &["pbx"]);
    let code = command.code();
    lab.provider.slow_down(&code);
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    let before = lab.provider.asked(grant);
    lab.provider.approve(&code, "eva");
    command.succeed();
    assert!(lab.provider.asked(grant) > before);
}

#[test]
fn a_server_that_takes_no_tokens() {
    let passwords = Offer {
        words: "AUTH=PLAIN",
        shared: None,
    };
    let Some(lab) = Lab::new(passwords) else { return };
    let gateway = lab.by_device().start();
    let mut command = SignIn::begin(&gateway.file(), &["pbx"]);
    let code = command.code();
    lab.provider.approve(&code, "eva");
    let printed = command.fail();
    assert!(printed.contains("upstream offers no way to log in here"), "{printed}");
    assert!(printed.contains("neither OAUTHBEARER nor XOAUTH2"), "{printed}");
}

#[test]
fn a_key_signs_each_question_for_a_codes_token_anew() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let file = lab.key_file();
    let gateway = lab
        .setup(&format!(
            "device_url = {:?}\nscopes = [\"mail\"]\nprivate_key_file = {file:?}\nkey_id = \"k1\"",
            lab.provider.url("/device")
        ))
        .start();
    // The first token request is processed before the person has typed in the code.
    lab.provider.book().hold = Hold::After;
    let mut command = SignIn::begin(&gateway.file(), &["pbx"]);
    let code = command.code();
    lab.provider.wait_held(1);
    lab.provider.approve(&code, "eva");
    lab.provider.release();
    command.succeed();
    lets_in(&gateway, "pbx");
}

#[test]
fn a_provider_that_names_no_pause_is_asked_once_a_second() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    lab.provider.book().interval = 0;
    let gateway = lab.by_device().start();
    let begun = Instant::now();
    let mut command = SignIn::begin(&gateway.file(), &["pbx"]);
    let code = command.code();
    lab.provider
        .wait_asked("urn:ietf:params:oauth:grant-type:device_code", 3);
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    lab.provider.approve(&code, "eva");
    command.succeed();
}

/// Follows a redirect, as a browser does. Returns the status and the page.
fn follow(provider: &Provider, location: &str) -> (u16, String) {
    let (status, _, page) = provider.browse(provider.client().get(location));
    (status, page)
}

#[test]
fn by_a_browser_that_comes_back() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let gateway = lab.by_code().start();
    let mut command = SignIn::begin(&gateway.file(), &["pbx"]);
    let url = format!("https://{}", command.after("https://"));
    let back = lab.provider.consent(&url, "eva", true);
    // A request with another `state` is not taken for the answer.
    let forged = back.replace("state=", "state=x");
    assert_eq!(follow(&lab.provider, &forged).0, 404);
    let (status, page) = follow(&lab.provider, &back);
    assert_eq!(
        (status, page.as_str()),
        (200, "popgate has its answer. You may close this page.")
    );
    let printed = command.succeed();
    assert!(printed.contains("pbx: the mailbox opens, 3 messages"), "{printed}");
    lets_in(&gateway, "pbx");
}

#[test]
fn by_an_address_that_is_pasted() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let gateway = lab.by_code().start();
    let mut command = SignIn::begin(&gateway.file(), &["pbx"]);
    let url = format!("https://{}", command.after("https://"));
    let back = lab.provider.consent(&url, "eva", true);
    command.paste("http://localhost/?state=guess&code=guess");
    command.paste("");
    command.paste(&back);
    let printed = command.succeed();
    assert!(printed.contains("That is not it"), "{printed}");
    lets_in(&gateway, "pbx");

    let mut command = SignIn::begin(&gateway.file(), &["pbx"]);
    let url = format!("https://{}", command.after("https://"));
    command.paste(&lab.provider.consent(&url, "eva", false));
    let printed = command.fail();
    assert!(printed.contains("The sign-in was declined."), "{printed}");
    lets_in(&gateway, "pbx");
}

#[test]
fn a_consent_that_is_forgotten() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let gateway = lab.by_device().start();
    lab.sign_in(&gateway, "pbx", "eva");
    lets_in(&gateway, "pbx");
    let printed = SignIn::begin(&gateway.file(), &["--forget", "pbx"]).succeed();
    assert!(printed.contains("pbx: forgotten"), "{printed}");
    refuses(&gateway, "pbx", "SYS/PERM");
    let printed = SignIn::begin(&gateway.file(), &["--forget", "pbx"]).succeed();
    assert!(printed.contains("no consent was kept"), "{printed}");
    let printed = SignIn::begin(&gateway.file(), &["nobody"]).fail();
    assert!(printed.contains("no [[account]] has the login nobody"), "{printed}");
}

#[test]
fn one_persons_consent_for_shared_mailboxes() {
    let shared = Offer {
        words: "SASL-IR AUTH=XOAUTH2",
        shared: Some("office"),
    };
    let Some(lab) = Lab::new(shared) else { return };
    lab.dovecot.user_with(
        "office",
        &["Subject: 1\r\n\r\n1", "Subject: 2\r\n\r\n2", "Subject: 3\r\n\r\n3"],
    );
    let office = account("office", "office", "signed_in_as = \"eva\"");
    let gateway = lab.by_device().table(&office).start();
    let printed = lab.sign_in(&gateway, "office", "eva");
    let as_whom = "Sign in there as eva, who may read the mailbox of office.";
    assert!(printed.contains(as_whom), "{printed}");
    lets_in(&gateway, "pbx");
    lets_in(&gateway, "office");
    assert_eq!(lab.bearer.seen().last().unwrap(), "XOAUTH2 office in");
}

/// During the trial of the mailbox, the first access token ends, and renewing it uses up the first refresh token. The
/// renewed tokens must be stored.
#[test]
fn what_the_trial_was_given_is_what_is_kept() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    {
        let mut book = lab.provider.book();
        (book.grace, book.stillborn) = (Some(Duration::ZERO), 1);
    }
    let gateway = lab.by_device().start();
    let printed = lab.sign_in(&gateway, "pbx", "eva");
    assert!(printed.contains("pbx: the mailbox opens, 3 messages"), "{printed}");
    assert_eq!(lab.provider.asked("refresh_token"), 1);
    lets_in(&gateway, "pbx");
    gateway.stop();
    let Some(gateway) = lab.days_later(1) else { return };
    lets_in(&gateway, "pbx");
    assert_eq!(lab.provider.asked("refresh_token"), 2);
}

#[test]
fn a_sign_in_without_a_refresh_token_replaces_none_that_has_one() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let gateway = lab.by_device().start();
    lab.provider.book().oddities = serde_json::json!({ "refresh_token": null });
    let printed = lab.sign_in(&gateway, "pbx", "eva");
    assert!(
        printed.contains("cannot be renewed")
            && printed.contains("offline_access")
            && !printed.contains("renewed by itself"),
        "{printed}"
    );
    lab.provider.book().oddities = serde_json::json!({});
    lab.sign_in(&gateway, "pbx", "eva");
    lab.provider.book().oddities = serde_json::json!({ "refresh_token": null });
    let printed = lab.sign_in(&gateway, "pbx", "eva");
    assert!(
        printed.contains("no refresh token") && printed.contains("renewed by itself"),
        "{printed}"
    );
    gateway.stop();
    lab.provider.book().oddities = serde_json::json!({});
    let Some(gateway) = lab.days_later(1) else { return };
    lets_in(&gateway, "pbx");
}

#[test]
fn a_scope_that_was_not_granted_is_named() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let gateway = lab.by_device().start();
    lab.provider.book().oddities = serde_json::json!({ "scope": "openid profile" });
    let printed = lab.sign_in(&gateway, "pbx", "eva");
    assert!(printed.contains("pbx: The provider did not grant mail."), "{printed}");
    let mut command = SignIn::begin(&gateway.file(), &["pbx"]);
    let code = command.code();
    lab.provider.approve(&code, "adam");
    let printed = command.fail();
    assert!(
        printed.contains("the provider did not grant mail: allow it"),
        "{printed}"
    );
    lets_in(&gateway, "pbx");
}

/// If the trial fails because the server is down, the sign-in is not lost.
#[test]
fn a_consent_for_a_server_that_is_down_is_kept() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let gateway = lab.by_device().start();
    let file = tempfile::NamedTempFile::new().unwrap();
    let nowhere = free_port();
    let text = std::fs::read_to_string(gateway.file()).unwrap();
    let port = format!("port = {}", lab.bearer.address().port());
    assert!(text.contains(&port));
    std::fs::write(file.path(), text.replace(&port, &format!("port = {nowhere}"))).unwrap();
    let mut command = SignIn::begin(file.path(), &["pbx"]);
    let code = command.code();
    lab.provider.approve(&code, "eva");
    let printed = command.fail();
    assert!(printed.contains("the consent is kept"), "{printed}");
    lets_in(&gateway, "pbx");
}

/// Yandex, Mail.ru and Yahoo compare the redirect URL octet for octet. Yandex shows a code on its own page.
#[test]
fn a_redirect_url_that_is_matched_exactly() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let shown = "https://provider.test/verification_code";
    let here = format!("http://localhost:{}/back", free_port());
    lab.provider.book().redirects = vec![shown.to_owned(), here.clone()];
    for (redirect, by_code) in [(shown, true), (shown, false), (here.as_str(), false)] {
        let gateway = lab.by_code_with(&format!("redirect_url = {redirect:?}")).start();
        let mut command = SignIn::begin(&gateway.file(), &["pbx"]);
        let url = format!("https://{}", command.after("https://"));
        let back = lab.provider.consent(&url, "eva", true);
        assert!(back.starts_with(redirect), "{back}");
        let (_, code) = back.split_once("code=").unwrap();
        match by_code {
            true => command.paste(code.split('&').next().unwrap()),
            false if redirect == here => assert_eq!(follow(&lab.provider, &back).0, 200),
            false => command.paste(&back),
        }
        command.succeed();
        lets_in(&gateway, "pbx");
        let printed = SignIn::begin(&gateway.file(), &["--forget", "pbx"]).succeed();
        assert!(printed.contains("forgotten"), "{printed}");
    }
}

#[test]
fn a_consent_that_opens_nothing_is_revoked() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let revoke = format!("revoke_url = {:?}", lab.provider.url("/revoke"));
    let gateway = lab
        .setup(&format!(
            "device_url = {:?}\nscopes = [\"mail\"]\n{revoke}",
            lab.provider.url("/device")
        ))
        .start();
    let fail = || {
        let mut command = SignIn::begin(&gateway.file(), &["pbx"]);
        let code = command.code();
        lab.provider.approve(&code, "adam");
        command.fail()
    };
    let printed = fail();
    assert!(printed.contains("the consent is revoked"), "{printed}");
    assert_eq!(lab.provider.book().revoked.len(), 1);
    // If there is a consent already, the new one is not revoked: both may be of the same person, and would end
    // together.
    lab.sign_in(&gateway, "pbx", "eva");
    let printed = fail();
    assert!(printed.contains("may be withdrawn at the provider"), "{printed}");
    assert_eq!(lab.provider.book().revoked.len(), 1);
    lets_in(&gateway, "pbx");
}
