//! The commands on the messages of a selected mailbox (RFC 3501 §6.4).

use super::{
    command::{Command, FlagChange},
    fetch,
    flags::Flags,
    reply::{CommandError, Done, Reply, done},
    sequence::{Numbering, SequenceSet, UidSet},
    store::{FolderName, Store},
    view::MailboxView,
};

/// Carries out a command on messages. Changes in the folder are reported to the client when the view catches up.
pub(super) fn execute(command: Command, view: &mut MailboxView, store: &mut Store, reply: &mut Reply) -> Done {
    match command {
        Command::Expunge(set) => expunge(view, store, set.as_ref()),
        Command::Fetch { numbering, set, items } => fetch(view, store, numbering, &set, &items, reply),
        Command::Store {
            numbering,
            set,
            change,
            silent,
        } => store_flags(view, store, numbering, &set, change, silent, reply),
        Command::Copy {
            numbering,
            set,
            mailbox,
        } => copy(view, store, numbering, &set, &mailbox).map(|copied| copied.text()),
        Command::Move {
            numbering,
            set,
            mailbox,
        } => {
            view.writable()?;
            let copied = copy(view, store, numbering, &set, &mailbox)?;
            // RFC 6851 §4.3: COPYUID comes before the EXPUNGEs, thus in an untagged OK.
            reply.line(format_args!("* OK {}", copied.text()));
            let folder = store.folder_mut(view.folder);
            folder.remove(|message| copied.from.contains(&message.uid));
            done("moved")
        }
        Command::Search { numbering, keys } => {
            let found = view.search(numbering, &keys)?;
            reply.text(format_args!("* SEARCH"));
            found.iter().for_each(|number| reply.text(format_args!(" {number}")));
            reply.line(format_args!(""));
            done("searched")
        }
        _ => Err(CommandError::Bad("not now")),
    }
}

fn fetch(
    view: &mut MailboxView,
    store: &mut Store,
    numbering: Numbering,
    set: &SequenceSet,
    items: &[fetch::Item],
    reply: &mut Reply,
) -> Done {
    let folder = store.folder_mut(view.folder);
    let reads = !view.read_only && fetch::reads(items);
    for (number, message) in view.chosen(numbering, set)? {
        let kept = folder
            .get_mut(message.uid)
            .filter(|kept| reads && !kept.flags.contains(Flags::SEEN));
        if let Some(kept) = kept {
            kept.flags = kept.flags.with(Flags::SEEN);
            message.flags = kept.flags;
            fetch::write(reply, number, message, &fetch::with_flags(items));
        } else {
            fetch::write(reply, number, message, items);
        }
    }
    done("fetched")
}

fn store_flags(
    view: &mut MailboxView,
    store: &mut Store,
    numbering: Numbering,
    set: &SequenceSet,
    change: FlagChange,
    silent: bool,
    reply: &mut Reply,
) -> Done {
    view.writable()?;
    let folder = store.folder_mut(view.folder);
    let mut gone = false;
    for (number, message) in view.chosen(numbering, set)? {
        let Some(kept) = folder.get_mut(message.uid) else {
            gone = true;
            continue;
        };
        // Changes by another session are reported even to a silent STORE (RFC 3501 §6.4.6).
        let news = kept.flags != message.flags;
        kept.flags = change.apply(kept.flags);
        message.flags = kept.flags;
        if !silent || news {
            fetch::write(reply, number, message, fetch::flags_of(numbering));
        }
    }
    if gone {
        return Err(CommandError::No(
            "[EXPUNGEISSUED] another session has removed some of these",
        ));
    }
    done("stored")
}

/// Removes messages. The EXPUNGE responses come when the view catches up.
pub(super) fn expunge(view: &mut MailboxView, store: &mut Store, set: Option<&SequenceSet>) -> Done {
    view.writable()?;
    let chosen: Option<Vec<u32>> = match set {
        Some(set) => Some(
            view.chosen(Numbering::Uid, set)?
                .map(|(_, message)| message.uid)
                .collect(),
        ),
        None => None,
    };
    store.folder_mut(view.folder).remove(|message| {
        message.flags.contains(Flags::DELETED) && chosen.as_ref().is_none_or(|uids| uids.contains(&message.uid))
    });
    done("expunged")
}

/// Which messages were copied, in the form of COPYUID (RFC 4315 §3).
struct Copied {
    uid_validity: u32,
    from: Vec<u32>,
    to: Vec<u32>,
}

impl Copied {
    fn text(&self) -> String {
        if self.from.is_empty() {
            return "no such message".to_owned();
        }
        let (from, to) = (UidSet(&self.from), UidSet(&self.to));
        format!("[COPYUID {} {from} {to}] copied", self.uid_validity)
    }
}

fn copy(
    view: &mut MailboxView,
    store: &mut Store,
    numbering: Numbering,
    set: &SequenceSet,
    mailbox: &[u8],
) -> Result<Copied, CommandError> {
    let target = FolderName::parse(mailbox).ok_or(CommandError::No("[TRYCREATE] the mailboxes are INBOX and Trash"))?;
    let mut copied = Copied {
        uid_validity: store.uid_validity(),
        from: Vec::new(),
        to: Vec::new(),
    };
    let source = view.folder;
    for (_, message) in view.chosen(numbering, set)? {
        // A message that another session has removed is not copied.
        if let Some(kept) = store.folder(source).get(message.uid).cloned() {
            copied.from.push(kept.uid);
            copied.to.push(store.folder_mut(target).append(kept));
        }
    }
    Ok(copied)
}
