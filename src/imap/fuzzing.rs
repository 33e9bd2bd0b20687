//! Entry points for the fuzzers in `fuzz/`: names of mailboxes, SASL exchanges, and the replies of proxies.

use super::{
    proxy::{end_of_head, may_be_http, status},
    sasl::{Exchange, LoginTarget, Mechanism},
    utf7::NameEncoding,
};

/// How many mechanisms [`exchange`] knows.
pub const MECHANISMS: usize = Mechanism::ALL.len();
/// The number of SCRAM-SHA-256, in which the server proves that it knows the password.
pub const SCRAM: usize = 3;

/// `name` as the argument of a command, in modified UTF-7.
pub fn quoted(name: &str) -> String {
    NameEncoding::ModifiedUtf7.quoted(name)
}

/// Decodes a name that a server has sent in modified UTF-7.
pub fn decoded(name: &[u8]) -> String {
    NameEncoding::ModifiedUtf7.decoded(name)
}

/// Answers a server's challenges by the mechanism of this number, below [`MECHANISMS`]. Returns whether the server may
/// then say OK; `None` if the exchange breaks off. `{nonce}` in a challenge stands for the client's nonce, which a
/// fuzzer could not guess.
pub fn exchange(mechanism: usize, user: &str, secret: &[u8], challenges: &[&[u8]]) -> Option<bool> {
    let mechanism = Mechanism::ALL[mechanism];
    let target = LoginTarget {
        user,
        host: "imap.example.org",
        port: 143,
    };
    let mut exchange = Exchange::new(mechanism, target, secret).ok()?;
    let initial = exchange.initial();
    let text = initial.map(|initial| String::from_utf8_lossy(&initial).into_owned());
    let nonce = text
        .as_deref()
        .and_then(|text| text.rsplit_once(",r="))
        .map(|(_, nonce)| nonce);
    for challenge in challenges {
        let challenge = match memchr::memmem::find(challenge, b"{nonce}") {
            Some(at) => [
                &challenge[..at],
                nonce.unwrap_or_default().as_bytes(),
                &challenge[at + 7..],
            ]
            .concat(),
            None => challenge.to_vec(),
        };
        exchange.respond(&challenge).ok()?;
    }
    Some(exchange.finish().is_ok())
}

/// The status in the head of an HTTP proxy's reply, and where the head ends.
pub fn proxy_reply(head: &[u8]) -> (Option<u16>, Option<usize>) {
    let end = end_of_head(head);
    let status = status(&head[..end.unwrap_or(head.len())]);
    assert!(
        status.is_none() || may_be_http(head),
        "the end of such a head is not waited for"
    );
    (status, end)
}
