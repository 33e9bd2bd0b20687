//! `fold_lines`: folds long lines for devices that cannot take them.

use std::process::Command;

use crate::support::{
    PASSWORD,
    dovecot::Dovecot,
    gateway::{Setup, account},
    mail,
    pop::Pop,
    require_program,
};

/// Python's poplib, which refuses lines of more than 2048 octets.
const POPLIB: &str = r#"
import email, poplib, sys
port, password = sys.argv[1:]
pop = poplib.POP3("localhost", int(port), timeout=30)
pop.user("poplib")
pop.pass_(password)
for number in range(1, pop.stat()[0] + 1):
    _, lines, _ = pop.retr(number)
    assert all(len(line) <= 2046 for line in lines)
    _, top, _ = pop.top(number, 0)
    assert top == lines[:len(top)]
    message = email.message_from_bytes(b"\r\n".join(lines))
    print(number, message["Subject"].replace("\r\n", "").replace("\n", ""))
    print(number, "".join(message.get_payload().split()))
pop.quit()
"#;

#[test]
fn poplib_takes_long_lines() {
    let Some(python) = require_program("python3") else {
        return;
    };
    let Some(dovecot) = Dovecot::start() else { return };
    let subject = "a word and ".repeat(500) + "end";
    let text = "x".repeat(10_000);
    let long = format!("From: a@example.org\r\nSubject: {subject}\r\n\r\n{text}\r\n.{text}\r\n");
    let mails = [mail::simple(1), long.clone().into_bytes()];
    dovecot.user_with("eva", &mails);
    let gateway = Setup::new(dovecot.address())
        .table(&(account("poplib", "eva") + "\nmaildrop = { fold_lines = 2048 }"))
        .table(&account("plain", "eva"))
        .start();
    let port = gateway.address().port().to_string();
    let output = Command::new(python)
        .args(["-c", POPLIB, &port, PASSWORD])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines[0], "1 number 1");
    assert_eq!(lines[2], format!("2 {subject}"));
    assert_eq!(lines[3], format!("2 {text}.{text}"));

    // The reply has no size, because it could only be a wrong one. The size that LIST has learned is that of the mail
    // as it is, for devices that do not fold.
    let mut folding = Pop::log_in(gateway.address(), "poplib");
    assert_eq!(folding.ok("RETR 2"), "+OK");
    let folded = folding.body().unwrap();
    assert!(folded.len() > long.len());
    folding.quit();
    let mut plain = Pop::log_in(gateway.address(), "plain");
    let expected = mail::delivered(long.as_bytes());
    assert_eq!(plain.ok("LIST 2"), format!("+OK 2 {}", expected.len()));
    assert!(plain.retr(2) == (expected.len() as u64, expected));
    plain.quit();
}
