//! Folders other than the selected one: which there are, what they hold, and making one.

use super::{
    Mailbox,
    error::Error,
    response::{self, Code, Line},
    utf7::Names,
};

/// A folder that LIST told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// UTF-8.
    pub name: String,
    /// What separates the levels of its name.
    pub delimiter: Option<char>,
    /// It is for messages that were deleted (`\Trash`, RFC 6154 §2).
    pub is_trash: bool,
}

/// What STATUS told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderStatus {
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// The next message's UID, at least.
    pub uid_next: u32,
}

/// Octets of a literal in a response of these: a name, hardly more.
const MAX_LITERAL: u64 = 64 * 1024;
/// Responses to one command: folders, more than any user has.
const MAX_RESPONSES: usize = 100_000;
/// Octets of them all.
const MAX_OCTETS: usize = 16 * 1024 * 1024;

impl Mailbox {
    /// The folders that can be selected.
    pub async fn folders(&mut self) -> Result<Vec<Folder>, Error> {
        let command = match self.capabilities.special_use {
            true => "LIST \"\" \"*\" RETURN (SPECIAL-USE)",
            false => "LIST \"\" \"*\"",
        };
        let mut listed = self.responses("LIST", command).await;
        if self.capabilities.special_use && matches!(listed, Err(Error::Refused { .. })) {
            // RETURN is of LIST-EXTENDED (RFC 5258), which may be missing; then the attributes are told anyway, or not at all.
            listed = self.responses("LIST", "LIST \"\" \"*\"").await;
        }
        let names = self.names;
        Ok(listed?.iter().filter_map(|response| folder(response, names)).collect())
    }

