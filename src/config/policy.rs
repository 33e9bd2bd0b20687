//! What a maildrop shows and does: `[upstream.NAME.maildrop]`, overridden by `maildrop = { … }` of an account.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    UidlFormat, UidlImport,
    key::{Kind, Raw, Value, Wrong},
    nearest::nearest,
    unit::Unit,
    value,
    words::words,
};

/// A maildrop's policy. [`Policy::default`] applies if no key is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `folder`: mailbox names, UTF-8; at least one, none twice. INBOX is in capitals, even if it was given in another
    /// case.
    pub folders: Vec<String>,
    /// `folder_separator`: the text between login and folder, if a device picks a folder; never empty.
    pub folder_separator: Option<String>,
    /// What RETR does to the message.
    pub on_retrieve: OnRetrieve,
    /// What DELE and QUIT do to the message.
    pub on_delete: OnDelete,
    /// `trash_folder`: where [`OnDelete::Trash`] moves messages if no folder has `\Trash` (RFC 6154).
    pub trash_folder: Option<String>,
    /// What happens to a message that was retrieved and not deleted.
    pub retention: Retention,
    /// Which messages are shown, and in which order.
    pub view: View,
    /// What happens to NUL octets.
    pub nul: Nul,
    /// `pad_header`: a message without the empty line after its header gets one.
    pub pad_header: bool,
    /// The format of UIDLs.
    pub uidl: UidlFormat,
    /// `uidl_import`: the UIDLs of an old server.
    pub uidl_import: Option<Arc<UidlImport>>,
    /// `wait_seconds`: how long a login waits for a maildrop that another session holds.
    pub wait: Duration,
    /// `fold_lines`: the longest line of a message that a device can take, in octets with its CRLF; `None`: any length.
    pub fold_lines: Option<usize>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            folders: vec![INBOX.into()],
            folder_separator: None,
            on_retrieve: OnRetrieve::MarkRead,
            on_delete: OnDelete::Expunge,
            trash_folder: None,
            retention: Retention::Keep,
            view: View::default(),
            nul: Nul::Keep,
            pad_header: false,
            uidl: UidlFormat::ValidityUid,
            uidl_import: None,
            wait: Duration::ZERO,
            fold_lines: None,
        }
    }
}

impl Policy {
    /// Whether a delete only hides a message from the login.
    pub fn hides(&self) -> bool {
        self.on_delete == OnDelete::Hide
    }

    /// Whether state must keep marks for each login.
    pub fn keeps_marks(&self) -> bool {
        self.hides()
            || matches!(self.retention, Retention::Days(_))
            || self.uidl_import.is_some()
            || (self.view.max_octets.is_some() && self.view.oversize == Oversize::Notice)
    }

    /// The same policy for the one folder that a device picked. Imported UIDLs are dropped unless that is the
    /// configured folder: the old server gave them to messages of the configured folders, and a UID of one folder means
    /// nothing in another.
    pub fn with_folder(&self, folder: &str) -> Self {
        let folders = vec![folder_name(folder)];
        let uidl_import = self.uidl_import.clone().filter(|_| folders == self.folders);
        Self {
            folders,
            uidl_import,
            ..self.clone()
        }
    }
}

/// The mailbox that every user has (RFC 3501 §5.1).
const INBOX: &str = "INBOX";

/// The name by which mailboxes are compared: INBOX may be written in any case (RFC 3501 §5.1).
pub(super) fn folder_name(name: &str) -> String {
    if name.eq_ignore_ascii_case(INBOX) {
        INBOX.to_owned()
    } else {
        name.to_owned()
    }
}

