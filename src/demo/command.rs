//! Parses the commands of a client, without I/O and without state.

use super::{
    fetch,
    flags::Flags,
    reply::CommandError,
    search,
    sequence::{Numbering, SequenceSet},
    syntax::Words,
};

/// A command of a client (RFC 3501 §6, and the extensions in the capability list).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Capability,
    Noop,
    Logout,
    Id,
    Login {
        user: Vec<u8>,
        password: Vec<u8>,
    },
    Authenticate {
        mechanism: String,
        initial: Option<Vec<u8>>,
    },
    Namespace,
    List {
        answer: &'static str,
        reference: Vec<u8>,
        pattern: Vec<u8>,
    },
    Select {
        mailbox: Vec<u8>,
        read_only: bool,
    },
    Status {
        mailbox: Vec<u8>,
        items: Vec<StatusItem>,
    },
    Check,
    Close,
    Unselect,
    /// EXPUNGE, or UID EXPUNGE of a set (RFC 4315).
    Expunge(Option<SequenceSet>),
    Fetch {
        numbering: Numbering,
        set: SequenceSet,
        items: Vec<fetch::Item>,
    },
    Store {
        numbering: Numbering,
        set: SequenceSet,
        change: FlagChange,
        silent: bool,
    },
    Copy {
        numbering: Numbering,
        set: SequenceSet,
        mailbox: Vec<u8>,
    },
    Move {
        numbering: Numbering,
        set: SequenceSet,
        mailbox: Vec<u8>,
    },
    Search {
        numbering: Numbering,
        keys: Vec<search::SearchKey>,
    },
}

/// How STORE changes flags: `+FLAGS`, `-FLAGS` or `FLAGS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlagChange {
    Add(Flags),
    Remove(Flags),
    Replace(Flags),
}

impl FlagChange {
    pub(super) fn apply(self, flags: Flags) -> Flags {
        match self {
            Self::Add(more) => flags.with(more),
            Self::Remove(less) => flags.without(less),
            Self::Replace(all) => all,
        }
    }
}

/// The data items of STATUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatusItem {
    Messages,
    Recent,
    UidNext,
    UidValidity,
    Unseen,
}

impl Command {
    /// Whether message numbers must not change while the command is answered (RFC 3501 §7.4.1).
    pub(super) fn keeps_numbers(&self) -> bool {
        matches!(self, Self::Fetch { .. } | Self::Store { .. } | Self::Search { .. })
    }

    /// Parses the `words` after the tag.
    pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, CommandError> {
        words.space()?;
        let verb = words.keyword()?;
        let command = match verb.as_str() {
            "CAPABILITY" => Self::Capability,
            "NOOP" => Self::Noop,
            "LOGOUT" => Self::Logout,
            "NAMESPACE" => Self::Namespace,
            "CHECK" => Self::Check,
            "CLOSE" => Self::Close,
            "UNSELECT" => Self::Unselect,
            "EXPUNGE" => Self::Expunge(None),
            "ID" => id(words)?,
            "LOGIN" => Self::Login {
                user: argument(words)?,
                password: argument(words)?,
            },
            "AUTHENTICATE" => authenticate(words)?,
            "LIST" => list("LIST", words)?,
            "LSUB" => list("LSUB", words)?,
            "SELECT" | "EXAMINE" => Self::Select {
                mailbox: argument(words)?,
                read_only: verb == "EXAMINE",
            },
            "STATUS" => status(words)?,
            "UID" => {
                words.space()?;
                let verb = words.keyword()?;
                match verb.as_str() {
                    "EXPUNGE" => Self::Expunge(Some(set(words)?)),
                    verb => on_messages(verb, Numbering::Uid, words)?,
                }
            }
            "APPEND" | "CREATE" | "DELETE" | "RENAME" | "SUBSCRIBE" | "UNSUBSCRIBE" => {
                return Err(CommandError::No(
                    "[CANNOT] this server has its sample mail and nothing else",
                ));
            }
            verb => on_messages(verb, Numbering::Sequence, words)?,
        };
        words.end()?;
        Ok(command)
    }
}

