//! The marks of the session's login for one mailbox, and their way to state and back.

use super::{Error, snapshot::Snapshot, upstream::UpstreamFolder};
use crate::state::{Index, MailboxState, Marks, Unavailable};

/// The login's marks, as state keeps them.
#[derive(Debug)]
pub(super) struct LoginMarks {
    marks: Marks,
    known: Known,
}

/// How far the marks in state are known.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// They have not been read in this session. The flag says whether state held none when the login's last session
    /// ended.
    Unread(bool),
    /// They have been read. This is their UIDVALIDITY in state; 0 if state holds none. State refuses a change if its
    /// marks have another UIDVALIDITY by then, because somebody has reset or renumbered them.
    Read(u64),
    /// They could not be read.
    Failed(Unavailable),
}

impl LoginMarks {
    /// Marks that are yet to be read. `is_unmarked`: state held none when the login's last session ended.
    pub(super) fn unread(is_unmarked: bool) -> Self {
        Self {
            marks: Marks::default(),
            known: Known::Unread(is_unmarked),
        }
    }

    /// Reads the marks from state.
    ///
    /// If there were no marks and the policy needs none, state is not asked, because only the login itself adds marks.
    /// So a device that only polls causes no request to state. If state fails, this fails only if the policy needs
    /// marks (`hide`, `retain_days`, `uidl_import`, or notices for large messages). Other marks are only about notices
    /// for undelivered messages: without them the session can fetch, but not remove (see [`LoginMarks::known`]).
    pub(super) async fn read(
        &mut self,
        state: &mut MailboxState,
        upstream: &UpstreamFolder,
        snapshot: &Snapshot,
    ) -> Result<(), Error> {
        let keeps_marks = upstream.policy().keeps_marks();
        let marks = if matches!(self.known, Known::Unread(true)) && !keeps_marks {
            Ok(Marks::default())
        } else {
            state.marks().await
        };
        let marks = match marks {
            Err(unavailable) if !keeps_marks => {
                let (mailbox, login) = (upstream.name(), &upstream.account().login);
                tracing::warn!(%mailbox, login, error = %unavailable, "the login goes on without its marks: it fetches, and removes nothing; if they are damaged: popgate state --reset LOGIN");
                self.known = Known::Failed(unavailable);
                Marks::default()
            }
            marks => {
                let marks = marks?;
                self.known = Known::Read(marks.uid_validity);
                marks
            }
        };
        self.marks = under(marks, snapshot.uid_validity());
        Ok(())
    }

    pub(super) fn get(&self) -> &Marks {
        &self.marks
    }

    /// Fails if the marks could not be read.
    pub(super) fn known(&self) -> Result<(), Error> {
        match self.known {
            Known::Failed(unavailable) => Err(unavailable.into()),
            Known::Unread(_) | Known::Read(_) => Ok(()),
        }
    }

    /// Whether state is known to hold no marks.
    pub(super) fn is_unmarked(&self) -> bool {
        match self.known {
            Known::Unread(is_unmarked) => is_unmarked,
            Known::Read(followed) => followed == 0,
            Known::Failed(_) => false,
        }
    }

    /// Changes the marks, and drops those of messages that `index` does not contain any more. The change is durable
    /// when this returns.
    pub(super) async fn change(
        &mut self,
        state: &mut MailboxState,
        index: &Index,
        change: impl Fn(&mut Marks) + Send + Sync,
    ) -> Result<(), Error> {
        let uid_validity = self.marks.uid_validity;
        let followed = match self.known {
            Known::Read(followed) => followed,
            Known::Unread(_) | Known::Failed(_) => 0,
        };
        let changed = state.change_marks(followed, |kept| {
            let mut marks = under(kept, uid_validity);
            change(&mut marks);
            marks.prune(index);
            marks
        });
        self.marks = changed.await?;
        self.known = Known::Read(self.marks.uid_validity);
        Ok(())
    }
}

