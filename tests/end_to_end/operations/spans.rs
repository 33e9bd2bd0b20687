//! Every log event of a session names the session, and every event about the upstream names the connection, so that two
//! devices on one mailbox can be distinguished.

use serde_json::Value;

use crate::support::{
    PASSWORD,
    answers::Answers,
    certificates::Certificates,
    gateway::{Setup, account},
    mail,
    peer::Peer,
    pop::Pop,
};

/// The event's span of this name.
#[track_caller]
fn span<'a>(event: &'a Value, name: &str) -> &'a Value {
    let spans = event["spans"].as_array().unwrap_or_else(|| panic!("no spans: {event}"));
    spans
        .iter()
        .find(|span| span["name"] == name)
        .unwrap_or_else(|| panic!("no span {name}: {event}"))
}

#[test]
fn two_devices_on_one_mailbox_can_be_told_apart() {
    let (peer, certificates) = (
        Peer::start(Answers::of([mail::simple(1)]).on("UID FETCH 1 (UID BODY", "{tag} NO [UNAVAILABLE] asleep\r\n")),
        Certificates::new(),
    );
    let hidden = |login| account(login, "office") + "\nmaildrop = { on_delete = \"hide\" }";
    let gateway = Setup::new(peer.address())
        .own_logins_only()
        .certificates(&certificates)
        .listener("tls = \"implicit\"")
        .table(&hidden("fax"))
        .table(&hidden("pbx"))
        .start();
    let devices: Vec<_> = ["fax", "pbx"]
        .into_iter()
        .map(|login| {
            let mut pop = Pop::connect_tls(gateway.address(), certificates.client());
            assert!(pop.try_log_in(login, PASSWORD).starts_with("+OK"));
            pop.err("RETR 1", "-ERR [SYS/TEMP]");
            pop
        })
        .collect();
    let failures = gateway.events("the upstream failed", 2);
    let mut ids = Vec::new();
    for (event, login) in failures.iter().zip(["fax", "pbx"]) {
        let session = span(event, "session");
        assert_eq!(
            (&session["login"], &session["tls"]),
            (&login.into(), &"TLSv1_3".into()),
            "{event}"
        );
        assert_eq!(session["listener"], gateway.address().to_string());
        assert!(session["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{event}");
        ids.push(session["id"].as_u64().expect("a number"));
    }
    assert_ne!(ids[0], ids[1]);
    // The commands that were sent upstream for each session.
    for event in gateway
        .events("command", 2)
        .iter()
        .filter(|event| event["verb"] == "RETR")
    {
        assert!(ids.contains(&span(event, "session")["id"].as_u64().unwrap()), "{event}");
    }
    devices.into_iter().for_each(Pop::quit);
}

#[test]
fn what_is_done_upstream_bears_its_name_and_user() {
    let peer = Peer::start(
        Answers::of([mail::simple(1)])
            .on(
                "LIST",
                "* LIST () \"/\" INBOX\r\n* LIST () \"/\" Done\r\n{tag} OK done\r\n",
            )
            .on("UID STORE 1 +FLAGS.SILENT (\\Seen)", "{tag} NO not now\r\n"),
    );
    let gateway = Setup::new(peer.address())
        .own_logins_only()
        .maildrop("on_delete = \"move:Done\"")
        .table(&account("fax", "office"))
        .start();
    let mut pop = Pop::log_in(gateway.address(), "fax");
    pop.retr(1);
    pop.ok("DELE 1");
    pop.err("QUIT", "-ERR [SYS/TEMP]");
    let event = &gateway.events("not flagged \\Seen", 1)[0];
    assert_eq!(span(event, "session")["login"], "fax");
    let upstream = span(event, "upstream");
    assert_eq!(
        (&upstream["upstream"], &upstream["user"]),
        (&"lab".into(), &"office".into()),
        "{event}"
    );
}
