//! Reads a password from a person at the terminal, or from a program by standard input.

use std::io::{self, BufRead, IsTerminal};

use zeroize::Zeroizing;

use super::Failure;
use crate::config::Secret;

/// Asks for a password at the terminal, where it does not show. If standard input is not a terminal, reads one line of
/// it.
pub(super) fn ask(prompt: &str) -> Result<Secret, Failure> {
    let at_terminal = io::stdin().is_terminal();
    if at_terminal {
        eprint!("{prompt} (it does not show while you type): ");
    }
    let line = read(&mut io::stdin().lock(), at_terminal)?.unwrap_or_default();
    if line.is_empty() {
        return Err(Failure::wrong("no password on standard input"));
    }
    Ok(Secret::from(line.to_vec()))
}

/// Reads a line without its line end; `None` at the end of `input`. With `at_terminal` it reads from the terminal
/// instead, which does not show what is typed.
pub(super) fn read(input: &mut impl BufRead, at_terminal: bool) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    if at_terminal {
        let typed = rpassword::read_password()?;
        return Ok(Some(Zeroizing::new(typed.into_bytes())));
    }
    let mut line = Zeroizing::new(Vec::new());
    if input.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_end_is_taken_off() {
        let mut input = &b"one\n two \r\n\nlast"[..];
        for line in [&b"one"[..], b" two ", b"", b"last"] {
            assert_eq!(read(&mut input, false).unwrap().unwrap()[..], *line);
        }
        assert_eq!(read(&mut input, false).unwrap(), None);
    }
}
