//! The status page in a real browser: the status of each account, and the test of a login.

use reqwest::Client;

use crate::support::{
    PASSWORD,
    answers::Answers,
    certificates::Certificates,
    chromium::Chromium,
    gateway::{Setup, account},
    looks::{complains_of_no_policy, log_in, look_at},
    mail,
    peer::Peer,
    pop::Pop,
    web::{self, Web},
};

/// base64 of NUL support@example.org NUL [`PASSWORD`]
const OF_SUPPORT: &str = "AUTHENTICATE PLAIN AHN1cHBvcnRAZXhhbXBsZS5vcmcAa2VzdHJlbC00Mi1Ib3ZlcmZseQ==";

#[test]
fn who_runs_it_sees_how_each_account_fares_and_tests_one() {
    let certificates = Certificates::ending_in(10);
    let client = Client::builder().tls_backend_preconfigured((*certificates.client()).clone());
    let Some(chromium) = Chromium::start(client.build().unwrap()) else {
        return;
    };
    let peer = Peer::start(Answers::of((1..=3).map(mail::simple)).on(
        OF_SUPPORT,
        "{tag} NO [ALERT] Application-specific password required\r\n",
    ));
    let gateway = Setup::new(peer.address())
        .certificates(&certificates)
        .listener("tls = \"off\"")
        .listener("tls = \"starttls\"")
        .table(&web::table())
        .table(&account("fax", "office@example.org"))
        .table(&account(
            "ticket-system-of-the-department-of-very-long-names",
            "support@example.org",
        ))
        .table(&account("pbx", "voicemail@example.org"))
        .start();
    for login in ["fax", "eva"] {
        Pop::log_in(gateway.address(), login).quit();
    }
    let reply =
        Pop::connect(gateway.address()).try_log_in("ticket-system-of-the-department-of-very-long-names", PASSWORD);
    assert!(reply.starts_with("-ERR ["), "{reply}");
    let _here = Pop::connect(gateway.addresses()[1]);
    let url = Web::of(&gateway).url();
    log_in(&chromium, &url);

    let text = chromium.text("main");
    for expected in [
        "office@example.org at 127.0.0.1",
        ", 3 messages",
        "failed at ",
        "Application-specific password required",
        "not polled since the gateway started",
        "in 10 days: have it renewed",
        "tls starttls · 1 session",
        "no success since the gateway started",
        "eva",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    look_at(&chromium, "status");

    // The page reloads by itself, and shows what has changed.
    let seconds = "return document.querySelector('meta[http-equiv=refresh]').content";
    assert_eq!(chromium.run(seconds), "60");
    Pop::log_in(gateway.address(), "pbx").quit();
    chromium.open(&format!("{url}/"));
    assert!(
        !chromium.text("main").contains("not polled since"),
        "{}",
        chromium.text("main")
    );

    chromium.click("button[aria-label='Test: fax']");
    assert_eq!(chromium.text("h1"), "Test of fax");
    assert_eq!(chromium.text(".notice"), "Everything works.");
    assert!(
        chromium.text("ol.steps").contains(" ms"),
        "{}",
        chromium.text("ol.steps")
    );
    look_at(&chromium, "test-good");
    chromium.click("main p a");
    assert_eq!(chromium.text("header h1"), "Accounts");

    chromium.click("button[aria-label^='Test: ticket-system']");
    assert_eq!(chromium.text(".notice"), "Something does not work.");
    let steps = chromium.text("ol.steps");
    assert!(steps.contains("Application-specific password"), "{steps}");
    look_at(&chromium, "test-bad");
    complains_of_no_policy(&chromium);
}
