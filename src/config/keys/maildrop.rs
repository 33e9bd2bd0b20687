//! `[upstream.NAME.maildrop]`, and `maildrop = { … }` of an account, whose keys lie over those.

use std::time::Duration;

use super::{
    super::{
        Nul, OnDelete, OnRetrieve, Order, Oversize, Policy, Retention, UidlFormat,
        key::{Says, table},
        policy::{Folder, Folders, LineLength, Separator},
        value::{Days, FileName, Size},
    },
    CENTURY,
};

/// A device gives up long before.
const HOUR: u64 = 3600;

/// A line is held until it has ended or is folded.
const LONGEST_LINE: u64 = 65_536;

table! {
    /// `[upstream.NAME.maildrop]`
    Maildrop {
        /// The folder that devices see, or several folders merged into one list, in the order of arrival: ["INBOX", "Lists/Work"].
        /// Each folder takes an upstream connection of its own during a session.
        folder: Folders [default("INBOX"), help("give the folder's name")];
        /// The text between a login and a folder, so that a device can pick its folder: with "+" the logins office+Invoices and
        /// office+Invoices@example.org see "Invoices". Default: none. The text must not occur in `logins`.
        folder_separator: Option<Separator> [example("+"), help("such as \"+\"; leave it out for none"), says(Says::Clause(picks_folder))];
        /// What fetching a message does to it. mark-read: marks it as read | keep: changes nothing
        on_retrieve: OnRetrieve [default("mark-read"), says(Says::Clause(retrieves))];
        /// What deleting a message does to it once the device says QUIT.
        ///   expunge: removes it from the server for good; the default, except on Gmail
        ///   trash: moves it to the folder that the server marks as its trash; the default on Gmail
        ///   move:FOLDER: moves it to FOLDER, which popgate creates if it is missing
        ///   hide: hides it from this login only, so that several devices can share one mailbox (needs `dir` in [state])
        on_delete: OnDelete [default("expunge"), says(Says::Clause(deletes))];
        /// The trash folder, if the server marks none. Default: popgate looks for a folder with one of the usual names.
        trash_folder: Option<Folder> [example("Trash"), help("give the folder's name")];
        /// Delete at QUIT every message that the device has fetched, even if it sent no DELE.
        delete_after_retrieve: bool [default("false"), replaces("retain_days")];
        /// Delete a message this number of days after a device has fetched it, in the way that on_delete says. Default: messages
        /// stay until a device deletes them. (Needs `dir` in [state]. Not together with delete_after_retrieve.)
        retain_days: Option<Days> [example("14"), within(1, CENTURY), replaces("delete_after_retrieve"), says(Says::Clause(retains))];
        /// Show only unread messages.
        unseen_only: bool [default("false"), says(Says::Seen(unread))];
        /// Show only messages that arrived within this number of days. Default: all.
        within_days: Option<Days> [example("30"), within(1, CENTURY), says(Says::Seen(recent))];
        /// Show only the newest messages, at most this number. Default: all.
        newest: Option<u32> [example("500"), within(1, u32::MAX as u64), says(Says::Seen(newest))];
        /// The size of the largest message that a device can take, in octets. Default: no limit.
        max_octets: Option<Size> [example("10000000"), within(1, i64::MAX as u64), says(Says::Seen(limited))];
        /// What a device sees of a larger message. leave-out: nothing | notice: a short notice in its place
        oversize: Oversize [default("leave-out")];
        /// How messages are numbered. oldest-first: message 1 is the oldest | newest-first: message 1 is the newest, for
        /// devices that look at the first messages only
        order: Order [default("oldest-first"), says(Says::Seen(ordered))];
        /// What becomes of NUL octets in messages, for programs that end a message there. keep: they are sent | 0x80: that
        /// octet is sent instead | drop: they are left out, and the reply to RETR tells no size of a large message
        nul: Nul [default("keep"), says(Says::Clause(nuls))];
        /// Whether to add an empty line to a message whose header ends without one, as Outlook Express and Netscape need it.
        pad_header: bool [default("false"), says(Says::Clause(pads))];
        /// The format of unique-ids, by which a device recognises a message. With another format the device fetches all mail
        /// again: change the format only for devices that come from another server. validity.uid, emailid (of servers with
        /// OBJECTID), dovecot, cyrus, courier, uid (of old Cyrus), or Dovecot's pop3_uidl_format: %u UID, %v UIDVALIDITY,
        /// %08Xu in hexadecimal.
        uidl: UidlFormat [default("validity.uid"), says(Says::Clause(uidls))];
        /// File with the unique-ids of an old server. Each line is a UIDL, a tab, and the message's Message-ID, or its UID on the
        /// IMAP server.
        uidl_import: Option<FileName> [example("uidls.txt")];
        /// How long a login waits for a maildrop that another session holds, before it is refused: for mail programs that poll
        /// while their last session still ends. 0: not at all. The wait counts towards login_seconds.
        wait_seconds: Duration [default("0"), within(0, HOUR), says(Says::Clause(waits))];
        /// The longest line of a message that a device can take, in octets with the line end; longer lines are folded. 0: no line
        /// is folded. Folding breaks signatures, and can damage text. Python's poplib takes 2048, Twisted 16384.
        fold_lines: LineLength [default("0"), within(0, LONGEST_LINE), says(Says::Clause(folds))];
    }
}

