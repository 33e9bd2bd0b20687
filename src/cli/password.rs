//! A password that somebody types, or a program hands over.

use std::io::{self, BufRead, IsTerminal};

use super::Failure;
use crate::config::Secret;

/// Asks for a password at the terminal, where it does not show; reads one line from standard input if that is none.
pub(super) fn ask(prompt: &str) -> Result<Secret, Failure> {
    if io::stdin().is_terminal() {
        let typed = rpassword::prompt_password(format!("{prompt}: "))?;
        return not_empty(typed.into_bytes());
    }
    let mut line = Vec::new();
    io::stdin().lock().read_until(b'\n', &mut line)?;
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    }
    not_empty(line)
}

fn not_empty(password: Vec<u8>) -> Result<Secret, Failure> {
    if password.is_empty() {
        Err(Failure::wrong("no password on standard input"))
    } else {
        Ok(Secret::from(password))
    }
}
