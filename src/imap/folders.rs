//! Folders besides the selected one: lists them, translates their names, asks what they hold, and makes them.

use std::sync::Arc;

use super::{
    error::Error,
    mailbox::{Mailbox, require},
    namespace::Namespace,
    reader::{Event, Expect},
    response::Code,
    token,
    utf7::NameEncoding,
};
use crate::types::UidValidity;

/// A folder that LIST has returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The name as the server has it, in UTF-8.
    pub name: String,
    /// What separates the levels of its name; `None` if there are no levels.
    pub delimiter: Option<char>,
    /// Whether it is for deleted messages (`\Trash`, RFC 6154 §2).
    pub is_trash: bool,
    /// Whether no folder can be made below it (`\Noinferiors`, RFC 3501 §7.2.2).
    pub is_childless: bool,
}

/// What the user may do in a folder (RFC 4314 §2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights(String);

impl Rights {
    fn has(&self, right: char) -> bool {
        self.0.contains(right)
    }

    /// Whether the server grants `right` of RFC 2086, which RFC 4314 splits. If any of the new rights is there, an old
    /// one says only that some of its parts are granted (RFC 4314 §2.1.1).
    fn has_old(&self, right: char) -> bool {
        self.has(right) && !self.0.contains(['t', 'e', 'k', 'x'])
    }

    /// Whether messages may be flagged `\Deleted` and expunged. In RFC 2086, `d` allowed both.
    pub fn may_remove(&self) -> bool {
        (self.has('t') && self.has('e')) || self.has_old('d')
    }

    /// Whether messages may be moved or copied into the folder.
    pub fn may_insert(&self) -> bool {
        self.has('i')
    }

    /// Whether messages may be flagged `\Seen`.
    pub fn may_mark_seen(&self) -> bool {
        self.has('s')
    }

    /// Whether folders may be made below the folder. In RFC 2086, `c` allowed this.
    pub fn may_create_below(&self) -> bool {
        self.has('k') || self.has_old('c')
    }
}

/// The answer to STATUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderStatus {
    /// UIDVALIDITY: if it changes, UIDs mean other messages.
    pub uid_validity: UidValidity,
    /// The UID of the next message will be at least this.
    pub uid_next: u32,
}

impl Mailbox {
    /// The folders that can be selected. If the server has no NAMESPACE and nothing is known yet, remembers a guess of
    /// the namespace.
    pub async fn folders(&mut self) -> Result<Vec<Folder>, Error> {
        let command = if self.capabilities.special_use {
            "LIST \"\" \"*\" RETURN (SPECIAL-USE)"
        } else {
            "LIST \"\" \"*\""
        };
        let mut listed = self.responses("LIST", command).await;
        if self.capabilities.special_use && matches!(listed, Err(Error::Refused { .. })) {
            // RETURN belongs to LIST-EXTENDED (RFC 5258), which the server may lack. Such a server sends the attributes
            // anyway, or not at all.
            listed = self.responses("LIST", "LIST \"\" \"*\"").await;
        }
        let encoding = self.encoding;
        let folders: Vec<Folder> = listed?
            .iter()
            .filter_map(|response| folder(response, encoding))
            .collect();
        if !self.capabilities.namespace && self.namespaces.known().is_none() {
            self.namespaces.remember(namespace_of(&folders));
        }
        Ok(folders)
    }

    /// The user's namespace. If it is not known yet, asks the server, or guesses it from the folders. It is then
    /// remembered for all connections of this user.
    pub async fn namespace(&mut self) -> Result<Arc<Namespace>, Error> {
        match self.namespaces.known() {
            Some(known) => Ok(known),
            None => self.ask_namespace().await,
        }
    }

    async fn ask_namespace(&mut self) -> Result<Arc<Namespace>, Error> {
        let encoding = self.encoding;
        if self.capabilities.namespace {
            let responses = match self.responses("NAMESPACE", "NAMESPACE").await {
                Err(Error::Refused { .. }) => Vec::new(),
                responses => responses?,
            };
            let sent = responses
                .iter()
                .find_map(|response| Namespace::parse(response, |name| encoding.decoded(name)));
            if let Some(namespace) = sent {
                return Ok(self.namespaces.remember(namespace));
            }
        }
        let folders = self.folders().await?;
        Ok(self.namespaces.remember(namespace_of(&folders)))
    }

    /// Whether [`Mailbox::names_on_server`] answers for `name` without asking the server.
    pub(super) fn knows_name_of(&self, name: &str) -> bool {
        name.eq_ignore_ascii_case("INBOX") || self.namespaces.known().is_some()
    }