fn picks_folder(policy: &Policy) -> Option<String> {
    let separator = policy.folder_separator.as_ref()?;
    Some(format!("{separator}FOLDER after the login picks another folder"))
}

fn retrieves(policy: &Policy) -> Option<String> {
    Some(match policy.on_retrieve {
        OnRetrieve::MarkRead => "retrieving marks as read".into(),
        OnRetrieve::Keep => "retrieving changes nothing".into(),
    })
}

fn deletes(policy: &Policy) -> Option<String> {
    Some(match (&policy.on_delete, &policy.trash_folder) {
        (OnDelete::Expunge, _) => "a delete removes for good".into(),
        (OnDelete::Trash, None) => "a delete moves to Trash".into(),
        (OnDelete::Trash, Some(folder)) => {
            format!("a delete moves to Trash ({folder}, if the server marks no folder as trash)")
        }
        (OnDelete::MoveTo(folder), _) => format!("a delete moves to {folder}"),
        (OnDelete::Hide, _) => "a delete hides from this login only".into(),
    })
}

fn retains(policy: &Policy) -> Option<String> {
    let goes = match policy.on_delete {
        OnDelete::Hide => "is hidden",
        _ => "is deleted",
    };
    match policy.retention {
        Retention::Keep => None,
        Retention::AfterRetrieve => Some(format!("what it retrieved {goes} when it quits")),
        Retention::Days(1) => Some(format!("what it retrieved {goes} 1 day later")),
        Retention::Days(days) => Some(format!("what it retrieved {goes} {days} days later")),
    }
}

fn nuls(policy: &Policy) -> Option<String> {
    match policy.nul {
        Nul::Keep => None,
        Nul::High => Some("NUL octets become 0x80".into()),
        Nul::Drop => Some("NUL octets are left out".into()),
    }
}

fn pads(policy: &Policy) -> Option<String> {
    policy
        .pad_header
        .then(|| "a header without an empty line after it gets one".into())
}

fn unread(policy: &Policy) -> Option<String> {
    policy.view.unseen_only.then(|| "unread only".into())
}

fn recent(policy: &Policy) -> Option<String> {
    Some(match policy.view.within_days? {
        1 => "of the last day".into(),
        days => format!("of the last {days} days"),
    })
}

fn newest(policy: &Policy) -> Option<String> {
    policy.view.newest.map(|count| format!("newest {count}"))
}

fn limited(policy: &Policy) -> Option<String> {
    let octets = policy.view.max_octets?;
    Some(match policy.view.oversize {
        Oversize::LeaveOut => format!("larger than {} left out", size(octets)),
        Oversize::Notice => format!("larger than {} replaced by a notice", size(octets)),
    })
}

fn ordered(policy: &Policy) -> Option<String> {
    (policy.view.order == Order::NewestFirst).then(|| "newest first".into())
}

/// Silent about the default.
fn uidls(policy: &Policy) -> Option<String> {
    let format = (policy.uidl != UidlFormat::ValidityUid).then(|| format!("as {}", policy.uidl));
    let imported = policy.uidl_import.as_ref().map(|import| {
        let count = import.by_message_id.len() + import.by_uid.len();
        format!("{count} imported")
    });
    let parts: Vec<_> = format.into_iter().chain(imported).collect();
    (!parts.is_empty()).then(|| format!("UIDLs {}", parts.join(", ")))
}

fn waits(policy: &Policy) -> Option<String> {
    match policy.wait.as_secs() {
        0 => None,
        1 => Some("a login waits 1 second for another session to end".into()),
        seconds => Some(format!("a login waits {seconds} seconds for another session to end")),
    }
}

fn folds(policy: &Policy) -> Option<String> {
    policy
        .fold_lines
        .map(|octets| format!("lines over {octets} octets are folded"))
}

/// Octets in the largest unit that they are a whole number of.
fn size(octets: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 20, "MiB"), (1_000_000, "MB"), (1 << 10, "KiB"), (1_000, "kB")];
    match UNITS.iter().find(|(unit, _)| octets.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{} {name}", octets / unit),
        None => format!("{octets} octets"),
    }
}
