//! The folders of a scripted upstream: their names have a prefix and a separator, and commands on missing folders are
//! refused.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use super::{
    answers::Answers,
    script::{Step, send},
};

/// A server's folders besides INBOX, by their names on the wire.
#[derive(Clone)]
pub struct Hoster {
    prefix: &'static str,
    separator: &'static str,
    /// The answer to commands on a folder that does not exist.
    refusal: &'static str,
    folders: Arc<Mutex<BTreeSet<String>>>,
}

impl Hoster {
    /// A personal namespace (RFC 2342) with this prefix and separator, and the folders that exist.
    pub fn new<'a>(prefix: &'static str, separator: &'static str, folders: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            prefix,
            separator,
            refusal: "NO [TRYCREATE] no such mailbox",
            folders: Arc::new(Mutex::new(folders.into_iter().map(str::to_owned).collect())),
        }
    }

    /// Sets the answer to commands on a folder that does not exist.
    pub fn refusal(mut self, refusal: &'static str) -> Self {
        self.refusal = refusal;
        self
    }

    /// The folders that exist now.
    pub fn folders(&self) -> Vec<String> {
        self.folders.lock().unwrap().iter().cloned().collect()
    }

    /// Adds these folders to `answers`.
    pub fn over(&self, answers: Answers) -> Answers {
        let hoster = self.clone();
        answers.answer(move |command| hoster.to(command))
    }

    fn to(&self, command: &str) -> Option<Vec<Step>> {
        let words: Vec<&str> = command.split(' ').collect();
        let (prefix, separator) = (self.prefix, self.separator);
        Some(match words[..] {
            ["NAMESPACE"] => vec![
                send(format!("* NAMESPACE ((\"{prefix}\" \"{separator}\")) NIL NIL\r\n")),
                send("{tag} OK done\r\n"),
            ],
            ["LIST", _, "\"\"" | "", ..] => vec![
                send(format!("* LIST (\\Noselect) \"{separator}\" \"{prefix}\"\r\n")),
                send("{tag} OK done\r\n"),
            ],
            ["LIST", ..] => {
                let line = |folder: &String| format!("* LIST (\\HasNoChildren) \"{separator}\" \"{folder}\"\r\n");
                let listed: String = self.folders.lock().unwrap().iter().map(line).collect();
                let inbox = format!("* LIST (\\HasChildren) \"{separator}\" \"INBOX\"\r\n");
                vec![send(inbox + &listed), send("{tag} OK done\r\n")]
            }
            ["CREATE", ..] => {
                let folder = last_string(command);
                if folder.starts_with(prefix) && folder != prefix {
                    self.folders.lock().unwrap().insert(folder);
                    vec![send("{tag} OK created\r\n")]
                } else {
                    vec![send("{tag} NO Invalid mailbox name\r\n")]
                }
            }
            ["STATUS", ..] if self.exists(command) => vec![
                send(format!(
                    "* STATUS \"{}\" (MESSAGES 3 UIDVALIDITY 9 UIDNEXT 4)\r\n",
                    last_string(command)
                )),
                send("{tag} OK done\r\n"),
            ],
            // `answers` has an answer to these.
            ["SELECT" | "EXAMINE", ..] | ["UID", "COPY" | "MOVE", ..] if self.exists(command) => return None,
            ["STATUS" | "SELECT" | "EXAMINE", ..] | ["UID", "COPY" | "MOVE", ..] => {
                vec![send(format!("{{tag}} {}\r\n", self.refusal))]
            }
            ["SUBSCRIBE", ..] => vec![send("{tag} OK done\r\n")],
            _ => return None,
        })
    }

    fn exists(&self, command: &str) -> bool {
        let folder = last_string(command);
        folder.eq_ignore_ascii_case("INBOX") || self.folders.lock().unwrap().contains(&folder)
    }
}

/// The last folder name in a command: in quotes, or as an atom.
fn last_string(command: &str) -> String {
    let head = command.rsplit_once(" (").map_or(command, |(head, _)| head);
    let name = match head.strip_suffix('"') {
        Some(quoted) => quoted.rsplit_once('"').map(|(_, name)| name),
        None => head.rsplit_once(' ').map(|(_, name)| name),
    };
    name.unwrap_or_default().to_owned()
}

/// A folder's name in modified UTF-7 (RFC 3501 §5.1.3).
pub fn utf7(name: &str) -> String {
    let (mut out, mut shifted) = (String::new(), Vec::new());
    for c in name.chars().map(Some).chain([None]) {
        match c.filter(|c| !(' '..='~').contains(c)) {
            Some(c) => shifted.extend(c.encode_utf16(&mut [0; 2]).iter().flat_map(|unit| unit.to_be_bytes())),
            None => {
                if !shifted.is_empty() {
                    let base64 = STANDARD_NO_PAD.encode(std::mem::take(&mut shifted)).replace('/', ",");
                    out.extend(["&", &base64, "-"]);
                }
                match c {
                    Some('&') => out.push_str("&-"),
                    Some(c) => out.push(c),
                    None => {}
                }
            }
        }
    }
    out
}
