//! What the serving process may do, and whether fail2ban can rely on its log.

use std::{fs, net::Ipv4Addr, path::Path, process::Command};

use crate::support::{
    answers::Answers,
    gateway::{Gateway, Setup},
    mail,
    peer::Peer,
    pop::Pop,
    require_program,
};

fn peer() -> Peer {
    Peer::start(
        Answers::of([mail::simple(1)])
            .on("AUTHENTICATE", "{tag} NO [AUTHENTICATIONFAILED] no\r\n")
            .on("AUTHENTICATE PLAIN AGV2YQBr", "{tag} OK logged in\r\n"),
    )
}

/// The line of a file in /proc/PID that begins with `start`.
fn of_process(gateway: &Gateway, file: &str, start: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/{file}", gateway.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(start));
    line.unwrap_or_else(|| panic!("no {start} in {text}")).trim().to_owned()
}

#[test]
fn the_process_gives_up_what_it_does_not_need() {
    let state = tempfile::tempdir().unwrap();
    let peer = peer();
    let gateway = Setup::new(peer.address())
        .table(&format!("[state]\ndir = {:?}", state.path().join("made/by/popgate")))
        .start();
    let landlock = &gateway.events("confined", 1)[0]["landlock"];
    println!("Landlock: {landlock}");
    assert_eq!(of_process(&gateway, "status", "NoNewPrivs:"), "1");
    for thread in fs::read_dir(format!("/proc/{}/task", gateway.id())).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }
    let core: Vec<_> = of_process(&gateway, "limits", "Max core file size")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert_eq!(core[..2], ["0", "0"]);
    // The gateway works nevertheless.
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.retr(1).1, mail::simple(1));
    pop.ok("DELE 1");
    pop.quit();
    assert!(state.path().join("made/by/popgate/state.sock").exists());
}

/// The filter reads real log lines, with logins by which a device tries to forge an address.
#[test]
fn fail2ban_finds_the_address_of_every_refused_login_and_no_other() {
    let Some(fail2ban) = require_program("fail2ban-regex") else {
        return;
    };
    let filter = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/fail2ban/filter.d/popgate.conf");
    let peer = peer();
    for format in ["text", "json"] {
        let gateway = Setup::new(peer.address()).log_format(format).level("info").start();
        let from = |number| Pop::connect_from(Ipv4Addr::new(127, 1, 0, number), gateway.address());
        for login in [
            "eva",
            "dev peer=8.8.8.8:1 reason=wrong ",
            " WARN login refused peer=8.8.8.8:1 reason=wrong x",
            "\",\"level\":\"WARN\",\"message\":\"login refused\",\"peer\":\"8.8.8.8:1\",",
        ] {
            let reply = from(1).try_log_in(login, "wrong");
            assert!(reply.starts_with("-ERR [AUTH]"), "{reply}");
        }
        // At once, because one after the other they would take half a minute.
        let mut guessers: Vec<_> = (0..12)
            .map(|number| {
                let mut pop = from(2);
                pop.ok("USER ida");
                pop.send(format!("PASS wrong{number}\r\n").as_bytes());
                pop
            })
            .collect();
        let replies: Vec<_> = guessers.iter_mut().map(Pop::reply).collect();
        assert!(
            replies.iter().any(|reply| reply.starts_with("-ERR [LOGIN-DELAY]")),
            "{replies:?}"
        );
        Pop::log_in(gateway.address(), "eva").quit();
        drop(guessers);
        let lines = gateway.lines("wasted", 17);
        let log = tempfile::NamedTempFile::new().unwrap();
        fs::write(log.path(), lines.join("\n")).unwrap();
        let output = Command::new(&fail2ban)
            .args(["-o", "ip"])
            .arg(log.path())
            .arg(&filter)
            .output()
            .unwrap();
        let found = String::from_utf8(output.stdout).unwrap();
        let count = |address: &str| found.lines().filter(|line| *line == address).count();
        let counted = (count("127.1.0.1"), count("127.1.0.2"), found.lines().count());
        assert_eq!(counted, (4, 12, 16), "{format}: {found}\n{}", lines.join("\n"));
    }
}
