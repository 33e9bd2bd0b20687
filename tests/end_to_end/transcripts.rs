//! Plays `tests/transcripts/*.txt`: what a device says and what it hears, one behaviour a file.
//!
//! | line | means |
//! |---|---|
//! | `C: text` | the device sends the line; lines without an `S:` between them leave in one write |
//! | `c: text` | the same without a line end |
//! | `S: text` | the gateway's next line, exactly; with `…` at the end, how it starts |
//! | `TLS` | the TLS handshake |
//! | `closed` | the gateway closes the connection |
//! | `U<: text` | the upstream hears a command that starts like this, at some time … |
//! | `U>: text` | … and answers with this line; several make one answer; `{tag}` is the command's |
//! | `U!: text` | the upstream must never hear a command that starts like this |
//! | `listener: key; key`, `limit: key` | configuration |
//! | `# text` | a comment |
//!
//! In what a device says and hears, `\r`, `\n`, `\t`, `\0` and `\xHH` stand for octets.
//!
//! The mailbox has three messages, [`mail::simple`]; every user and password is taken.

use std::path::Path;

use crate::support::{answers::Answers, certificates::Certificates, gateway::Setup, mail, peer::Peer, pop::Pop};

#[test]
fn all() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut count = 0;
    let certificates = Certificates::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            eprintln!("{}", path.display());
            play(&std::fs::read_to_string(&path).unwrap(), &certificates);
            count += 1;
        }
    }
    assert!(count > 0, "no transcripts");
    eprintln!("{count} transcripts");
}

/// Kind and text of each line that says anything.
fn lines(transcript: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    (1..)
        .zip(transcript.lines())
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| match line.split_once(':') {
            Some((kind, text)) => (number, kind, text.strip_prefix(' ').unwrap_or(text)),
            None => (number, line, ""),
        })
}

fn play(transcript: &str, certificates: &Certificates) {
    let mut answers = Answers::of((1..=3).map(mail::simple));
    let mut rules: Vec<(&str, String)> = Vec::new();
    for (number, kind, text) in lines(transcript) {
        match kind {
            "U<" => rules.push((text, String::new())),
            "U>" => {
                let (_, answer) = rules
                    .last_mut()
                    .unwrap_or_else(|| panic!("line {number}: answer to what?"));
                answer.push_str(text);
                answer.push_str("\r\n");
            }
            _ => {}
        }
    }
    for (prefix, answer) in rules.iter().filter(|(_, answer)| !answer.is_empty()) {
        answers = answers.on(prefix, answer.as_str());
    }
    let peer = Peer::start(answers);
    let mut setup = Setup::new(peer.address()).certificates(certificates);
    for (_, kind, text) in lines(transcript) {
        setup = match kind {
            "listener" => setup.listener(&text.replace("; ", "\n")),
            "limit" => setup.limit(text),
            _ => setup,
        };
    }
    let gateway = setup.start();
    converse(transcript, Pop::open(gateway.address()), certificates);
    gateway.stop();
    for (prefix, _) in rules {
        assert!(
            peer.count(prefix) > 0,
            "the upstream did not hear {prefix}: {:?}",
            peer.commands()
        );
    }
    for (_, _, prefix) in lines(transcript).filter(|(_, kind, _)| *kind == "U!") {
        assert_eq!(
            peer.count(prefix),
            0,
            "the upstream heard {prefix}: {:?}",
            peer.commands()
        );
    }
}

fn converse(transcript: &str, mut pop: Pop, certificates: &Certificates) {
    let mut outgoing: Vec<u8> = Vec::new();
    for (number, kind, text) in lines(transcript) {
        match kind {
            "C" => outgoing.extend_from_slice(&[&unescaped(text)[..], b"\r\n"].concat()),
            "c" => outgoing.extend_from_slice(&unescaped(text)),
            "S" | "closed" | "TLS" => {
                if !outgoing.is_empty() {
                    pop.send(&std::mem::take(&mut outgoing));
                }
                match kind {
                    "closed" => pop.closed(),
                    "TLS" => pop = pop.secure(certificates.client()),
                    _ => {
                        let line = pop.line();
                        let as_expected = match text.strip_suffix('…') {
                            Some(start) => line.starts_with(&unescaped(start)),
                            None => line == unescaped(text),
                        };
                        assert!(
                            as_expected,
                            "line {number}: expected {text}, got {}",
                            line.escape_ascii()
                        );
                    }
                }
            }
            "U<" | "U>" | "U!" | "listener" | "limit" => {}
            other => panic!("line {number}: what is {other:?}?"),
        }
    }
    assert!(outgoing.is_empty(), "the last line is not answered");
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        if octet != b'\\' {
            out.push(octet);
            continue;
        }
        let (&escape, after) = rest.split_first().expect("something after the backslash");
        rest = after;
        out.push(match escape {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'0' => 0,
            b'x' => {
                let (digits, after) = rest.split_at(2);
                rest = after;
                u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
            }
            other => other,
        });
    }
    out
}
