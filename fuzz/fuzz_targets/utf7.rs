//! A name goes to a server and comes back as it was; whatever a server sends is some name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use popgate::imap::fuzzing::{decoded, quoted};

fuzz_target!(|input: (&str, &[u8])| {
    let (name, told) = input;
    let argument = quoted(name);
    assert!(
        argument.bytes().all(|octet| (b' '..=b'~').contains(&octet)),
        "{argument}"
    );
    let inner = argument.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    assert_eq!(decoded(unescaped(inner.expect("quotes")).as_bytes()), name);
    let _ = decoded(told);
});

/// The content of a quoted string (RFC 3501 §4.3).
fn unescaped(quoted: &str) -> String {
    let mut out = String::new();
    let mut octets = quoted.chars();
    while let Some(octet) = octets.next() {
        assert_ne!(octet, '"', "the string ends too early");
        out.push(if octet == '\\' {
            octets.next().expect("an escaped octet")
        } else {
            octet
        });
    }
    out
}
