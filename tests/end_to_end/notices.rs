//! Notices by webhook: each event is reported once, even if the receiver fails.

use std::{
    fmt::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    PASSWORD,
    answers::Answers,
    certificates::Certificates,
    dovecot::Dovecot,
    gateway::{Gateway, Setup, account},
    mail,
    peer::{Peer, Steps},
    pop::Pop,
    process::free_port,
    receiver::Receiver,
};

const SECRET: &str = "the receiver's own secret";

/// `setup` with notices to `receiver`.
fn notify(setup: Setup, receiver: &Receiver) -> Setup {
    setup.table(&format!(
        "[notify]\nwebhook = {:?}\nwebhook_secret = {SECRET:?}",
        receiver.url()
    ))
}

fn keep(setup: Setup, state: &TempDir) -> Setup {
    setup.table(&format!("[state]\ndir = {:?}", state.path()))
}

/// A gateway with these certificates, whose upstream is not used.
fn with_certificates(certificates: &[&Certificates], receiver: &Receiver, state: Option<&TempDir>) -> Gateway {
    let upstream = Setup::new(([127, 0, 0, 1], free_port()).into());
    let mut tables = String::new();
    for (number, certificates) in certificates.iter().enumerate() {
        let (leaf, key) = (certificates.leaf_file(), certificates.key_file());
        let names = format!("names = [\"host{number}.example.org\"]");
        writeln!(tables, "[[tls]]\ncertificate = {leaf:?}\nkey = {key:?}\n{names}").unwrap();
    }
    let setup = notify(upstream.table(&tables), receiver).listener("tls = \"implicit\"");
    let setup = match state {
        Some(state) => keep(setup, state),
        None => setup,
    };
    setup.start()
}

