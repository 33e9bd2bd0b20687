//! Messages, and what POP3 should make of them: written from RFC 1939, not from the gateway's code.

/// What a device gets of `message` after the dots are un-stuffed: bare LFs have become CRLF, and a missing final CRLF
/// is added.
pub fn delivered(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 2);
    for line in message.split_inclusive(|&octet| octet == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(text) => {
                out.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
                out.extend_from_slice(b"\r\n");
            }
            None => {
                out.extend_from_slice(line);
                out.extend_from_slice(b"\r\n");
            }
        }
    }
    out
}

/// What TOP gives of `message`: the header, the empty line and this number of lines (RFC 1939 §7).
pub fn top(message: &[u8], lines: usize) -> Vec<u8> {
    let message = delivered(message);
    let mut rest = message.split_inclusive(|&octet| octet == b'\n');
    let mut out = Vec::new();
    for line in rest.by_ref() {
        out.extend_from_slice(line);
        if line == b"\r\n" {
            break;
        }
    }
    out.extend(rest.take(lines).flatten());
    out
}

/// A line of [`simple`]. It must never show up in a log.
pub const BODY_MARK: &str = "It has three lines.";

/// A small mail with a unique text.
pub fn simple(number: usize) -> Vec<u8> {
    format!(
        "From: a{number}@example.org\r\nTo: b@example.org\r\nSubject: number {number}\r\n\r\n\
         This is message {number}.\r\n{BODY_MARK}\r\nThis is the last.\r\n"
    )
    .into_bytes()
}

/// The number of a mail made by [`simple`]; asserts that every octet of the mail is right.
pub fn number(octets: &[u8]) -> usize {
    let text = String::from_utf8_lossy(octets);
    let number = text.lines().find_map(|line| line.strip_prefix("Subject: number "));
    let number = number.and_then(|number| number.parse().ok()).expect("a simple mail");
    assert_eq!(octets, simple(number));
    number
}

/// Messages that a gateway can get wrong.
pub fn nasty() -> Vec<(&'static str, Vec<u8>)> {
    let head = b"Subject: nasty\r\nFrom: a@example.org\r\n\r\n";
    let with = |body: &[u8]| [head, body].concat();
    vec![
        ("dots", with(b".\r\n..\r\n...\r\n.a\r\n \r\n.\r\n")),
        ("a dot first of all", b".\r\n.x: y\r\n\r\n.\r\n".to_vec()),
        ("bare LF", b"Subject: lf\nFrom: a\n\none\n.two\nthree\n".to_vec()),
        (
            "mixed line ends",
            b"Subject: mix\r\nFrom: a\n\r\none\n.two\r\nthree\n".to_vec(),
        ),
        ("bare CR", with(b"one\rtwo\r\r\nthree\r.\r\n\r")),
        ("8-bit", with(b"\xff\xfe\x80gr\xfc\xdfe\r\n\xc3\xa9\r\n")),
        ("1 MB line", with(&[&vec![b'x'; 1 << 20][..], b"\r\nend\r\n"].concat())),
        ("1 MB of dots", with(&b".\r\n".repeat(350_000))),
        ("no final line end", with(b"the end")),
        ("ends in a dot", with(b"the end\r\n.")),
        ("ends in CR", with(b"the end\r")),
        ("header only", b"Subject: header only\r\n\r\n".to_vec()),
        ("header without its empty line", b"Subject: no empty line\r\n".to_vec()),
        ("no header", b"\r\nbody\r\n".to_vec()),
        ("many empty lines", with(&b"\r\n".repeat(5000))),
        ("one octet", b"x".to_vec()),
    ]
}

#[test]
fn expectations_by_hand() {
    assert_eq!(delivered(b""), b"");
    assert_eq!(delivered(b"a\nb\r\nc\r\rd"), b"a\r\nb\r\nc\r\rd\r\n");
    assert_eq!(delivered(b"a\r"), b"a\r\r\n");
    assert_eq!(top(b"A: 1\n\none\ntwo\n", 1), b"A: 1\r\n\r\none\r\n");
    assert_eq!(top(b"A: 1\r\n\r\none", 0), b"A: 1\r\n\r\n");
    assert_eq!(top(b"A: 1\r\n\r\none", 9), b"A: 1\r\n\r\none\r\n");
}
