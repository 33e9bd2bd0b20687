//! SIGHUP and `popgate reload`: a new configuration takes effect, and no session notices.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use crate::support::{
    PASSWORD,
    answers::Answers,
    certificates::Certificates,
    gateway::{Gateway, Setup, account},
    mail,
    peer::Peer,
    pop::Pop,
};

const PLAIN: &str = "tls = \"off\"";

/// A gateway with a `[state] dir`, which has the socket for `popgate reload`.
fn setup(peer: &Peer) -> Setup {
    Setup::new(peer.address())
        .table("[state]\ndir = \"state\"")
        .level("info")
}

fn mailbox() -> Answers {
    Answers::of((1..=3).map(mail::simple))
}

/// The address of the listener that was added last.
fn newest(gateway: &Gateway, count: usize) -> SocketAddr {
    let listening = gateway.events("listening", count);
    listening[count - 1]["address"].as_str().unwrap().parse().unwrap()
}

/// The account `pbx` with this password and these keys.
fn pbx(password: &str, keys: &str) -> String {
    format!(
        "[[account]]\nlogin = \"pbx\"\npassword = \"{password}\"\nupstream = \"lab\"\nuser = \"eva\"\n\
         upstream_password = \"{PASSWORD}\"\n{keys}"
    )
}

#[test]
fn two_hundred_reloads_under_load_lose_no_session() {
    let peer = Peer::start(mailbox());
    let one = || {
        setup(&peer)
            .limit("parked_seconds = 60")
            .table(&account("pbx", "ida"))
            .table(&account("fax", "ida"))
    };
    let other = || {
        setup(&peer)
            .limit("parked_seconds = 30")
            .limit("sessions = 500")
            .limit("sessions_per_address = 400")
            .limit("read_ahead_bytes = 1000000")
            .maildrop("on_delete = \"trash\"")
            .listener(PLAIN)
            .listener("tls = \"off\"\napop = true")
            .table(&account("pbx", "ida"))
            .table(&account("ticket", "adam"))
    };
    let gateway = one().start();
    let address = gateway.address();
    let (is_over, polls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut patient = Pop::log_in(address, "patient");
    std::thread::scope(|scope| {
        for login in ["eva", "pbx"] {
            let (is_over, polls) = (&is_over, &polls);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let mut pop = Pop::log_in(address, login);
                    for number in 1..=3 {
                        assert_eq!(pop.retr(number).1, mail::simple(number));
                    }
                    pop.quit();
                    polls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 1..=200 {
            gateway.rewrite(&if round % 2 == 0 { one() } else { other() });
            if round % 4 < 2 {
                let (code, said) = gateway.popgate(&["reload"]);
                assert_eq!(code, Some(0), "{said}");
            } else {
                gateway.signal("HUP");
            }
            gateway.events("configuration reloaded", round);
            assert_eq!(patient.stat().0, 3);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let polls = polls.into_inner();
    println!("{polls} sessions beside 200 reloads");
    assert!(polls >= 50, "only {polls} sessions");
    assert_eq!(patient.retr(3).1, mail::simple(3));
    patient.quit();
    let sessions = gateway.sessions(polls + 1);
    assert!(sessions.iter().all(|session| session["end"] == "quit"), "{sessions:?}");
    assert!(gateway.events("no longer listening", 100).len() == 100);
    // Each session has given back its place.
    gateway.reload(&setup(&peer).limit("sessions = 1"));
    let only = Pop::log_in(address, "eva");
    let mut refused = Pop::open(address);
    refused.expect("-ERR [SYS/TEMP]");
    only.quit();
}

#[test]
fn what_cannot_be_put_into_force_changes_nothing_and_says_why() {
    let peer = Peer::start(mailbox());
    let gateway = setup(&peer).table(&pbx("one", "")).start();
    let address = gateway.address();
    let mut session = Pop::log_in(address, "ida");
    let all_is_as_before = |session: &mut Pop| {
        assert_eq!(session.stat().0, 3);
        let mut pop = Pop::connect(address);
        let reply = pop.try_log_in("pbx", "one");
        assert!(reply.starts_with("+OK"), "{reply}");
        pop.quit();
    };
    let other = || setup(&peer).table(&pbx("two", ""));

    // A mistake in the file.
    let wrong = other().text().replace("sessions_per_address", "sessions_per_adress");
    gateway.write(&wrong);
    let (code, said) = gateway.popgate(&["reload"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("did you mean `sessions_per_address`?"), "{said}");
    gateway.signal("HUP");
    let failed = gateway.events("configuration not reloaded: the one before stays in force", 1);
    let error = failed[0]["error"].as_str().unwrap();
    assert!(
        error.contains("gateway.toml:") && error.contains("sessions_per_adress"),
        "{error}"
    );
    all_is_as_before(&mut session);

    // A port that is taken, or that the process has no right to listen at.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    gateway.rewrite(
        &other()
            .listener(PLAIN)
            .table(&format!("[[listener]]\naddress = \"{address}\"\n{PLAIN}")),
    );
    let (code, said) = gateway.popgate(&["reload"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&format!("[[listener]] address {address}: "))
            && (said.contains("another program listens there") || said.contains("needs a restart")),
        "{said}"
    );
    all_is_as_before(&mut session);

    // A file that is not a certificate.
    let certificates = Certificates::new();
    std::fs::copy(certificates.key_file(), gateway.file().with_file_name("key.pem")).unwrap();
    std::fs::write(gateway.file().with_file_name("leaf.pem"), "none").unwrap();
    let tls = "[tls]\ncertificate = \"leaf.pem\"\nkey = \"key.pem\"";
    gateway.rewrite(&other().listener("tls = \"implicit\"").table(tls));
    let (code, said) = gateway.popgate(&["reload"]);
    assert_ne!(code, Some(0), "{said}");
    assert!(said.contains("leaf.pem"), "{said}");
    all_is_as_before(&mut session);

    session.quit();
    let reloaded = gateway.reload(&other());
    assert!(
        reloaded.starts_with("reloaded: 1 listener, 1 upstream, 1 account"),
        "{reloaded}"
    );
    assert!(
        Pop::connect(gateway.address())
            .try_log_in("pbx", "one")
            .starts_with("-ERR [AUTH]")
    );
}

#[test]
fn files_elsewhere_need_a_restart_where_the_process_is_confined() {
    let peer = Peer::start(mailbox());
    let gateway = setup(&peer).start();
    let confined = gateway.events("confined", 1);
    let elsewhere = tempfile::tempdir().unwrap();
    let password = elsewhere.path().join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    gateway.rewrite(&setup(&peer).table(&format!(
        "[[account]]\nlogin = \"pbx\"\npassword_file = {password:?}\nupstream = \"lab\"\nuser = \"eva\"\n\
         upstream_password_file = {password:?}"
    )));
    let (code, said) = gateway.popgate(&["reload"]);
    if confined[0]["landlock"] == "none" {
        assert_eq!(code, Some(0), "{said}");
    } else {
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("needs a restart") && said.contains(password.to_str().unwrap()),
            "{said}"
        );
    }
}

#[test]
fn listeners_come_change_and_go() {
    let peer = Peer::start(mailbox());
    let gateway = setup(&peer).start();
    let first = gateway.address();
    let mut early = Pop::log_in(first, "eva");
    gateway.reload(
        &setup(&peer)
            .listener("tls = \"off\"\nallow = [\"10.0.0.0/8\"]")
            .listener(PLAIN),
    );
    let second = newest(&gateway, 2);
    assert_ne!(first, second);
    assert_eq!(
        early.retr(1).1,
        mail::simple(1),
        "a session goes on with what it began with"
    );
    Pop::open(first).expect("-ERR [SYS/PERM] not allowed from this address");
    let mut guest = Pop::log_in(second, "adam");

    gateway.reload(&setup(&peer));
    Pop::log_in(first, "ida").quit();
    assert_eq!(guest.retr(2).1, mail::simple(2));
    guest.quit();
    early.quit();
    assert!(TcpStream::connect(second).is_err(), "it still accepts");

    // A listener that was removed can be added again at once.
    for round in 0..5 {
        gateway.reload(&setup(&peer).listener(PLAIN).listener(PLAIN));
        let again = newest(&gateway, 3 + round);
        Pop::log_in(again, "mia").quit();
        gateway.reload(&setup(&peer));
        assert!(TcpStream::connect(again).is_err(), "it still accepts");
    }
}

#[test]
fn a_listener_in_the_way_of_another_is_named() {
    let peer = Peer::start(mailbox());
    let gateway = setup(&peer).start();
    let ours = gateway.address();
    // The port of a listener whose address in the configuration was another (port 0).
    let text = setup(&peer).text().replace("127.0.0.1:0", &ours.to_string());
    gateway.write(&text);
    let (code, said) = gateway.popgate(&["reload"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&format!("this gateway itself still listens at {ours}")) || said.contains("needs a restart"),
        "{said}"
    );
    Pop::log_in(ours, "eva").quit();
}

#[test]
fn accounts_come_change_and_go() {
    let peer = Peer::start(mailbox());
    let gateway = setup(&peer).table(&pbx("one", "")).start();
    let log_in = |login: &str, password: &str| Pop::connect(gateway.address()).try_log_in(login, password);
    let mut session = Pop::connect(gateway.address());
    assert!(session.try_log_in("pbx", "one").starts_with("+OK"));
    gateway.reload(&setup(&peer).table(&pbx("two", "")).table(&account("fax", "ida")));
    assert_eq!(session.retr(1).1, mail::simple(1));
    session.quit();
    assert!(log_in("pbx", "one").starts_with("-ERR [AUTH]"));
    assert!(log_in("pbx", "two").starts_with("+OK"));
    assert!(log_in("fax", PASSWORD).starts_with("+OK"));
    gateway.reload(&setup(&peer).own_logins_only().table(&account("fax", "ida")));
    assert!(log_in("pbx", "two").starts_with("-ERR [AUTH]"));
    assert!(log_in("eva", PASSWORD).starts_with("-ERR [AUTH]"), "forwarded no more");
}

#[test]
fn sessions_of_both_configurations_exclude_each_other() {
    let peer = Peer::start(mailbox());
    let gateway = setup(&peer)
        .table(&pbx("one", ""))
        .table(&account("fax", "eva"))
        .start();
    let log_in = |login: &str, password: &str| {
        let mut pop = Pop::connect(gateway.address());
        (pop.try_log_in(login, password), pop)
    };
    let (reply, early) = log_in("pbx", "one");
    assert!(reply.starts_with("+OK"), "{reply}");
    let hiding = pbx("one", "maildrop = { on_delete = \"hide\" }");
    gateway.reload(&setup(&peer).table(&hiding).table(&account("fax", "eva")));
    assert!(log_in("fax", PASSWORD).0.starts_with("-ERR [IN-USE]"), "another login");
    assert!(
        log_in("pbx", "one").0.starts_with("-ERR [IN-USE]"),
        "a view of its own by now"
    );
    early.quit();
    let (reply, late) = log_in("pbx", "one");
    assert!(reply.starts_with("+OK"), "{reply}");
    assert!(log_in("fax", PASSWORD).0.starts_with("+OK"));
    late.quit();
}

#[test]
fn a_parked_connection_serves_on_if_it_still_suits() {
    let peer = Peer::start(mailbox());
    let setup = || setup(&peer).limit("parked_seconds = 60").level("debug");
    let gateway = setup().start();
    let mut parked = 0;
    let mut logins = |expected: usize, why: &str| {
        Pop::log_in(gateway.address(), "eva").quit();
        assert_eq!(peer.count("AUTHENTICATE"), expected, "{why}");
        parked += 1;
        gateway.events("parked", parked);
    };
    logins(1, "the first");
    logins(1, "parked");
    gateway.reload(
        &setup()
            .listener(PLAIN)
            .table(&account("fax", "ida"))
            .limit("sessions = 7"),
    );
    logins(1, "nothing that concerns it has changed");
    gateway.reload(&setup().maildrop("order = \"newest-first\""));
    logins(2, "what waited was for another policy");
    gateway.reload(&setup().maildrop("order = \"newest-first\"").host("localhost"));
    logins(3, "another server");
    gateway.reload(
        &setup()
            .maildrop("order = \"newest-first\"")
            .host("localhost")
            .limit("parked_seconds = 0"),
    );
    Pop::log_in(gateway.address(), "eva").quit();
    assert_eq!(peer.count("AUTHENTICATE"), 4, "nothing waits any more");
}

#[test]
fn failures_stay_counted() {
    let peer = Peer::start(mailbox());
    let gateway = setup(&peer).own_logins_only().table(&pbx("one", "")).start();
    let guess = |number: usize| Pop::connect(gateway.address()).try_log_in("pbx", &format!("wrong{number}"));
    // At once, because one after the other they would take half a minute.
    std::thread::scope(|scope| {
        for number in 0..11 {
            scope.spawn(move || guess(number));
        }
    });
    gateway.reload(&setup(&peer).own_logins_only().table(&pbx("two", "")));
    let reply = guess(11);
    assert!(reply.starts_with("-ERR [LOGIN-DELAY]"), "{reply}");
}

#[test]
fn the_level_of_the_log_changes() {
    let peer = Peer::start(mailbox());
    let gateway = setup(&peer).start();
    Pop::log_in(gateway.address(), "eva").quit();
    gateway.reload(&setup(&peer).level("debug"));
    let mut pop = Pop::log_in(gateway.address(), "adam");
    pop.ok("NOOP");
    let commands = gateway.events("command", 3);
    assert!(commands[0]["verb"] == "USER" && commands.len() == 3, "{commands:?}");
    gateway.reload(&setup(&peer).level("error"));
    pop.ok("STAT");
    pop.quit();
    let said = gateway.reload(&setup(&peer).level("info").log_format("text"));
    assert!(
        said.contains("warning: [log] format has changed: this needs a restart"),
        "{said}"
    );
    let silent = gateway.events("command", 3);
    assert_eq!(silent.len(), 3);
    let again = gateway.reload(&setup(&peer).level("info").log_format("text"));
    assert!(
        again.contains("[log] format"),
        "as long as the old one is in force: {again}"
    );
}

#[test]
fn other_certificates_are_shown() {
    let peer = Peer::start(mailbox());
    let (before, after) = (Certificates::new(), Certificates::new());
    let gateway = setup(&peer)
        .certificates(&before)
        .listener("tls = \"implicit\"")
        .start();
    let mut session = Pop::connect_tls(gateway.address(), before.client());
    assert!(session.try_log_in("eva", PASSWORD).starts_with("+OK"));
    for (from, to) in [(after.leaf_file(), "leaf.pem"), (after.key_file(), "key.pem")] {
        std::fs::copy(from, gateway.file().with_file_name(to)).unwrap();
    }
    let tls = "[tls]\ncertificate = \"leaf.pem\"\nkey = \"key.pem\"";
    gateway.reload(&setup(&peer).table(tls).listener("tls = \"implicit\""));
    Pop::connect_tls(gateway.address(), after.client()).ok("QUIT");
    assert_eq!(session.retr(1).1, mail::simple(1));
    session.quit();
    // The same socket, now without TLS.
    gateway.reload(&setup(&peer));
    Pop::log_in(gateway.address(), "eva").quit();
}

#[test]
fn without_a_socket_the_signal_is_named() {
    let peer = Peer::start(mailbox());
    let gateway = Setup::new(peer.address()).start();
    let (code, said) = gateway.popgate(&["reload"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("kill -HUP"), "{said}");
    gateway.rewrite(&Setup::new(peer.address()).listener(PLAIN).listener(PLAIN));
    gateway.signal("HUP");
    gateway.events("configuration reloaded", 1);
    Pop::log_in(newest(&gateway, 2), "eva").quit();
}

#[test]
fn nobody_answers_when_no_gateway_runs() {
    let peer = Peer::start(mailbox());
    let mut gateway = setup(&peer).start();
    let socket = gateway.file().with_file_name("state").join("admin.sock");
    assert_eq!(gateway.popgate(&["reload"]).0, Some(0));
    assert!(socket.exists());
    gateway.signal("TERM");
    gateway.wait();
    assert!(!socket.exists(), "left behind");
    let (code, said) = gateway.popgate(&["reload"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is the gateway running"), "{said}");
}

/// A reload that comes while sessions drain is refused.
#[test]
fn not_while_sessions_drain() {
    let peer = Peer::start(mailbox());
    let mut gateway = setup(&peer).start();
    let pop = Pop::log_in(gateway.address(), "eva");
    gateway.signal("TERM");
    gateway.events("draining", 1);
    let (code, said) = gateway.popgate(&["reload"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("shutting down"), "{said}");
    pop.quit();
    let asked = std::time::Instant::now();
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(10));
}