    /// The names that the server may have for the folder that the configuration calls `name`: the translated name,
    /// which is more likely, and then `name` as it is.
    pub(super) async fn names_on_server(&mut self, name: &str) -> Result<Vec<String>, Error> {
        if name.eq_ignore_ascii_case("INBOX") {
            return Ok(vec![name.to_owned()]);
        }
        let translated = self.namespace().await?.on_server(name);
        Ok(if translated == name {
            vec![translated]
        } else {
            vec![translated, name.to_owned()]
        })
    }

    /// The server's name of the folder that the configuration calls `name`: the one that exists or, if there is none,
    /// the one to make.
    pub async fn name_on_server(&mut self, name: &str) -> Result<String, Error> {
        let mut names = self.names_on_server(name).await?;
        if names.len() > 1 {
            for name in &names {
                if *name == self.folder || self.status(name).await?.is_some() {
                    return Ok(name.clone());
                }
            }
        }
        Ok(names.swap_remove(0))
    }

    /// Like [`Mailbox::name_on_server`], for a folder that messages are filed into. If the namespace is only a guess,
    /// this makes the folder if it is missing: the server's answer to CREATE shows which name it accepts.
    pub async fn name_to_file_into(&mut self, name: &str) -> Result<String, Error> {
        let on_server = self.name_on_server(name).await?;
        let Some(below) = self.namespace().await?.below_inbox() else {
            return Ok(on_server);
        };
        match self.status(&on_server).await {
            Ok(None) => {}
            Ok(Some(_)) | Err(Error::Refused { .. } | Error::NoData(_)) => return Ok(on_server),
            Err(error) => return Err(error),
        }
        match self.create(&on_server).await {
            Err(Error::Refused { .. }) => {}
            created => return created.map(|()| on_server),
        }
        let name_below = below.on_server(name);
        match self.create(&name_below).await {
            Err(Error::Refused { .. }) => Ok(on_server),
            Err(error) => Err(error),
            Ok(()) => {
                self.namespaces.remember(below);
                Ok(name_below)
            }
        }
    }

