//! A mail of the gateway's own among the messages of a session: it tells the device's people that they must act. It is of no
//! folder, and no upstream hears of it.

use super::{
    listing::{Row, Shows},
    retention::{DAY, is_over},
};
use crate::{
    config::{OnRetrieve, Order, Policy, Retention},
    notify::Mail,
    types::Uid,
};

/// The mail, and what the session has done with it.
#[derive(Debug)]
pub(super) struct OwnMail {
    mail: Mail,
    uidl: String,
    is_retrieved: bool,
    is_acknowledged: bool,
}

impl OwnMail {
    /// Puts `mail` among `rows` where the newest message stands. `None` if `policy` shows no such message `now` (seconds since
    /// 1970), or if there is no other: a device that finds a maildrop of notices alone may forget what it has had.
    pub(super) fn among(rows: &mut Vec<Row>, mail: Mail, policy: &Policy, now: u32) -> Option<Box<Self>> {
        if rows.is_empty() || !is_shown(&mail, policy, now) {
            return None;
        }
        let row = Row {
            folder: 0,
            shows: Shows::OwnMail,
            uid: Uid(0),
            octets: octets(&mail),
        };
        match policy.view.order {
            Order::OldestFirst => rows.push(row),
            Order::NewestFirst => rows.insert(0, row),
        }
        Some(Box::new(Self {
            uidl: mail.uidl(),
            mail,
            is_retrieved: false,
            is_acknowledged: false,
        }))
    }

    /// The mail itself.
    pub(super) fn mail(&self) -> &Mail {
        &self.mail
    }

    /// What UIDL says.
    pub(super) fn uidl(&self) -> &[u8] {
        self.uidl.as_bytes()
    }

    /// It was delivered whole.
    pub(super) fn note_delivered(&mut self) {
        self.is_retrieved = true;
    }

    /// The device has gone on after what it was sent: it has that.
    pub(super) fn acknowledge(&mut self) {
        self.is_acknowledged = self.is_retrieved;
    }

    /// The device has gone without QUIT: what it has not acknowledged does not count.
    pub(super) fn drop_unacknowledged(&mut self) {
        self.is_retrieved &= self.is_acknowledged;
    }

    /// Whether the session has retrieved it.
    pub(super) fn is_retrieved(&self) -> bool {
        self.is_retrieved
    }

    /// Whether it was retrieved for the first time.
    pub(super) fn is_newly_retrieved(&self) -> bool {
        self.is_retrieved && self.mail.retrieved().is_none()
    }
}

fn octets(mail: &Mail) -> u32 {
    u32::try_from(mail.text().len()).unwrap_or(u32::MAX)
}

/// Whether `policy` shows a message that arrived when the mail did, of its size, and with which the device has done the same.
fn is_shown(mail: &Mail, policy: &Policy, now: u32) -> bool {
    let view = &policy.view;
    let is_old = view
        .within_days
        .is_some_and(|days| mail.arrived() < now.saturating_sub(days.saturating_mul(DAY)));
    let is_large = view.max_octets.is_some_and(|max| u64::from(octets(mail)) > max);
    let is_read = view.unseen_only && policy.on_retrieve == OnRetrieve::MarkRead && mail.retrieved().is_some();
    let is_over = match (policy.retention, mail.retrieved()) {
        (Retention::Days(days), Some(at)) => is_over(at, days, now),
        _ => false,
    };
    !(is_old || is_large || is_read || is_over)
}
