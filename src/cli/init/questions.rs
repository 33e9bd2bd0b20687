//! Asks each question until the answer makes sense.

use std::io::{BufRead, Write};

use super::super::{Failure, password};
use crate::config::Secret;

/// Asks a person at a terminal, or reads the answers from a pipe, one a line.
pub(super) struct Questions<R, W> {
    input: R,
    out: W,
    /// Whether secrets are typed at the terminal, where they do not show.
    at_terminal: bool,
}

impl<R: BufRead, W: Write> Questions<R, W> {
    pub(super) fn new(input: R, out: W, at_terminal: bool) -> Self {
        Self {
            input,
            out,
            at_terminal,
        }
    }

    pub(super) fn print(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Asks until `read` accepts the answer. An empty answer stands for `default`.
    pub(super) fn ask<T>(
        &mut self,
        question: &str,
        default: Option<&str>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Failure> {
        self.print(&format!("\n{question}"))?;
        loop {
            self.prompt(default)?;
            let mut line = Vec::new();
            if self.input.read_until(b'\n', &mut line)? == 0 {
                return Err(ended(question));
            }
            let line = String::from_utf8(line).map_err(|_| "the answer is not UTF-8".to_owned());
            let answer = line.and_then(|line| match (line.trim(), default) {
                ("", None) => Err("an answer is needed".to_owned()),
                ("", Some(default)) => read(default),
                (answer, _) => read(answer),
            });
            match answer {
                Ok(answer) => return Ok(answer),
                Err(wrong) => self.print(&format!("  {wrong}"))?,
            }
        }
    }

    /// Asks for a secret until the answer is not empty.
    pub(super) fn secret(&mut self, question: &str) -> Result<Secret, Failure> {
        self.announce(question)?;
        loop {
            if let Some(secret) = self.take_secret(question, None)? {
                return Ok(secret);
            }
            self.print("  an answer is needed")?;
        }
    }

    /// Asks for a secret. An empty answer gives `None`; `otherwise` tells the user what that means.
    pub(super) fn secret_or(&mut self, question: &str, otherwise: &str) -> Result<Option<Secret>, Failure> {
        self.announce(question)?;
        self.take_secret(question, Some(otherwise))
    }

    fn announce(&mut self, question: &str) -> Result<(), Failure> {
        let unseen = if self.at_terminal {
            " (It does not show while you type.)"
        } else {
            ""
        };
        self.print(&format!("\n{question}{unseen}"))
    }

    fn take_secret(&mut self, question: &str, otherwise: Option<&str>) -> Result<Option<Secret>, Failure> {
        self.prompt(otherwise)?;
        let line = password::read(&mut self.input, self.at_terminal)?.ok_or_else(|| ended(question))?;
        Ok((!line.is_empty()).then(|| Secret::from(line.to_vec())))
    }

    fn prompt(&mut self, default: Option<&str>) -> Result<(), Failure> {
        match default {
            Some(default) => write!(self.out, "  [{default}] > ")?,
            None => write!(self.out, "  > ")?,
        }
        Ok(self.out.flush()?)
    }
}

fn ended(question: &str) -> Failure {
    let question = question.lines().next().unwrap_or_default();
    Failure::wrong(format!(
        "the answers end before this question: {question} Nothing was written"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_until_there_is_an_answer() {
        let mut out = Vec::new();
        let answers = &b"caf\xe9\n\n no \n yes\r\n\n shh \n\n"[..];
        let mut questions = Questions::new(answers, &mut out, false);
        let read = |answer: &str| match answer {
            "yes" => Ok(answer.len()),
            _ => Err(format!("not {answer}")),
        };
        assert_eq!(questions.ask("Well?", None, read).unwrap(), 3);
        let secret = questions.secret("Which?").unwrap();
        assert_eq!(secret.expose(), b" shh ");
        assert!(questions.secret_or("Another?", "none").unwrap().is_none());
        assert!(questions.secret_or("One more?", "none").is_err());
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\nWell?\n  >   the answer is not UTF-8\n  >   an answer is needed\n  >   not no\n  > \nWhich?\n  >   an answer is \
             needed\n  > \nAnother?\n  [none] > \nOne more?\n  [none] > "
        );
    }
}
