//! Logins that do not send the password (APOP, CRAM-MD5, SCRAM-SHA-256), and logins with the device's own token.

use std::{path::Path, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use super::clients::{Home, fetchmail_command, run};
use crate::support::{
    PASSWORD,
    answers::Answers,
    certificates::Certificates,
    gateway::{Gateway, Setup, account},
    mail,
    peer::Peer,
    pop::Pop,
    provider::TOKEN_MARK,
    require_program,
};

const WRONG: &str = "-ERR [AUTH] wrong login or password";

fn peer() -> Peer {
    Peer::start(Answers::of((1..=3).map(mail::simple)))
}

/// A gateway that knows the password of the login `pbx`, and only a hash of that of `hashed`. It forwards all other
/// logins. It has two listeners, the first with APOP.
fn mixed(peer: &Peer) -> Gateway {
    let hash = "$argon2id$v=19$m=19456,t=2,p=1$KdKzVSjkmu+x+3uVqCToXQ$492FOdnvLm9sbDj2LbVueNvYe41QLBpmcPIioX5vYwM";
    let hashed = account("hashed", "eva").replace(
        &format!("password = {PASSWORD:?}\nup"),
        &format!("password_hash = \"{hash}\"\nup"),
    );
    assert!(hashed.contains(hash));
    Setup::new(peer.address())
        .table(&account("pbx", "eva"))
        .table(&hashed)
        .listener("apop = true")
        .listener("tls = \"off\"")
        .start()
}

fn encoded(text: &str) -> String {
    BASE64.encode(text)
}

fn decoded(reply: &str) -> String {
    let challenge = reply.strip_prefix("+ ").unwrap_or_else(|| panic!("{reply}"));
    String::from_utf8(BASE64.decode(challenge).unwrap()).unwrap()
}

#[test]
fn the_banner_has_a_timestamp_only_where_apop_is_offered() {
    let gateway = mixed(&peer());
    let greeting = |index: usize| Pop::open(gateway.addresses()[index]).reply();
    let [one, other] = [(); 2].map(|()| greeting(0));
    assert!(one.contains('<') && one.ends_with("@popgate>"), "{one}");
    assert_ne!(one, other, "never the same twice");
    assert_eq!(greeting(1), "+OK popgate ready");
    let digest = "0123456789abcdef0123456789abcdef";
    let mut with = Pop::connect(gateway.addresses()[0]);
    let mut without = Pop::connect(gateway.addresses()[1]);
    with.err(&format!("APOP pbx {digest}"), WRONG);
    with.err("APOP pbx", "-ERR wrong arguments");
    without.err(&format!("APOP pbx {digest}"), "-ERR unknown command");
    without.err("AUTH CRAM-MD5", "-ERR unknown mechanism");
}

/// A mechanism is announced only if it works for most logins, because programs choose the one that looks best.
#[test]
fn what_is_announced_is_what_works() {
    let peer = peer();
    let gateway = mixed(&peer);
    let all = Setup::new(peer.address())
        .own_logins_only()
        .table(&account("pbx", "eva"))
        .start();
    let forwarded = Setup::new(peer.address()).start();
    for (address, mechanisms) in [
        (gateway.addresses()[0], "PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256"),
        (gateway.addresses()[1], "PLAIN LOGIN"),
        (all.address(), "PLAIN LOGIN SCRAM-SHA-256"),
        (forwarded.address(), "PLAIN LOGIN"),
    ] {
        let mut pop = Pop::connect(address);
        let before = pop.list("CAPA");
        assert!(before.contains(&format!("SASL {mechanisms}")), "{before:?}");
        assert_eq!(pop.list("AUTH").join(" "), mechanisms);
        pop.ok("USER pbx");
        pop.ok(&format!("PASS {PASSWORD}"));
        assert_eq!(pop.list("CAPA"), before, "the same in both states");
        pop.quit();
    }
    let mut pop = Pop::connect(forwarded.address());
    pop.err("AUTH SCRAM-SHA-256", "-ERR unknown mechanism");
    Pop::connect(gateway.addresses()[1]).expect_challenge("AUTH SCRAM-SHA-256");
}

impl Pop {
    fn expect_challenge(&mut self, command: &str) {
        let reply = self.command(command);
        assert!(reply.starts_with("+ "), "{command}: {reply}");
    }
}

#[test]
fn nmap_reads_what_is_announced() {
    let Some(nmap) = require_program("nmap") else { return };
    let peer = peer();
    let gateway = mixed(&peer);
    for (address, sasl, has_apop) in [
        (gateway.addresses()[0], "SASL(PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256)", true),
        (gateway.addresses()[1], "SASL(PLAIN LOGIN)", false),
    ] {
        let port = address.port().to_string();
        let script = ["-sT", "-Pn", "--script", "+pop3-capabilities", "127.0.0.1", "-p", &port];
        let printed = String::from_utf8(run(Command::new(&nmap).args(script))).unwrap();
        let line = printed.lines().find(|line| line.contains("pop3-capabilities:"));
        let line = line.unwrap_or_else(|| panic!("{printed}"));
        assert!(line.contains(sasl), "{line}");
        // nmap lists APOP as a capability if the greeting has a timestamp.
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(words.contains(&"APOP"), has_apop, "{line}");
        for capability in [
            "TOP",
            "UIDL",
            "USER",
            "UTF8",
            "LANG",
            "PIPELINING",
            "RESP-CODES",
            "AUTH-RESP-CODE",
        ] {
            assert!(words.contains(&capability), "{capability}: {line}");
        }
    }
}

/// For every login and every mechanism the replies are the same, and no upstream is asked.
#[test]
fn a_wrong_response_tells_nothing_about_the_login() {
    let peer = peer();
    let gateway = mixed(&peer);
    for login in ["pbx", "hashed", "forwarded", "nobody@example.org"] {
        let mut pop = Pop::connect(gateway.address());
        pop.err(&format!("APOP {login} 0123456789abcdef0123456789abcdef"), WRONG);
        let challenge = decoded(&pop.command("AUTH CRAM-MD5"));
        assert!(
            challenge.starts_with('<') && challenge.ends_with("@popgate>"),
            "{challenge}"
        );
        let response = format!("{login} 0123456789abcdef0123456789abcdef");
        pop.err(&encoded(&response), WRONG);

        let ask = |pop: &mut Pop| {
            let first = encoded(&format!("n,,n={login},r=device"));
            decoded(&pop.command(&format!("AUTH SCRAM-SHA-256 {first}")))
        };
        let challenge = ask(&mut pop);
        let (nonce, rest) = challenge.split_once(",s=").unwrap();
        assert!(nonce.starts_with("r=device") && nonce.len() > 30, "{challenge}");
        let (salt, iterations) = rest.split_once(',').unwrap();
        assert_eq!(BASE64.decode(salt).unwrap().len(), 16);
        assert_eq!(iterations, "i=4096");
        let proof = BASE64.encode([7; 32]);
        pop.err(&encoded(&format!("c=biws,{nonce},p={proof}")), WRONG);
        let again = ask(&mut pop);
        assert!(again.ends_with(rest), "the salt stays: {again}");
        assert!(!again.starts_with(&format!("{nonce},")), "the nonce does not: {again}");
        pop.err("*", "-ERR authentication cancelled");
    }
    assert_eq!(peer.connections(), 0);
}

#[test]
fn responses_that_are_none() {
    let peer = peer();
    let gateway = mixed(&peer);
    let mut pop = Pop::connect(gateway.address());
    let form = "-ERR not a response of this mechanism";
    pop.err(&format!("AUTH CRAM-MD5 {}", encoded("pbx 0123")), form);
    pop.expect_challenge("AUTH CRAM-MD5");
    pop.err(&encoded("pbx"), form);
    pop.expect_challenge("AUTH CRAM-MD5");
    pop.err("?", "-ERR not base64");
    pop.err(&format!("AUTH SCRAM-SHA-256 {}", encoded("n,,n=pbx")), form);
    pop.err(
        &format!("AUTH SCRAM-SHA-256 {}", encoded("n,a=root,n=pbx,r=x")),
        "-ERR authorization identity must equal the login",
    );
    pop.expect_challenge("AUTH SCRAM-SHA-256");
    pop.expect_challenge(&encoded("n,,n=pbx,r=x"));
    pop.err(&encoded("c=biws,r=x,p=AAAA"), form);
    pop.err(&format!("AUTH XOAUTH2 {}", encoded("user=eva")), form);
    // The next line is read as a command again.
    pop.ok("USER pbx");
    pop.ok(&format!("PASS {PASSWORD}"));
    pop.quit();
}

/// Runs mpop with the mechanism `auth`. It must fetch three messages.
fn mpop(gateway: &Gateway, auth: &str, user: &str, password: &str) {
    let Some(mpop) = require_program("mpop") else { return };
    let home = Home::new();
    let maildir = home.maildir("mail");
    let text = format!(
        "account default\nhost localhost\nport {}\nuser {user}\npassword {password}\ntls off\nauth {auth}\nkeep on\n\
         uidls_file {}\ndelivery maildir {}\n",
        gateway.address().port(),
        home.file("uidls").display(),
        maildir.display()
    );
    let control = home.secret_file("mpoprc", &text);
    run(home.command(&mpop).arg("--file").arg(&control));
    assert_eq!(std::fs::read_dir(maildir.join("new")).unwrap().count(), 3, "{auth}");
}

fn curl(gateway: &Gateway, mechanism: &str, keys: &[&str]) {
    let Some(curl) = require_program("curl") else { return };
    let mut command = Command::new(curl);
    command
        .args([
            "-sS",
            "--max-time",
            "30",
            "--login-options",
            &format!("AUTH={mechanism}"),
        ])
        .args(keys)
        .arg(format!("pop3://localhost:{}/1", gateway.address().port()));
    assert_eq!(run(&mut command), mail::delivered(&mail::simple(1)), "{mechanism}");
}

#[test]
fn programs_log_in_without_showing_the_password() {
    let peer = peer();
    let gateway = mixed(&peer);
    for auth in ["apop", "cram-md5", "scram-sha-256"] {
        mpop(&gateway, auth, "pbx", PASSWORD);
    }
    for mechanism in ["+APOP", "CRAM-MD5"] {
        curl(&gateway, mechanism, &["--user", &format!("pbx:{PASSWORD}")]);
    }
    if let Some(python) = require_program("python3") {
        let script = "import poplib, sys\npop = poplib.POP3('localhost', int(sys.argv[1]), timeout=30)\n\
                      pop.apop('pbx', sys.argv[2])\nprint(pop.stat()[0])\npop.quit()";
        let mut command = Command::new(python);
        let port = gateway.address().port().to_string();
        let printed = run(command.args(["-c", script, &port, PASSWORD]));
        assert_eq!(printed, b"3\n");
    }
    if let Some(fetchmail) = require_program("fetchmail") {
        fetchmail_by_apop(&gateway, &fetchmail);
    }
    // The upstream gets the account's own password, as always.
    let initial = BASE64.encode(format!("\0eva\0{PASSWORD}"));
    assert_eq!(
        peer.count(&format!("AUTHENTICATE PLAIN {initial}")),
        peer.count("AUTHENTICATE")
    );
}

fn fetchmail_by_apop(gateway: &Gateway, fetchmail: &Path) {
    let home = Home::new();
    let text = format!(
        "set no bouncemail\npoll localhost protocol APOP service {}\n  username \"pbx\" password \"{PASSWORD}\" \
         sslproto \"\" keep fetchall\n  mda \"cat >> {}\"\n",
        gateway.address().port(),
        home.file("box").display()
    );
    let control = home.secret_file("fetchmailrc", &text);
    run(&mut fetchmail_command(&home, fetchmail, &control));
    assert!(home.file("box").is_file());
}

/// An upstream that accepts the token, with `words` among its capabilities.
fn token_peer(words: &'static str) -> Peer {
    Peer::start(Answers::of((1..=3).map(mail::simple)).capabilities(words))
}

fn xoauth2(user: &str, token: &str) -> String {
    encoded(&format!("user={user}\x01auth=Bearer {token}\x01\x01"))
}

#[test]
fn a_token_is_passed_on() {
    let token = format!("{TOKEN_MARK}0815");
    for words in [
        "IMAP4rev1 SASL-IR AUTH=XOAUTH2 UIDPLUS",
        "IMAP4rev1 SASL-IR AUTH=OAUTHBEARER AUTH=PLAIN UIDPLUS",
    ] {
        let peer = token_peer(words);
        let gateway = Setup::new(peer.address()).start();
        let port = peer.address().port();
        let expected = if words.contains("XOAUTH2") {
            format!("AUTHENTICATE XOAUTH2 {}", xoauth2("eva", &token))
        } else {
            let message = format!("n,a=eva,\x01host=127.0.0.1\x01port={port}\x01auth=Bearer {token}\x01\x01");
            format!("AUTHENTICATE OAUTHBEARER {}", encoded(&message))
        };
        // The device may use another mechanism than the upstream.
        let mut pop = Pop::connect(gateway.address());
        assert!(
            !pop.list("CAPA").iter().any(|line| line.contains("XOAUTH2")),
            "not known yet"
        );
        pop.ok(&format!("AUTH XOAUTH2 {}", xoauth2("eva", &token)));
        pop.quit();
        let mut pop = Pop::connect(gateway.address());
        assert!(
            pop.list("CAPA")
                .contains(&"SASL PLAIN LOGIN XOAUTH2 OAUTHBEARER".into()),
            "the upstream has offered it"
        );
        pop.expect_challenge("AUTH OAUTHBEARER");
        pop.ok(&encoded(&format!("n,a=eva,\x01auth=Bearer {token}\x01\x01")));
        pop.quit();
        assert_eq!(
            (peer.count(&expected), peer.count("AUTHENTICATE")),
            (2, 2),
            "{:?}",
            peer.commands()
        );
        mpop(&gateway, "xoauth2", "eva", &token);
        mpop(&gateway, "oauthbearer", "eva", &token);
        curl(&gateway, "XOAUTH2", &["--user", "eva", "--oauth2-bearer", &token]);
        assert_eq!(peer.count(&expected), peer.count("AUTHENTICATE"));
    }
}

/// A refused token (RFC 7628 §3.2.2): the reason comes as a challenge, the device acknowledges it, and the reply is
/// that of any wrong login.
#[test]
fn a_token_that_is_refused_is_a_wrong_login() {
    let peer = Peer::start(
        Answers::of([mail::simple(1)])
            .capabilities("IMAP4rev1 SASL-IR AUTH=XOAUTH2 AUTH=PLAIN")
            .on("AUTHENTICATE", "{tag} NO [AUTHENTICATIONFAILED] no\r\n"),
    );
    let gateway = Setup::new(peer.address()).table(&account("pbx", "eva")).start();
    let mut pop = Pop::connect(gateway.address());
    let by_password = pop.try_log_in("eva", "wrong");
    for login in ["eva", "pbx"] {
        let reply = pop.command(&format!("AUTH XOAUTH2 {}", xoauth2(login, "stale")));
        assert_eq!(decoded(&reply), "{\"status\":\"invalid_token\"}");
        let refused = pop.command("");
        assert!(refused.starts_with("-ERR [AUTH] "), "{refused}");
        if login == "eva" {
            assert_eq!(refused, by_password);
        }
    }
    assert_eq!(
        peer.count("AUTHENTICATE XOAUTH2"),
        1,
        "only a forwarded login has a token"
    );
}

#[test]
fn an_upstream_without_tokens_gets_none() {
    let peer = peer();
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::connect(gateway.address());
    pop.err(&format!("AUTH XOAUTH2 {}", xoauth2("eva", "t")), "-ERR [SYS/PERM] ");
    assert_eq!(peer.count("AUTHENTICATE"), 0);
    assert!(pop.list("CAPA").contains(&"SASL PLAIN LOGIN".into()));
}

/// A listener that requires STLS refuses all mechanisms before it. After STLS, the timestamp of the greeting still
/// holds.
#[test]
fn apop_after_stls() {
    let peer = peer();
    let certificates = Certificates::new();
    let gateway = Setup::new(peer.address())
        .own_logins_only()
        .certificates(&certificates)
        .table(&account("pbx", "eva"))
        .listener("tls = \"starttls\"\nrequire_tls = true\napop = true")
        .start();
    let mut pop = Pop::open(gateway.address());
    let greeting = pop.reply();
    let timestamp = greeting.split(' ').next_back().unwrap();
    let digest = md5_hex(&format!("{timestamp}{PASSWORD}"));
    pop.err(&format!("APOP pbx {digest}"), "-ERR send STLS first");
    pop.err("AUTH SCRAM-SHA-256", "-ERR send STLS first");
    let mut pop = pop.stls(certificates.client());
    pop.ok(&format!("APOP pbx {digest}"));
    pop.quit();
}

fn md5_hex(text: &str) -> String {
    use md5::{Digest, Md5};
    Md5::digest(text).iter().map(|octet| format!("{octet:02x}")).collect()
}