    /// UIDVALIDITY and UIDNEXT of the folder that the server calls `name`; `None` if there is no such folder.
    pub async fn status(&mut self, name: &str) -> Result<Option<FolderStatus>, Error> {
        let command = format!("STATUS {} (UIDVALIDITY UIDNEXT)", self.encoding.quoted(name));
        match self.responses("STATUS", &command).await {
            Ok(responses) => match responses.iter().find_map(|response| status(response)) {
                Some(status) => Ok(Some(status)),
                None => Err(Error::NoData("STATUS")),
            },
            // If there is no such folder, servers say NO with NONEXISTENT (RFC 5530 §3) or without any code. Only a
            // temporary refusal means something else.
            Err(Error::Refused { completion, .. }) if completion.is_no() && !completion.will_pass() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the user may do in the folder that the server calls `name`; `None` if the server does not say.
    pub async fn rights(&mut self, name: &str) -> Result<Option<Rights>, Error> {
        if !self.capabilities.acl {
            return Ok(None);
        }
        let command = format!("MYRIGHTS {}", self.encoding.quoted(name));
        match self.responses("MYRIGHTS", &command).await {
            Ok(responses) => Ok(responses.iter().find_map(|response| rights(response))),
            Err(Error::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the folder that the server is to call `name`, and subscribes to it, so that mail programs show it. It is
    /// no error if the folder exists already.
    pub async fn create(&mut self, name: &str) -> Result<(), Error> {
        let name = self.encoding.quoted(name);
        match self.run("CREATE", &format!("CREATE {name}")).await {
            Err(Error::Refused { completion, .. }) if completion.code() == Some(Code::AlreadyExists) => return Ok(()),
            result => result?,
        }
        match self.run("SUBSCRIBE", &format!("SUBSCRIBE {name}")).await {
            Err(Error::Refused { .. }) => Ok(()),
            result => result,
        }
    }

    /// Runs `command` and collects the untagged responses that begin with `name`, with their literals.
    async fn responses(&mut self, name: &'static str, command: &str) -> Result<Vec<Vec<u8>>, Error> {
        let expect = Expect {
            data: Some(name),
            ..Expect::default()
        };
        let mut responses = Vec::new();
        let completions = self
            .link
            .flight(&[command], expect, |event| {
                if let Event::Data(data) = event {
                    responses.push(data);
                }
            })
            .await?;
        require(name, completions.first())?;
        Ok(responses)
    }
}

/// The namespace of a server that does not send it, guessed from its folders.
fn namespace_of(folders: &[Folder]) -> Namespace {
    let separator = folders.iter().find_map(|folder| folder.delimiter);
    Namespace::of_folders(separator, folders.iter().map(|folder| folder.name.as_str()))
}

/// Parses `LIST (\HasNoChildren \Trash) "/" Bin`; `None` if it is not a folder that can be selected.
fn folder(response: &[u8], encoding: NameEncoding) -> Option<Folder> {
    let (_, rest) = token::word(response);
    let rest = rest.strip_prefix(b"(")?;
    let end = memchr::memchr(b')', rest)?;
    let attributes: Vec<&[u8]> = rest[..end].split(|&octet| octet == b' ').collect();
    let has = |name: &str| {
        attributes
            .iter()
            .any(|attribute| attribute.eq_ignore_ascii_case(name.as_bytes()))
    };
    let mut rest = rest[end + 1..].trim_ascii_start();
    let delimiter = token::string(&mut rest)?;
    let name = token::string(&mut rest)?;
    (!has("\\Noselect") && !has("\\NonExistent")).then(|| Folder {
        name: encoding.decoded(&name),
        delimiter: match delimiter.as_slice() {
            b"NIL" | b"nil" => None,
            octets => octets.first().map(|&octet| char::from(octet)),
        },
        is_trash: has("\\Trash"),
        is_childless: has("\\Noinferiors"),
    })
}

/// Parses `MYRIGHTS Bin lrswipkxte`.
fn rights(response: &[u8]) -> Option<Rights> {
    let (_, mut rest) = token::word(response);
    rest = rest.trim_ascii_start();
    token::string(&mut rest)?;
    rest = rest.trim_ascii_start();
    let rights = token::string(&mut rest)?;
    Some(Rights(String::from_utf8_lossy(&rights).into_owned()))
}

/// Parses `STATUS Bin (UIDNEXT 9 UIDVALIDITY 7)`.
fn status(response: &[u8]) -> Option<FolderStatus> {
    let (_, mut rest) = token::word(response);
    token::string(&mut rest)?;
    let items = rest.trim_ascii().strip_prefix(b"(")?.strip_suffix(b")")?;
    let words: Vec<&[u8]> = items
        .split(|&octet| octet == b' ')
        .filter(|word| !word.is_empty())
        .collect();
    let number = |name: &str| {
        let pair = words
            .chunks_exact(2)
            .find(|pair| pair[0].eq_ignore_ascii_case(name.as_bytes()));
        token::long_number(pair?[1])
    };
    Some(FolderStatus {
        uid_validity: UidValidity::of_server(number("UIDVALIDITY")?),
        uid_next: u32::try_from(number("UIDNEXT")?).ok()?,
    })
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
            is_childless: false,
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
            let found = folder(response, NameEncoding::ModifiedUtf7);
            assert_eq!(found, expected, "{}", response.escape_ascii());
        }
        let named = |response: &[u8]| folder(response, NameEncoding::ModifiedUtf7).unwrap().name;
        assert_eq!(named(b"LIST () \"\\\\\" \"a \\\"b\\\"\""), "a \"b\"");
        assert_eq!(named(b"LIST () \"/\" \"Gel&APY-scht\""), "Gelöscht");
    }

    #[test]
    fn rights_in_all_shapes() {
        for (response, remove, insert, create) in [
            (&b"MYRIGHTS INBOX lrswipkxtecda"[..], true, true, true),
            (b"MYRIGHTS \"Old mail\" lrs", false, false, false),
            (b"MYRIGHTS {3}\r\nBin lrsid", true, true, false),
            (b"MYRIGHTS Bin \"lrit\"", false, true, false),
            // The virtual rights of RFC 4314.
            (b"MYRIGHTS Bin lrsitd", false, true, false),
            (b"MYRIGHTS Bin lrsed", false, false, false),
            (b"MYRIGHTS Bin lrsxc", false, false, false),
            (b"MYRIGHTS Bin lrskc", false, false, true),
            (b"MYRIGHTS Bin lrscd", true, false, true),
        ] {
            let rights = rights(response).unwrap();
            let has = (rights.may_remove(), rights.may_insert(), rights.may_create_below());
            assert_eq!(has, (remove, insert, create), "{}", response.escape_ascii());
        }
        assert_eq!(rights(b"MYRIGHTS Bin"), None);
    }

    #[test]
    fn status_responses_in_all_shapes() {
        let expected = Some(FolderStatus {
            uid_validity: UidValidity::of_server(7),
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
