//! The sign-in page in a real browser: it works in light and dark and on a narrow screen, and its rules for browsers
//! block nothing that it needs.

use super::{Lab, XOAUTH2, account, lets_in, refuses};
use crate::support::{
    chromium::Chromium,
    looks::{complains_of_no_policy, log_in, look_at},
    web::{self, Web},
};

#[test]
fn from_the_password_to_the_provider_and_back() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(chromium) = Chromium::start(lab.provider.client()) else {
        return;
    };
    let office = account(
        "voicemail-of-the-department-of-very-long-names@example.org",
        "office",
        "signed_in_as = \"anna\"",
    );
    let gateway = lab.by_code().table(&office).table(&web::table()).start();
    let url = Web::of(&gateway).url();

    // Under a foreign host name the page is not served.
    let (_, port) = url.rsplit_once(':').unwrap();
    chromium.open(&format!("http://rebound.evil.test:{port}/login"));
    assert!(chromium.text("body").contains("not served under this name"));

    chromium.open(&format!("{url}/"));
    look_at(&chromium, "log-in");
    chromium.type_into("#password", "guess");
    chromium.click("main form button");
    assert_eq!(chromium.text(".notice"), "Wrong password.");
    assert_eq!(chromium.text("label"), "Administrator password");
    assert_eq!(chromium.text("main form button"), "Log in");
    look_at(&chromium, "wrong-password");
    log_in(&chromium, &url);
    assert!(chromium.text("main").contains("not signed in yet"));
    assert!(chromium.text("main").contains("sign in as anna"));
    look_at(&chromium, "accounts");

    chromium.click("button[aria-label='Sign in: pbx']");
    chromium.type_into("input[name=user]", "eva");
    chromium.click("button[value=allow]");
    assert!(chromium.text(".notice").contains("pbx is signed in: 3 messages"));
    complains_of_no_policy(&chromium);
    look_at(&chromium, "signed-in");
    let is_plain =
        "return getComputedStyle(document.querySelector(\"button[aria-label='Sign in again: pbx']\")).backgroundColor";
    assert_eq!(
        chromium.run(is_plain),
        "rgba(0, 0, 0, 0)",
        "not the main button of a healthy account"
    );
    lets_in(&gateway, "pbx");

    chromium.click("button[aria-label='Forget: pbx']");
    assert_eq!(chromium.text("h1"), "Forget the consent for pbx?");
    look_at(&chromium, "forget");
    chromium.click("a.button");
    assert_eq!(chromium.text("header h1"), "Accounts");
    lets_in(&gateway, "pbx");
    chromium.click("button[aria-label='Forget: pbx']");
    chromium.click("button.danger");
    assert!(chromium.text(".notice").contains("pbx is forgotten"));
    refuses(&gateway, "pbx", "SYS/PERM");
    chromium.click("header button");
    assert_eq!(chromium.text("label"), "Administrator password");
    complains_of_no_policy(&chromium);
}

#[test]
fn by_a_code_that_is_typed_in_elsewhere() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(chromium) = Chromium::start(lab.provider.client()) else {
        return;
    };
    lab.provider.book().interval = 0;
    let gateway = lab.by_device().table(&web::table()).start();
    let url = Web::of(&gateway).url();
    log_in(&chromium, &url);
    chromium.click("button[aria-label='Sign in: pbx']");
    let code = chromium.text(".code");
    let text = chromium.text("main");
    assert!(text.contains("Sign in there as eva. The code is good until "), "{text}");
    look_at(&chromium, "code");
    lab.provider.approve(&code, "eva");
    // The page reloads by itself.
    assert!(chromium.text(".notice").contains("pbx is signed in: 3 messages"));
    complains_of_no_policy(&chromium);
    lets_in(&gateway, "pbx");
}