/// Parses the commands that exist with and without UID before them.
fn on_messages(verb: &str, numbering: Numbering, words: &mut Words<'_>) -> Result<Command, CommandError> {
    match verb {
        "FETCH" => {
            let set = set(words)?;
            words.space()?;
            let items = fetch::parse(words, numbering)?;
            Ok(Command::Fetch { numbering, set, items })
        }
        "STORE" => store(words, numbering),
        "COPY" => Ok(Command::Copy {
            numbering,
            set: set(words)?,
            mailbox: argument(words)?,
        }),
        "MOVE" => Ok(Command::Move {
            numbering,
            set: set(words)?,
            mailbox: argument(words)?,
        }),
        "SEARCH" => {
            words.space()?;
            let keys = search::parse(words)?;
            Ok(Command::Search { numbering, keys })
        }
        _ => Err(CommandError::Bad("unknown command")),
    }
}

fn argument(words: &mut Words<'_>) -> Result<Vec<u8>, CommandError> {
    words.space()?;
    words.astring()
}

fn set(words: &mut Words<'_>) -> Result<SequenceSet, CommandError> {
    words.space()?;
    words.sequence_set()
}

/// Parses the argument of ID (RFC 2971 §3.1): NIL, or pairs of strings, the second of which may be NIL.
fn id(words: &mut Words<'_>) -> Result<Command, CommandError> {
    words.space()?;
    if !words.take(b'(') {
        return match words.keyword()?.as_str() {
            "NIL" => Ok(Command::Id),
            _ => Err(CommandError::Bad("ID takes a list or NIL")),
        };
    }
    while !words.take(b')') {
        words.string()?;
        words.space()?;
        // An unquoted value can only be NIL. Other words are accepted too, because nobody uses the value.
        words.astring()?;
        if !words.take(b' ') {
            words.expect(b')')?;
            break;
        }
    }
    Ok(Command::Id)
}

/// Parses AUTHENTICATE. The initial response (SASL-IR, RFC 4959) stays in base64.
fn authenticate(words: &mut Words<'_>) -> Result<Command, CommandError> {
    words.space()?;
    let mechanism = words.keyword()?;
    let initial = words.take(b' ').then(|| words.bare().to_vec());
    Ok(Command::Authenticate { mechanism, initial })
}

fn list(answer: &'static str, words: &mut Words<'_>) -> Result<Command, CommandError> {
    let reference = argument(words)?;
    words.space()?;
    let pattern = match words.bare() {
        b"" => words.string()?,
        bare => bare.to_vec(),
    };
    Ok(Command::List {
        answer,
        reference,
        pattern,
    })
}

fn status(words: &mut Words<'_>) -> Result<Command, CommandError> {
    let mailbox = argument(words)?;
    words.space()?;
    words.expect(b'(')?;
    let mut items = Vec::new();
    loop {
        items.push(match words.keyword()?.as_str() {
            "MESSAGES" => StatusItem::Messages,
            "RECENT" => StatusItem::Recent,
            "UIDNEXT" => StatusItem::UidNext,
            "UIDVALIDITY" => StatusItem::UidValidity,
            "UNSEEN" => StatusItem::Unseen,
            _ => return Err(CommandError::Bad("STATUS knows no such item")),
        });
        if words.take(b')') {
            return Ok(Command::Status { mailbox, items });
        }
        words.space()?;
    }
}

fn store(words: &mut Words<'_>, numbering: Numbering) -> Result<Command, CommandError> {
    let set = set(words)?;
    words.space()?;
    let change = if words.take(b'+') {
        FlagChange::Add
    } else if words.take(b'-') {
        FlagChange::Remove
    } else {
        FlagChange::Replace
    };
    let silent = match words.keyword()?.as_str() {
        "FLAGS" => false,
        "FLAGS.SILENT" => true,
        _ => return Err(CommandError::Bad("STORE changes FLAGS and nothing else")),
    };
    words.space()?;
    Ok(Command::Store {
        numbering,
        set,
        change: change(flags(words)?),
        silent,
    })
}

