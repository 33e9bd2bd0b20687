//! The gateway's own mail among the messages of a session: it tells the device's people that they must act. It is in no
//! folder, and no upstream knows of it.

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
    /// Adds `mail` to `rows` as the newest message. `None` if `policy` would not show such a message at `now` (seconds
    /// since 1970), or if `rows` is empty: a device that finds nothing but this mail may forget which messages it has
    /// retrieved.
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

    pub(super) fn mail(&self) -> &Mail {
        &self.mail
    }

    pub(super) fn uidl(&self) -> &[u8] {
        self.uidl.as_bytes()
    }

    /// Notes that the mail was delivered whole.
    pub(super) fn note_delivered(&mut self) {
        self.is_retrieved = true;
    }

    /// Notes that the device has received what was delivered so far: it has sent another command since.
    pub(super) fn acknowledge(&mut self) {
        self.is_acknowledged = self.is_retrieved;
    }

    /// Notes that the device has gone without QUIT: only an acknowledged delivery counts.
    pub(super) fn drop_unacknowledged(&mut self) {
        self.is_retrieved &= self.is_acknowledged;
    }

    pub(super) fn is_retrieved(&self) -> bool {
        self.is_retrieved
    }

    /// Whether the session is the first to have retrieved it.
    pub(super) fn is_newly_retrieved(&self) -> bool {
        self.is_retrieved && self.mail.retrieved().is_none()
    }
}

fn octets(mail: &Mail) -> u32 {
    u32::try_from(mail.text().len()).unwrap_or(u32::MAX)
}

/// Whether `policy` would show an ordinary message that has the same age and size and was retrieved at the same time.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::{Listing, Maildrop, MessageNumber, Reason, Refusal, notice::NoticeTexts, scene, uidl::Uidls},
        *,
    };
    use crate::{
        notify,
        state::{MemoryStore, StateStore, now},
    };

    fn policy(keys: &str) -> Arc<Policy> {
        scene::config(keys).accounts[0].maildrop.clone()
    }

    /// A session of the login `pbx` with a message, the gateway's own mail, and no folder.
    async fn session(keys: &str, store: Arc<dyn StateStore>) -> Maildrop {
        let (notices, mail) = notify::Notices::with_mail("pbx", store).await;
        let policy = policy(keys);
        let mut rows = vec![Row::of(Uid(7), 100)];
        let own = OwnMail::among(&mut rows, mail, &policy, now());
        Maildrop {
            folders: Vec::new(),
            uidls: Uidls::new(&policy, [].into_iter()),
            listing: Listing::chosen(rows, 1),
            notice_texts: NoticeTexts::new(),
            own,
            notices,
            policy,
            span: tracing::Span::none(),
        }
    }

    const SECOND: MessageNumber = MessageNumber(std::num::NonZeroU32::new(2).unwrap());

    async fn retrieve(maildrop: &mut Maildrop) {
        let mut body = maildrop.retrieve(SECOND).await.unwrap();
        let octets = body.octets().unwrap().0;
        assert_eq!(body.chunk().await.unwrap().unwrap().len() as u64, octets);
        assert!(body.chunk().await.unwrap().is_none());
        body.delivered(None);
    }

    #[tokio::test]
    async fn a_delete_counts_when_state_has_kept_it() {
        for (store, is_kept) in [
            (Arc::new(MemoryStore::default()) as Arc<dyn StateStore>, true),
            (Arc::new(scene::broken()), false),
        ] {
            let mut maildrop = session("", store).await;
            maildrop.delete(SECOND).unwrap();
            let notices = maildrop.notices.clone();
            let committed = maildrop.commit().await;
            let expected = if is_kept {
                Ok(1)
            } else {
                Err(Refusal::Unavailable(Reason::State))
            };
            assert_eq!(committed.map_err(|error| error.refusal().clone()), expected);
            assert_eq!(notices.mail_for("pbx").await.is_none(), is_kept);
        }
    }

    #[tokio::test]
    async fn without_a_delete_it_stays_unless_retrieval_deletes() {
        for (keys, retrieves, stays) in [
            ("", true, true),
            ("delete_after_retrieve = true", false, true),
            ("delete_after_retrieve = true", true, false),
        ] {
            let mut maildrop = session(keys, Arc::new(MemoryStore::default())).await;
            if retrieves {
                retrieve(&mut maildrop).await;
            }
            assert_eq!(maildrop.is_touched(), retrieves);
            let notices = maildrop.notices.clone();
            assert_eq!(maildrop.commit().await.unwrap(), u64::from(!stays), "{keys}");
            assert_eq!(notices.mail_for("pbx").await.is_some(), stays, "{keys}");
        }
    }

    #[tokio::test]
    async fn a_drop_counts_what_was_acknowledged() {
        for is_acknowledged in [false, true] {
            let mut maildrop = session("delete_after_retrieve = true", Arc::new(MemoryStore::default())).await;
            retrieve(&mut maildrop).await;
            if is_acknowledged {
                maildrop.note_received();
            }
            let notices = maildrop.notices.clone();
            maildrop.abandon().await;
            let mail = notices.mail_for("pbx").await.expect("nothing is deleted");
            assert_eq!(mail.retrieved().is_some(), is_acknowledged);
        }
    }

    #[tokio::test]
    async fn views() {
        let (notices, mail) = notify::Notices::with_mail("pbx", Arc::new(MemoryStore::default())).await;
        let now = now();
        let shown = |keys: &str, mail: &Mail, now| is_shown(mail, &policy(keys), now);
        let large = format!("max_octets = {}", mail.text().len());
        let too_large = format!("max_octets = {}", mail.text().len() - 1);
        let noticed = format!("{too_large}\noversize = \"notice\"");
        for (keys, later, expected) in [
            ("", 1000 * DAY, true),
            ("within_days = 3", 3 * DAY - 10, true),
            ("within_days = 3", 3 * DAY + 10, false),
            (&large, 0, true),
            (&too_large, 0, false),
            (&noticed, 0, false),
            ("unseen_only = true", 0, true),
            ("retain_days = 3", 1000 * DAY, true),
        ] {
            assert_eq!(shown(keys, &mail, now + later), expected, "{keys} {later}");
        }
        notices.note_retrieved(&mail).await.unwrap();
        let mail = notices.mail_for("pbx").await.unwrap();
        for (keys, later, expected) in [
            ("", 1000 * DAY, true),
            ("unseen_only = true", 0, false),
            ("unseen_only = true\non_retrieve = \"keep\"", 0, true),
            ("retain_days = 3", 3 * DAY - 10, true),
            ("retain_days = 3", 3 * DAY + 10, false),
        ] {
            assert_eq!(shown(keys, &mail, now + later), expected, "{keys} {later}");
        }
        assert!(
            OwnMail::among(&mut Vec::new(), mail, &policy(""), now).is_none(),
            "never alone"
        );
    }
}
