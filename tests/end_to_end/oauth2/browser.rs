//! The sign-in page in a real browser: that it can be used, in light and dark and on a narrow screen, and that its rules for
//! browsers keep nobody from using it.

use std::path::Path;

use serde_json::json;

use super::{Lab, XOAUTH2, account, lets_in, refuses};
use crate::support::{chromium::Chromium, gateway::Gateway};

const ADMIN: &str = "the page's own";

fn page_url(gateway: &Gateway) -> String {
    let event = &gateway.events("sign-in page", 1)[0];
    format!("http://{}", event["address"].as_str().unwrap())
}

fn log_in(chromium: &Chromium, url: &str) {
    chromium.open(&format!("{url}/"));
    chromium.type_into("#password", ADMIN);
    chromium.click("main form button");
    chromium.text("header h1");
}

/// Nothing sticks out or is cut off, times stand on one line, and every text can be read (WCAG 2.1 §1.4.3).
const FAULTS: &str = r"
    const faults = [];
    const root = document.documentElement;
    if (root.scrollWidth > root.clientWidth) faults.push(`wider than the window: ${root.scrollWidth}`);
    for (const time of document.querySelectorAll('time'))
        if (time.getClientRects().length !== 1) faults.push(`broken: ${time.innerText}`);
    const parse = text => (text.match(/[\d.]+/g) || []).map(Number);
    const light = text => {
        const [r, g, b] = parse(text).map(c => c / 255).map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = element => {
        for (; element; element = element.parentElement) {
            const colour = getComputedStyle(element).backgroundColor;
            const [, , , alpha] = parse(colour);
            if (alpha !== 0) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    for (const element of document.querySelectorAll('body *')) {
        if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
        const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) faults.push(`contrast ${ratio.toFixed(2)}: ${element.innerText}`);
    }
    return faults;";

/// Looks at the page as it is in each way, and leaves pictures of it in the build's directory.
#[track_caller]
fn look_at(chromium: &Chromium, name: &str) {
    for (way, width, scheme) in [
        ("light", 1000, "light"),
        ("dark", 1000, "dark"),
        ("narrow", 360, "light"),
    ] {
        chromium.look(width, scheme);
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("screenshots/{name}-{way}.png"));
        chromium.screenshot(&file);
        assert_eq!(chromium.run(FAULTS), json!([]), "{name}, {way}");
    }
    chromium.look(1000, "light");
}

#[track_caller]
fn complains_of_no_policy(chromium: &Chromium) {
    let complaints = chromium.complaints();
    let policy: Vec<_> = complaints
        .iter()
        .filter(|complaint| complaint.contains("Content Security Policy") && !complaint.contains("favicon"))
        .collect();
    assert!(policy.is_empty(), "{policy:?}");
}

#[test]
fn from_the_password_to_the_provider_and_back() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(chromium) = Chromium::start(lab.provider.client()) else {
        return;
    };
    let web = format!("[web]\naddress = \"127.0.0.1:0\"\nadmin_password = \"{ADMIN}\"");
    let office = account(
        "voicemail-of-the-department-of-very-long-names@example.org",
        "office",
        "signed_in_as = \"anna\"",
    );
    let gateway = lab.by_code().table(&office).table(&web).start();
    let url = page_url(&gateway);

    // Under a name of somebody else's it is not there.
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
    let web = format!("[web]\naddress = \"127.0.0.1:0\"\nadmin_password = \"{ADMIN}\"");
    let gateway = lab.by_device().table(&web).start();
    let url = page_url(&gateway);
    log_in(&chromium, &url);
    chromium.click("button[aria-label='Sign in: pbx']");
    let code = chromium.text(".code");
    let text = chromium.text("main");
    assert!(text.contains("Sign in there as eva. The code is good until "), "{text}");
    look_at(&chromium, "code");
    lab.provider.approve(&code, "eva");
    // The page looks by itself.
    assert!(chromium.text(".notice").contains("pbx is signed in: 3 messages"));
    complains_of_no_policy(&chromium);
    lets_in(&gateway, "pbx");
}