fn file_of(posted: &crate::support::receiver::Posted) -> String {
    posted.json()["file"].as_str().unwrap().to_owned()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn a_receiver_that_fails_at_first_is_told_once() {
    let (state, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
    let (first, second) = (Certificates::ending_in(20), Certificates::ending_in(10));
    receiver.answer(&[500, 302]);
    let gateway = with_certificates(&[&first, &Certificates::new()], &receiver, Some(&state));
    let came = receiver.wait(3);
    assert_eq!(
        came.iter().map(|posted| posted.status).collect::<Vec<_>>(),
        [500, 302, 200]
    );
    for posted in &came {
        assert_eq!(posted.json(), came[0].json(), "the same each time");
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let signed = posted.signed_at(SECRET).expect("the right signature");
        assert!((now - 60..=now).contains(&signed));
        assert_eq!(posted.signed_at("another secret"), None);
    }
    let told = came[0].json();
    assert_eq!(
        (&told["event"], &told["file"]),
        (&json!("certificate-ending"), &json!(shown(&first.leaf_file())))
    );
    let text = told["text"].as_str().unwrap();
    assert!(text.contains("in 20 days: have it renewed"), "{text}");
    assert!(told["at"].as_str().unwrap().ends_with('Z') && told["id"].as_str().unwrap().len() == 32);
    gateway.events("the webhook does not take a notice: popgate tries again", 2);
    gateway.stop();
    // After a restart only new events are reported.
    let gateway = with_certificates(&[&first, &second], &receiver, Some(&state));
    let came = receiver.wait(4);
    assert_eq!((file_of(&came[3]), receiver.count()), (shown(&second.leaf_file()), 4));
    gateway.stop();
    // An event that has been mended is reported again if it comes back.
    let gateway = with_certificates(&[&second], &receiver, Some(&state));
    gateway.events("nobody needs to act any more", 1);
    gateway.stop();
    let gateway = with_certificates(&[&second, &first], &receiver, Some(&state));
    let came = receiver.wait(5);
    assert_eq!((file_of(&came[4]), receiver.count()), (shown(&first.leaf_file()), 5));
    assert_ne!(came[4].json()["id"], came[0].json()["id"], "another event");
    gateway.stop();
}

#[test]
fn what_was_not_sent_is_sent_after_a_restart() {
    let (state, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
    let certificates = Certificates::ending_in(20);
    receiver.answer(&[503; 100]);
    let gateway = with_certificates(&[&certificates], &receiver, Some(&state));
    receiver.wait(2);
    gateway.stop();
    let failed = receiver.count();
    receiver.answer(&[]);
    let gateway = with_certificates(&[&certificates], &receiver, Some(&state));
    let came = receiver.wait(failed + 1);
    assert_eq!((came[failed].status, came[failed].json()), (200, came[0].json()));
    gateway.stop();
    assert_eq!(receiver.count(), failed + 1);
}

#[test]
fn without_state_the_log_has_what_was_not_sent() {
    let receiver = Receiver::start();
    receiver.answer(&[503; 100]);
    let certificates = Certificates::ending_in(20);
    let mut gateway = with_certificates(&[&certificates], &receiver, None);
    receiver.wait(1);
    gateway.signal("TERM");
    assert!(gateway.wait().success());
    let lost = gateway.events("a notice was not sent", 1);
    assert_eq!(
        (&lost[0]["event"], &lost[0]["level"]),
        (&json!("certificate-ending"), &json!("ERROR"))
    );
}

#[test]
fn tls_that_only_the_configuration_trusts() {
    let (authority, another) = (Certificates::new(), Certificates::new());
    let ending = Certificates::ending_in(3);
    let start = |receiver: &Receiver| {
        let notify = format!(
            "[notify]\nwebhook = {:?}\nwebhook_ca_file = {:?}",
            receiver.url(),
            authority.authority_file()
        );
        let upstream = Setup::new(([127, 0, 0, 1], free_port()).into());
        let setup = upstream.certificates(&ending).table(&notify);
        setup.listener("tls = \"implicit\"").start()
    };
    let receiver = Receiver::start_tls(&authority);
    let gateway = start(&receiver);
    let came = receiver.wait(1);
    assert!(came[0].event() == "certificate-ending" && came[0].signed_at(SECRET).is_none());
    gateway.stop();
    // Nothing is sent to a receiver whose certificate is not trusted.
    let receiver = Receiver::start_tls(&another);
    let gateway = start(&receiver);
    gateway.events("the webhook does not take a notice: popgate tries again", 1);
    gateway.stop();
    assert_eq!(receiver.count(), 0);
}

const HOUR: Duration = Duration::from_secs(3600);

fn fails(gateway: &Gateway, login: &str, with: &str) {
    let reply = Pop::connect(gateway.address()).try_log_in(login, PASSWORD);
    assert!(reply.starts_with(&format!("-ERR [{with}]")), "{reply}");
}

#[test]
fn a_login_that_fails_for_an_hour() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.user_with("eva", &[mail::simple(1)]);
    let receiver = Receiver::start();
    let wrong = account("pbx@example.org", "eva").replace(
        &format!("upstream_password = {PASSWORD:?}"),
        "upstream_password = \"changed since\"",
    );
    let setup = Setup::new(dovecot.address()).table(&wrong);
    let Some(setup) = notify(setup, &receiver).movable_clock() else {
        return;
    };
    let gateway = setup.start();
    // However a device writes it, it is one login.
    fails(&gateway, "pbx@EXAMPLE.org", "AUTH");
    // Neither a guess nor a login that works is reported.
    let guess = Pop::connect(gateway.address()).try_log_in("pbx@example.org", "guess");
    assert!(guess.starts_with("-ERR [AUTH]"), "{guess}");
    Pop::log_in(gateway.address(), "eva").quit();
    gateway.pass(HOUR - Duration::from_secs(60));
    fails(&gateway, "pbx@example.org", "AUTH");
    gateway.pass(HOUR + Duration::from_secs(60));
    Pop::log_in(gateway.address(), "eva").quit();
    fails(&gateway, "pbx@example.org", "AUTH");
    fails(&gateway, "pbx@example.org", "AUTH");
    let told = receiver.wait(1)[0].json();
    assert_eq!(
        (&told["event"], &told["logins"], &told["upstream"]),
        (&json!("login-failing"), &json!(["pbx@example.org"]), &json!("lab"))
    );
    let text = told["text"].as_str().unwrap();
    assert!(
        text.contains("the upstream refused login or password") && text.contains("`popgate doctor pbx@example.org`"),
        "{text}"
    );
    gateway.stop();
    assert_eq!(receiver.count(), 1);
}

#[test]
fn an_upstream_that_is_down_for_an_hour_is_one_event() {
    let receiver = Receiver::start();
    let setup = Setup::new(([127, 0, 0, 1], free_port()).into());
    let Some(setup) = notify(setup, &receiver).movable_clock() else {
        return;
    };
    let gateway = setup.start();
    for login in ["eva", "adam", "otto"] {
        fails(&gateway, login, "SYS/TEMP");
    }
    gateway.pass(HOUR + Duration::from_secs(60));
    for login in ["eva", "adam", "otto"] {
        fails(&gateway, login, "SYS/TEMP");
    }
    let told = receiver.wait(1)[0].json();
    assert_eq!(
        (&told["event"], &told["upstream"]),
        (&json!("upstream-failing"), &json!("lab"))
    );
    assert_eq!(told.get("logins"), None);
    gateway.stop();
    assert_eq!(receiver.count(), 1);
}

#[test]
fn a_message_that_is_not_delivered_until_it_is() {
    let receiver = Receiver::start();
    let is_good = Arc::new(AtomicBool::new(false));
    let switch = is_good.clone();
    let answers = Answers::of((1..=3).map(mail::simple))
        .on("UID SEARCH UID 2", "* SEARCH 2\r\n{tag} OK done\r\n")
        .answer(move |command| {
            let is_refused = command.starts_with("UID FETCH 2 (UID BODY") && !switch.load(Ordering::Relaxed);
            is_refused.then(|| "{tag} NO it cannot be converted\r\n".steps())
        });
    let peer = Peer::start(answers);
    let state = tempfile::tempdir().unwrap();
    let gateway = notify(keep(Setup::new(peer.address()), &state), &receiver).start();
    let session = |works: bool| {
        let mut pop = Pop::log_in(gateway.address(), "eva");
        if works {
            pop.retr(2);
        } else {
            pop.err("RETR 2", "-ERR [SYS/TEMP]");
        }
        pop.quit();
    };
    session(false);
    for _ in 0..2 {
        session(true);
    }
    let told = receiver.wait(1)[0].json();
    assert_eq!(
        (&told["event"], &told["upstream"], &told["logins"]),
        (&json!("message-undelivered"), &json!("lab"), &json!(["eva"]))
    );
    let text = told["text"].as_str().unwrap();
    assert!(text.contains("of eva: UID 2 in the folder INBOX"), "{text}");
    assert!(
        !receiver.wait(1)[0].body.windows(8).any(|part| part == b"number 2"),
        "not what the mail is about"
    );
    is_good.store(true, Ordering::Relaxed);
    session(true);
    gateway.events("nobody needs to act any more", 1);
    gateway.stop();
    assert_eq!(receiver.count(), 1);
}