/// Parses a list of flags, in parentheses or bare. Keywords are dropped, as PERMANENTFLAGS announces (RFC 3501 §7.1).
fn flags(words: &mut Words<'_>) -> Result<Flags, CommandError> {
    let listed = words.take(b'(');
    let mut flags = Flags::NONE;
    if listed && words.take(b')') {
        return Ok(flags);
    }
    loop {
        let name = words.flag()?;
        match Flags::parse(name) {
            Some(flag) => flags = flags.with(flag),
            None if name.starts_with(b"\\") => return Err(CommandError::Bad("no client may set that flag")),
            None => {}
        }
        if listed && words.take(b')') || !listed && words.is_empty() {
            return Ok(flags);
        }
        words.space()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> Result<Command, CommandError> {
        Command::parse(&mut Words::new(&[b" ", text].concat()))
    }

    #[test]
    fn a_login_takes_its_words_in_any_form() {
        let expected = || Command::Login {
            user: b"demo".to_vec(),
            password: b"de mo".to_vec(),
        };
        assert_eq!(parsed(b"login demo \"de mo\"").unwrap(), expected());
        assert_eq!(parsed(b"LOGIN {4}\r\ndemo {5+}\r\nde mo").unwrap(), expected());
    }

    #[test]
    fn store_in_all_its_forms() {
        let change = |text: &str| match parsed(text.as_bytes()).unwrap() {
            Command::Store { change, silent, .. } => (change, silent),
            other => panic!("{other:?}"),
        };
        let both = Flags::SEEN.with(Flags::DELETED);
        assert_eq!(
            change(r"STORE 1 +FLAGS.SILENT (\Seen \Deleted)"),
            (FlagChange::Add(both), true)
        );
        assert_eq!(
            change(r"UID STORE 1 -flags \seen \deleted"),
            (FlagChange::Remove(both), false)
        );
        assert_eq!(change(r"STORE 1 FLAGS ()"), (FlagChange::Replace(Flags::NONE), false));
        assert_eq!(
            change(r"STORE 1 FLAGS ($Junk \Seen)"),
            (FlagChange::Replace(Flags::SEEN), false)
        );
    }

    #[test]
    fn id_with_and_without_a_list() {
        for text in [
            "ID NIL",
            "ID ()",
            r#"ID ("name" "x")"#,
            r#"ID ("name" NIL "version" "1")"#,
        ] {
            assert_eq!(parsed(text.as_bytes()), Ok(Command::Id), "{text}");
        }
    }

    #[test]
    fn bad_commands() {
        for text in [
            "",
            "NONSENSE",
            "NOOP now",
            "LOGIN demo",
            "LOGIN demo demo demo",
            "UID",
            "UID NOOP",
            "UID EXPUNGE",
            "ID",
            "ID (",
            r#"ID ("a")"#,
            "SELECT",
            "STATUS INBOX",
            "STATUS INBOX ()",
            "STATUS INBOX (SIZE)",
            "FETCH",
            "FETCH 0 UID",
            "FETCH 1 ",
            "STORE 1 FLAGS",
            r"STORE 1 +FLAGS (\Recent)",
            r"STORE 1 +FLAGS (\Seen",
            "STORE 1 FLAG ()",
            "COPY 1",
            "MOVE x Trash",
            "LIST \"\"",
            "EXPUNGE 1",
            "SEARCH",
            " NOOP",
        ] {
            assert!(matches!(parsed(text.as_bytes()), Err(CommandError::Bad(_))), "{text:?}");
        }
    }

    #[test]
    fn proper_commands_that_are_not_served() {
        for text in ["CREATE Mine", "APPEND INBOX {3}\r\nabc", "SUBSCRIBE INBOX"] {
            assert!(matches!(parsed(text.as_bytes()), Err(CommandError::No(_))), "{text:?}");
        }
    }
}