words! {
    /// `on_retrieve`
    pub enum OnRetrieve {
        /// Set `\Seen` once the message was delivered whole.
        MarkRead = "mark-read" | "mark_read" | "read" | "seen" | "mark-seen",
        /// Leave the flags alone.
        Keep = "keep" | "nothing" | "none" | "unread",
    }

    /// `nul`
    pub enum Nul {
        /// NUL octets are sent.
        Keep = "keep" | "as-is" | "nothing",
        /// 0x80 is sent instead, as Dovecot does.
        High = "0x80" | "80" | "replace",
        /// NUL octets are left out.
        Drop = "drop" | "remove" | "strip" | "leave-out",
    }

    /// `oversize`
    #[derive(Default)]
    pub enum Oversize {
        /// Such a message is not shown.
        #[default]
        LeaveOut = "leave-out" | "leave_out" | "hide" | "skip",
        /// A short notice takes its place.
        Notice = "notice" | "replace",
    }

    /// `order`
    #[derive(Default)]
    pub enum Order {
        /// Message 1 is the one that arrived first.
        #[default]
        OldestFirst = "oldest-first" | "oldest" | "ascending" | "asc",
        /// Message 1 is the one that arrived last.
        NewestFirst = "newest-first" | "newest" | "descending" | "desc",
    }
}

/// `on_delete`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnDelete {
    /// Remove the message for good.
    Expunge,
    /// Move the message to the folder that has `\Trash`, else to [`Policy::trash_folder`], else to a folder with one of
    /// the usual names.
    Trash,
    /// Move the message to this folder. The configuration does not have it in [`Policy::folders`]. (A device that picks
    /// its folder by `folder_separator` may pick this one.)
    MoveTo(String),
    /// Hide the message from this login.
    Hide,
}

/// `delete_after_retrieve` and `retain_days`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Messages stay until a device deletes them.
    Keep,
    /// Messages are deleted at QUIT once they have been retrieved whole.
    AfterRetrieve,
    /// Messages are deleted this number of days after they were retrieved whole: 1 to 36,500.
    Days(u32),
}

impl Retention {
    /// The value of EXPIRE in CAPA.
    pub fn expire(self) -> Expire {
        match self {
            Self::Keep => Expire::Never,
            Self::AfterRetrieve => Expire::Days(0),
            Self::Days(days) => Expire::Days(days),
        }
    }
}

/// The argument of the EXPIRE capability (RFC 2449 §6.7), printed as in CAPA. A shorter time is less than a longer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expire {
    /// Messages stay for at least this number of days; 0: a device cannot leave a message that it has retrieved.
    Days(u32),
    /// Messages stay until a device deletes them.
    Never,
}

impl fmt::Display for Expire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Days(days) => write!(f, "{days}"),
            Self::Never => f.write_str("NEVER"),
        }
    }
}

/// Which messages a login sees: all, unless a field limits them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Only messages without `\Seen`.
    pub unseen_only: bool,
    /// Only messages that arrived within this number of days: 1 to 36,500.
    pub within_days: Option<u32>,
    /// At most this number of messages: those that arrived last; 1 or more.
    pub newest: Option<u32>,
    /// If a message has more octets than this, it is too large for the device; 1 or more.
    pub max_octets: Option<u64>,
    /// What happens to messages that are too large.
    pub oversize: Oversize,
    /// The order in which messages are numbered.
    pub order: Order,
}

/// A line length in octets; 0: no limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct LineLength(pub(super) usize);

/// The longest line that a mail program should send, with its CRLF (RFC 5322 §2.1.1): such lines are never folded.
const SHORTEST_LINE: u64 = 80;

impl Value for LineLength {
    const KIND: Kind = Kind::Number(Unit::Octets);

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        match Unit::Octets.read(raw)? {
            length @ 1..SHORTEST_LINE => Err(Wrong::new(format!("{length} is out of range"))
                .help(format!("{SHORTEST_LINE} or more, or 0 to fold nothing"))),
            length => value::fitting(length).map(Self),
        }
    }
}

/// A mailbox name; INBOX is in capitals.
#[derive(Debug, Clone)]
pub(super) struct Folder(pub(super) String);

impl Value for Folder {
    const KIND: Kind = Kind::Text;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        value::line(raw).map(|name| Self(folder_name(name)))
    }
}

