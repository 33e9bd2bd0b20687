//! `[upstream.NAME.maildrop]`, and `maildrop = { … }` of an account, whose keys lie over those.

use super::{
    super::{
        OnDelete, OnRetrieve, Order, Oversize, UidlFormat,
        key::table,
        policy::{Folder, Folders, Separator},
        value::{Days, FileName, Size},
    },
    CENTURY,
};

table! {
    /// `[upstream.NAME.maildrop]`
    Maildrop {
        /// The folder whose messages they see, or several merged into one list, in the order of arrival: ["INBOX", "Lists/Work"].
        /// Each takes an upstream connection of its own while a device is there.
        folder: Folders [default("INBOX"), help("give the folder's name")];
        /// What separates a login and a folder, so that a device picks the folder by its login: with "+" office+Invoices and
        /// office+Invoices@example.org see "Invoices". Default: none. It must not occur in `logins`.
        folder_separator: Option<Separator> [example("+"), help("such as \"+\"; leave it out for none")];
        /// What fetching a message does to it. mark-read: marks it as read | keep: changes nothing
        on_retrieve: OnRetrieve [default("mark-read")];
        /// What deleting a message does to it once the device says QUIT.
        ///   expunge: removes it from the server for good; the default, except on Gmail
        ///   trash: moves it to the trash, the folder that the server marks as such; the default on Gmail
        ///   move:FOLDER: moves it to FOLDER, which is made if missing
        ///   hide: hides it from this login only, so that several devices can share one mailbox (needs `dir` in [state])
        on_delete: OnDelete [default("expunge")];
        /// The trash where the server marks no folder as such. Default: none, then the usual names are looked for.
        trash_folder: Option<Folder> [example("Trash"), help("give the folder's name")];
        /// Delete what a device has fetched when it says QUIT, also if it did not ask for that: the POP3 of old.
        delete_after_retrieve: bool [default("false"), replaces("retain_days")];
        /// Delete what a device has fetched so many days later, in the way of on_delete. Default: none, mail stays until it is
        /// deleted. (Needs `dir` in [state]. Not together with delete_after_retrieve.)
        retain_days: Option<Days> [example("14"), within(1, CENTURY), replaces("delete_after_retrieve")];
        /// Show only mail that nobody has read.
        unseen_only: bool [default("false")];
        /// Show only mail of so many last days. Default: all.
        within_days: Option<Days> [example("30"), within(1, CENTURY)];
        /// Show only so many messages, the newest. Default: all.
        newest: Option<u32> [example("500"), within(1, u32::MAX as u64)];
        /// Octets of the largest message that a device can bear. Default: no limit.
        max_octets: Option<Size> [example("10000000"), within(1, i64::MAX as u64)];
        /// What becomes of larger messages. leave-out: they are not shown | notice: a short notice stands in their place
        oversize: Oversize [default("leave-out")];
        /// How messages are numbered. oldest-first: message 1 is the oldest | newest-first, for devices that look at the first
        /// ones only
        order: Order [default("oldest-first")];
        /// By what a device recognises a message. With another format it fetches all mail again: change this only for devices
        /// that come from another server. validity.uid, emailid (of servers with OBJECTID), dovecot, cyrus, courier, uid (of
        /// old Cyrus), or Dovecot's pop3_uidl_format: %u UID, %v UIDVALIDITY, %08Xu in hexadecimal.
        uidl: UidlFormat [default("validity.uid")];
        /// What the old server's UIDL said: lines of the UIDL, a tab, and the message's Message-ID, or its UID here.
        uidl_import: Option<FileName> [example("uidls.txt")];
    }
}
