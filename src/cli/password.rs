//! Passwords that somebody types.

use std::io::{self, BufRead};

use zeroize::Zeroizing;

/// Reads a line without its end; `None` where `input` has ended. `at_terminal`: from the terminal instead, which does not show
/// what is typed.
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