/// `marks` under `uid_validity`. If that is not their own, the marks are void, except for the note that UIDLs have been
/// imported: they are not imported again, because the UIDs in the file mean nothing any more.
fn under(marks: Marks, uid_validity: u64) -> Marks {
    if marks.uid_validity == uid_validity {
        return marks;
    }
    Marks {
        uid_validity,
        import: marks.import,
        ..Marks::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Reason, Refusal,
            scene::{broken, play},
        },
        *,
    };
    use std::sync::Arc;

    use crate::{
        state::{Mailboxes, MemoryStore, StateStore},
        types::Uid,
    };

    /// Reads the marks of a login with the maildrop keys `keys`, and then hides a message.
    async fn hide(keys: &str, state: Arc<dyn StateStore>, is_unmarked: bool) -> Result<Marks, Error> {
        let (_, marks) = play(
            keys,
            "IMAP4rev1",
            |_| String::new(),
            async |upstream| {
                let mut state = upstream.state(state);
                let mut marks = LoginMarks::unread(is_unmarked);
                let snapshot = Snapshot::of([1, 2], []);
                marks.read(&mut state, upstream, &snapshot).await?;
                let hide = |marks: &mut Marks| marks.hidden.add(Uid(2));
                marks.change(&mut state, snapshot.index(), hide).await?;
                Ok(marks.get().clone())
            },
        )
        .await;
        marks
    }

    #[tokio::test]
    async fn a_change_is_kept_beside_what_was_there() {
        let state = Arc::new(MemoryStore::default());
        let first = hide("on_delete = \"hide\"", state.clone(), false).await.unwrap();
        assert_eq!((first.uid_validity, first.hidden), (7, [2].into()));
        let mut kept = state.all_marks().await.unwrap().remove(0);
        let mut marks = kept.2.unwrap();
        marks.hidden.add(Uid(1));
        state.set_marks(&kept.0, &kept.1, &marks, 7).await.unwrap();
        let second = hide("on_delete = \"hide\"", state.clone(), true).await.unwrap();
        assert_eq!(second.hidden, [1, 2].into(), "a login that hides always reads");
        // Marks of another UIDVALIDITY are void, except for the import.
        (marks.uid_validity, marks.import) = (6, 5);
        kept.2 = Ok(marks.clone());
        let state = Arc::new(MemoryStore::default());
        state.set_marks(&kept.0, &kept.1, &marks, 0).await.unwrap();
        let third = hide("on_delete = \"hide\"", state, false).await.unwrap();
        assert_eq!((third.hidden, third.import), ([2].into(), 5));
    }

    #[test]
    fn marks_that_were_not_read_are_as_unknown_as_before() {
        assert!(!LoginMarks::unread(false).is_unmarked());
        assert!(LoginMarks::unread(true).is_unmarked());
    }

    #[tokio::test]
    async fn a_state_that_fails_costs_only_who_needs_it() {
        let read = async |keys| {
            let (_, read) = play(
                keys,
                "IMAP4rev1",
                |_| String::new(),
                async |upstream| {
                    let mut state = upstream.state(Arc::new(broken()));
                    let mut marks = LoginMarks::unread(false);
                    marks.read(&mut state, upstream, &Snapshot::of([1], [])).await?;
                    Ok::<_, Error>((marks.known(), marks.is_unmarked()))
                },
            )
            .await;
            read
        };
        let (known, is_unmarked) = read("").await.unwrap();
        let error = known.unwrap_err();
        assert_eq!(
            *error.refusal(),
            Refusal::Unavailable(Reason::State),
            "nothing is removed"
        );
        assert!(!is_unmarked, "the next session reads again");
        for keys in ["on_delete = \"hide\"", "retain_days = 3"] {
            let error = read(keys).await.unwrap_err();
            assert_eq!(*error.refusal(), Refusal::Unavailable(Reason::State), "{keys}");
        }
        assert!(
            hide("", Arc::new(broken()), false).await.is_err(),
            "a change must be kept"
        );
    }
}
