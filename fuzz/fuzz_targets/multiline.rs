//! What a device decodes is the message, wherever its chunks were cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use popgate::pop3::multiline::Multiline;

fuzz_target!(|input: (&[u8], Vec<u8>)| {
    let (body, cuts) = input;
    let mut encoder = Multiline::new();
    let (mut rest, mut reply) = (body, Vec::new());
    for cut in cuts {
        let (chunk, after) = rest.split_at(usize::from(cut).min(rest.len()));
        encoder.encode(chunk, &mut reply);
        rest = after;
    }
    encoder.encode(rest, &mut reply);
    encoder.finish(&mut reply);
    assert_eq!(decode(&reply), canonical(body));
});

/// A device's side (RFC 1939 §3): lines up to the dot, the first of two dots removed.
fn decode(reply: &[u8]) -> Vec<u8> {
    let (mut message, mut rest) = (Vec::new(), reply);
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").expect("a line end") + 2;
        let line;
        (line, rest) = rest.split_at(end);
        if line == b".\r\n" {
            assert!(rest.is_empty(), "octets after the terminating dot");
            return message;
        }
        message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
}

/// The message with CRLF at the end of each line.
fn canonical(body: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    for &octet in body {
        if octet == b'\n' && message.last() != Some(&b'\r') {
            message.push(b'\r');
        }
        message.push(octet);
    }
    if !message.is_empty() && !message.ends_with(b"\n") {
        message.extend_from_slice(b"\r\n");
    }
    message
}