/// Mailbox names, at least one, none twice.
#[derive(Debug, Clone)]
pub(super) struct Folders(pub(super) Vec<String>);

impl Value for Folders {
    const KIND: Kind = Kind::TextOrTexts;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        let mut folders: Vec<String> = Vec::new();
        for name in value::texts(raw)? {
            let folder = folder_name(value::visible(name)?);
            if folders.contains(&folder) {
                return Err(Wrong::new(format!("{folder:?} is given twice")).help("name each folder once"));
            }
            folders.push(folder);
        }
        if folders.is_empty() {
            Err(Wrong::new("is empty").help("name a folder, or leave it out for INBOX"))
        } else {
            Ok(Self(folders))
        }
    }
}

/// The text that separates login and folder.
#[derive(Debug, Clone)]
pub(super) struct Separator(pub(super) String);

impl Value for Separator {
    const KIND: Kind = Kind::Text;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        let separator = value::line(raw)?;
        // `*` is refused because it stands for anything in `logins`.
        match separator.chars().find(|c| *c == '@' || *c == '*' || c.is_whitespace()) {
            None => Ok(Self(separator.to_owned())),
            Some(refused) => Err(Wrong::new(format!("{refused:?} can't separate login and folder"))
                .help("choose a character that no login contains, such as \"+\"")),
        }
    }
}

impl OnDelete {
    /// The kind of deletion in one word, without the folder, for the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Expunge => "expunge",
            Self::Trash => "trash",
            Self::MoveTo(_) => "move",
            Self::Hide => "hide",
        }
    }
}

impl Value for OnDelete {
    const KIND: Kind = Kind::Words(&["expunge", "trash", "move:FOLDER", "hide"]);

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        const MOVE: &str = "name the folder, such as \"move:Archive\"";
        let word = value::text(raw)?;
        match word {
            "expunge" => return Ok(Self::Expunge),
            "trash" => return Ok(Self::Trash),
            "hide" => return Ok(Self::Hide),
            _ => {}
        }
        if let Some(folder) = word.strip_prefix("move:") {
            return match value::visible(folder) {
                Ok(folder) => Ok(Self::MoveTo(folder_name(folder))),
                Err(wrong) => Err(Wrong {
                    help: wrong.help.or(Some(MOVE.into())),
                    ..wrong
                }),
            };
        }
        let wrong = Wrong::new(format!("unknown value {word:?}"));
        let alias = match word.to_ascii_lowercase().as_str() {
            "delete" | "remove" | "purge" => Some("expunge"),
            "bin" | "move-to-trash" => Some("trash"),
            "keep" | "none" | "nothing" => Some("hide"),
            _ => None,
        };
        Err(match word.split_once(':') {
            Some((_, folder)) => wrong.help(format!("write \"move:{folder}\"")),
            None => match alias.or_else(|| nearest(word, ["expunge", "trash", "move", "hide"])) {
                Some("move") => wrong.help(MOVE),
                Some(near) => wrong.help(format!("did you mean \"{near}\"?")),
                None => wrong.help(Self::KIND.expected().1),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expire_is_what_rfc_2449_says() {
        let said = [Retention::Keep, Retention::AfterRetrieve, Retention::Days(14)].map(|r| r.expire().to_string());
        assert_eq!(said, ["NEVER", "0", "14"]);
        let shortest = [Expire::Never, Expire::Days(14), Expire::Days(30)].into_iter().min();
        assert_eq!(shortest, Some(Expire::Days(14)));
    }

    #[test]
    fn a_picked_folder_leaves_imported_uidls_behind() {
        let import = UidlImport::parse("a\t1\n").unwrap().0;
        let policy = Policy {
            uidl_import: Some(Arc::new(import)),
            ..Policy::default()
        };
        assert!(policy.with_folder("Lists").uidl_import.is_none());
        assert_eq!(policy.with_folder("Lists").folders, ["Lists"]);
        assert_eq!(policy.with_folder("inbox"), policy);
    }
}