    /// UIDVALIDITY and UIDNEXT of a folder; `None` where there is no such folder.
    pub async fn status(&mut self, name: &str) -> Result<Option<FolderStatus>, Error> {
        let command = format!("STATUS {} (UIDVALIDITY UIDNEXT)", self.names.quoted(name));
        match self.responses("STATUS", &command).await {
            Ok(responses) => match responses.iter().find_map(|response| status(response)) {
                Some(status) => Ok(Some(status)),
                None => Err(Error::NoData("STATUS")),
            },
            // Servers say so with NONEXISTENT (RFC 5530 §3) or without any code: only what passes is another matter.
            Err(Error::Refused { completion, .. }) if completion.is_no() && !completion.is_temporary() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a folder; that it is there already is fine.
    pub async fn create(&mut self, name: &str) -> Result<(), Error> {
        let command = format!("CREATE {}", self.names.quoted(name));
        match self.run("CREATE", &command).await {
            Err(Error::Refused { completion, .. }) if completion.code() == Some(Code::AlreadyExists) => Ok(()),
            result => result,
        }
    }

    /// Runs `command` and collects the untagged responses that begin with `name`, literals and all; an error where they pass
    /// [`MAX_RESPONSES`] or [`MAX_OCTETS`].
    async fn responses(&mut self, name: &'static str, command: &str) -> Result<Vec<Vec<u8>>, Error> {
        self.settle().await?;
        self.broken = true;
        let tag = self.next_tag();
        let wire = &mut self.wire;
        wire.send(format!("{tag} {command}\r\n").as_bytes()).await?;
        let mut responses = Vec::new();
        let mut octets_of_all = 0;
        let completion = loop {
            let span = wire.next_response().await?;
            match Line::parse(&wire.buffer()[..span.line]) {
                Line::Tagged(of, status) if of == tag.as_bytes() => {
                    let completion = status.to_completion();
                    wire.consume(span.total);
                    break completion;
                }
                Line::Untagged(data) if response::word(data).0.eq_ignore_ascii_case(name.as_bytes()) => {
                    let mut response = data.to_vec();
                    wire.consume(span.total);
                    // Where its last line begins: a name that comes as a literal may itself end like the head of one.
                    let mut line = 0;
                    while let Some(octets) = response::literal(&response[line..]) {
                        if octets > MAX_LITERAL {
                            return Err(Error::Protocol("a literal passes the limit"));
                        }
                        response.extend_from_slice(b"\r\n");
                        let mut left = octets as usize;
                        while left > 0 {
                            if wire.buffer().is_empty() {
                                wire.fill().await?;
                            }
                            let count = left.min(wire.buffer().len());
                            response.extend_from_slice(&wire.buffer()[..count]);
                            wire.consume(count);
                            left -= count;
                        }
                        line = response.len();
                        let span = wire.next_response().await?;
                        response.extend_from_slice(&wire.buffer()[..span.line]);
                        wire.consume(span.total);
                    }
                    octets_of_all += response.len();
                    if responses.len() == MAX_RESPONSES || octets_of_all > MAX_OCTETS {
                        return Err(Error::Protocol("more folders than the limit"));
                    }
                    responses.push(response);
                }
                Line::Untagged(_) => wire.note(span)?,
                Line::Tagged(..) | Line::Continue | Line::Other => wire.consume(span.total),
            }
        };
        wire.rest();
        self.broken = false;
        match completion.is_ok() {
            true => Ok(responses),
            false => Err(Error::Refused {
                command: name,
                completion,
            }),
        }
    }
}

/// Of `LIST (\HasNoChildren \Trash) "/" Bin`; `None` where that is no folder that can be selected.
fn folder(response: &[u8], names: Names) -> Option<Folder> {
    let (_, rest) = response::word(response);
    let rest = rest.strip_prefix(b"(")?;
    let end = memchr::memchr(b')', rest)?;
    let attributes: Vec<&[u8]> = rest[..end].split(|&octet| octet == b' ').collect();
    let has = |name: &str| {
        attributes
            .iter()
            .any(|attribute| attribute.eq_ignore_ascii_case(name.as_bytes()))
    };
    let mut rest = rest[end + 1..].trim_ascii_start();
    let delimiter = string(&mut rest)?;
    let name = string(&mut rest)?;
    (!has("\\Noselect") && !has("\\NonExistent")).then(|| Folder {
        name: names.decoded(&name),
        delimiter: match delimiter.as_slice() {
            b"NIL" | b"nil" => None,
            octets => octets.first().map(|&octet| char::from(octet)),
        },
        is_trash: has("\\Trash"),
    })
}

/// Of `STATUS Bin (UIDNEXT 9 UIDVALIDITY 7)`.
fn status(response: &[u8]) -> Option<FolderStatus> {
    let (_, mut rest) = response::word(response);
    string(&mut rest)?;
    let items = rest.trim_ascii().strip_prefix(b"(")?.strip_suffix(b")")?;
    let words: Vec<&[u8]> = items
        .split(|&octet| octet == b' ')
        .filter(|word| !word.is_empty())
        .collect();
    let number = |name: &str| {
        let pair = words
            .chunks_exact(2)
            .find(|pair| pair[0].eq_ignore_ascii_case(name.as_bytes()));
        response::number(pair?[1])
    };
    Some(FolderStatus {
        uid_validity: number("UIDVALIDITY")?,
        uid_next: number("UIDNEXT")?,
    })
}

/// Takes an atom, a quoted string or a literal off, and the spaces after it.
fn string(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let (value, after) = match rest.first()? {
        b'"' => {
            let mut value = Vec::new();
            let mut at = 1;
            loop {
                match rest.get(at)? {
                    b'"' => break (value, &rest[at + 1..]),
                    b'\\' => {
                        value.push(*rest.get(at + 1)?);
                        at += 2;
                    }
                    &octet => {
                        value.push(octet);
                        at += 1;
                    }
                }
            }
        }
        b'{' => {
            let end = memchr::memchr(b'\n', rest)?;
            let octets = usize::try_from(response::literal(rest[..end].trim_ascii_end())?).ok()?;
            let value = rest.get(end + 1..end + 1 + octets)?.to_vec();
            (value, &rest[end + 1 + octets..])
        }
        _ => {
            let (word, after) = response::word(rest);
            (word.to_vec(), after)
        }
    };
    *rest = after.trim_ascii_start();
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_responses_in_all_shapes() {
        let bin = |delimiter| Folder {
            name: "Bin".into(),
            delimiter,
            is_trash: true,
        };
        for (response, expected) in [
            (&b"LIST (\\HasNoChildren \\Trash) \"/\" Bin"[..], Some(bin(Some('/')))),
            (b"LIST (\\trash) NIL \"Bin\"", Some(bin(None))),
            (b"LIST (\\Trash)  \".\"  {3}\r\nBin", Some(bin(Some('.')))),
            (b"LIST (\\Noselect \\Trash) \"/\" Bin", None),
            (b"LIST", None),
            (b"LIST () \"/\"", None),
            (b"LIST () \"/\" \"open", None),
            (b"LIST () \"/\" {9}\r\nshort", None),
        ] {
            let found = folder(response, Names::ModifiedUtf7);
            assert_eq!(found, expected, "{}", response.escape_ascii());
        }
        let named = |response: &[u8]| folder(response, Names::ModifiedUtf7).unwrap().name;
        assert_eq!(named(b"LIST () \"\\\\\" \"a \\\"b\\\"\""), "a \"b\"");
        assert_eq!(named(b"LIST () \"/\" \"Gel&APY-scht\""), "Gelöscht");
    }

    #[test]
    fn status_responses_in_all_shapes() {
        let expected = Some(FolderStatus {
            uid_validity: 7,
            uid_next: 9,
        });
        for response in [
            &b"STATUS Bin (UIDNEXT 9 UIDVALIDITY 7)"[..],
            b"status \"B (in\" (messages 3 uidvalidity 7 uidnext 9 )",
            b"STATUS {3}\r\nBin (UIDVALIDITY 7 UIDNEXT 9)",
        ] {
            assert_eq!(status(response), expected, "{}", response.escape_ascii());
        }
        assert_eq!(status(b"STATUS Bin (UIDNEXT 9)"), None);
    }
}
