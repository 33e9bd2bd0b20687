//! Checks what expires by itself, consents and certificates, and whether state can be written.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{
    book::Record,
    event::{Event, EventKey, EventKind},
    ledger::Ledger,
};
use crate::{
    oauth::{ConsentState, ConsentStatus, Tokens},
    state::{Consent, StateStore, Unavailable, now},
    tls::{Expiry, Validity},
};

/// The consents and certificates to check.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// The consents that somebody must give, each with the logins that need it to get their mail, as the configuration
    /// spells them.
    pub consents: BTreeMap<Consent, Vec<String>>,
    /// PEM files of certificates.
    pub certificates: Vec<PathBuf>,
}

/// Whether somebody must act for a consent.
#[derive(Debug, PartialEq, Eq)]
enum Outlook {
    /// Nobody needs to act.
    Fine,
    /// The consent ends soon, at this time in seconds since 1970.
    Ending(u32),
    /// The consent has ended, for this reason.
    Ended(String),
}

/// Checks consents, certificates and state, and begins and ends their events in the ledger.
#[derive(Debug)]
pub(super) struct Review {
    tokens: ArcSwap<Tokens>,
    store: Arc<dyn StateStore>,
    /// How many seconds before the end of a consent people are told.
    lead: u32,
    /// The URL of the page where people sign in.
    page: Option<String>,
}

impl Review {
    pub(super) fn new(tokens: Arc<Tokens>, store: Arc<dyn StateStore>, lead: Duration, page: Option<String>) -> Self {
        Self {
            tokens: tokens.into(),
            store,
            lead: u32::try_from(lead.as_secs()).unwrap_or(u32::MAX),
            page,
        }
    }

    /// Takes the status of consents from `tokens` from now on.
    pub(super) fn set_tokens(&self, tokens: Arc<Tokens>) {
        self.tokens.store(tokens);
    }

    pub(super) fn page(&self) -> Option<&str> {
        self.page.as_deref()
    }

    /// Checks `consents`; begins and ends their events.
    pub(super) async fn consents(&self, ledger: &Ledger, consents: &BTreeMap<Consent, Vec<String>>) {
        let mut still_open = BTreeSet::new();
        for (consent, logins) in consents {
            let (ending, ended) = keys(consent);
            match self.find(consent).await {
                Some(Outlook::Fine) => {}
                Some(Outlook::Ending(ends)) => {
                    ledger.raise(Event::consent_ending(consent, logins, ends, self.page()));
                    still_open.insert(ending);
                }
                Some(Outlook::Ended(why)) => {
                    ledger.raise(Event::consent_ended(consent, logins, &why, self.page()));
                    // A mail that announced the end stays: the access token may open the mailbox for some time yet.
                    still_open.extend([ending, ended]);
                }
                // State cannot be read: open events stay open.
                None => still_open.extend([ending, ended]),
            }
        }
        ledger.retain(EventKind::ConsentEnding, &still_open);
        ledger.retain(EventKind::ConsentEnded, &still_open);
    }

    /// Whether somebody must still sign in for the consent of `record`, which ends soon. True if state cannot be read.
    pub(super) async fn is_still_ending(&self, record: &Record) -> bool {
        let (Some(upstream), Some(name)) = (record.event.upstream.clone(), record.event.person.clone()) else {
            return false;
        };
        self.find(&Consent { upstream, name }).await != Some(Outlook::Fine)
    }

    /// Judges `consent`; `None` if state cannot be read.
    async fn find(&self, consent: &Consent) -> Option<Outlook> {
        let status = self.tokens.load_full().status(consent).await.ok()?;
        Some(judge(&status, self.lead, now()))
    }

    /// Checks the certificates in `files`; begins and ends their events. An event about a file that cannot be read
    /// stays open.
    pub(super) async fn certificates(&self, ledger: &Ledger, files: &[PathBuf]) {
        let files = files.to_vec();
        let looking = move || -> Vec<_> {
            let now = i64::from(now());
            let look = |file: PathBuf| {
                let expiry = Validity::of(&file).ok().map(|validity| validity.at(now));
                (file, expiry)
            };
            files.into_iter().map(look).collect()
        };
        let Ok(looked) = tokio::task::spawn_blocking(looking).await else {
            return;
        };
        let mut still_open = BTreeSet::new();
        for (file, expiry) in looked {
            match expiry {
                Some(Expiry::Valid(_)) => {}
                Some(Expiry::Ending(what) | Expiry::Invalid(what)) => {
                    still_open.insert(EventKey::certificate(&file));
                    ledger.raise(Event::certificate_ending(&file, &what));
                }
                None => drop(still_open.insert(EventKey::certificate(&file))),
            }
        }
        ledger.retain(EventKind::CertificateEnding, &still_open);
    }

    /// Checks whether state can be written. `has_failed`: state could not be read or written since the last review.
    pub(super) async fn state(&self, ledger: &Ledger, has_failed: bool) {
        let key = EventKey::state();
        let is_known = ledger.read(|book| book.get(&key).is_some());
        // A write is tried only after a failure, so that an idle gateway lets its disk sleep.
        let has_failed = has_failed || self.store.has_failed() || !ledger.read(|book| book.is_saved());
        let is_writable = !(has_failed || is_known) || self.is_writable(ledger).await;
        let tokens = self.store.tokens_unwritable_since().await;
        if !is_writable || tokens != Ok(None) {
            ledger.raise(Event::state_failing());
        } else if is_known {
            ledger.resolve(&key);
        }
    }

    /// Writes to state, and returns whether that and all other writes work.
    async fn is_writable(&self, ledger: &Ledger) -> bool {
        // If other gateways are always faster, state works.
        let is_writable = ledger.can_write().await && ledger.save().await != Err(Unavailable::Failed);
        // Notices wait for no replica. Whether replicas confirm the writes that do, the store knows.
        is_writable && !self.store.has_failed()
    }
}

/// The keys of the two events about a consent: it ends soon, and it has ended.
fn keys(consent: &Consent) -> (EventKey, EventKey) {
    let key = |kind| EventKey::new(kind, consent.to_string());
    (key(EventKind::ConsentEnding), key(EventKind::ConsentEnded))
}

/// Judges `status` at the time `now`, if people are told `lead` before the end; times in seconds since 1970. If half of
/// the consent's life is less than `lead`, people are told when half of it is over: otherwise a short consent would end
/// soon right after somebody has signed in.
fn judge(status: &ConsentStatus, lead: u32, now: u32) -> Outlook {
    match &status.state {
        ConsentState::Ended { why, .. } | ConsentState::Unreadable(why) => return Outlook::Ended(why.clone()),
        ConsentState::Missing | ConsentState::NotNeeded => return Outlook::Fine,
        ConsentState::Good => {}
    }
    let unrenewed = status.expires.filter(|_| !status.renews);
    let Some(ends) = status.ends.into_iter().chain(unrenewed).min() else {
        return Outlook::Fine;
    };
    let half = ends.saturating_sub(status.signed_in.unwrap_or(0)) / 2;
    if ends.saturating_sub(now) <= lead.min(half) {
        Outlook::Ending(ends)
    } else {
        Outlook::Fine
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::{super::book::Book, *};
    use crate::state::{Access, Altered, Behaviour, MemoryStore, RemoteStore};

    const DAY: u32 = 24 * 3600;

    fn good(signed_in: u32, ends: Option<u32>) -> ConsentStatus {
        ConsentStatus {
            state: ConsentState::Good,
            signed_in: Some(signed_in),
            expires: Some(signed_in + 3600),
            renews: true,
            ends,
            ..ConsentStatus::default()
        }
    }

    #[test]
    fn a_consent_ends_soon() {
        let long = good(1000, Some(1000 + 90 * DAY));
        let short = good(1000, Some(1000 + 8 * DAY));
        let unrenewed = ConsentStatus {
            renews: false,
            ..good(1000, None)
        };
        for (status, now, expected) in [
            (&good(1000, None), 1000 + 900 * DAY, Outlook::Fine),
            (&long, 1000, Outlook::Fine),
            (&long, 1000 + 76 * DAY - 1, Outlook::Fine),
            (&long, 1000 + 76 * DAY, Outlook::Ending(1000 + 90 * DAY)),
            (&short, 1000, Outlook::Fine),
            (&short, 1000 + 4 * DAY - 1, Outlook::Fine),
            (&short, 1000 + 4 * DAY, Outlook::Ending(1000 + 8 * DAY)),
            (&unrenewed, 1000 + 1799, Outlook::Fine),
            (&unrenewed, 1000 + 1800, Outlook::Ending(4600)),
            (&ConsentStatus::default(), 0, Outlook::Fine),
        ] {
            assert_eq!(judge(status, 14 * DAY, now), expected, "{status:?} at {now}");
        }
        let ended = ConsentStatus {
            state: ConsentState::Ended {
                since: 5,
                why: "revoked".into(),
            },
            ..long
        };
        assert_eq!(judge(&ended, 14 * DAY, 10), Outlook::Ended("revoked".into()));
    }

    /// Nobody listens at the socket of this store, so every request to it fails.
    #[tokio::test]
    async fn a_state_that_fails_is_told_of_nevertheless() {
        let directory = tempfile::tempdir().unwrap();
        let broken: Arc<dyn StateStore> = Arc::new(RemoteStore::new(&directory.path().join("missing")));
        let ledger = Ledger::open(broken.clone(), true).await;
        let review = Review::new(Tokens::none(), broken, Duration::ZERO, None);
        for _ in 0..2 {
            review.state(&ledger, true).await;
            let kinds: Vec<_> = ledger.read(|book| book.unsent().map(|record| record.event.key.kind).collect());
            assert_eq!(kinds, [EventKind::StateFailing]);
        }
        let key = EventKey::state();
        let id = ledger.next_unsent().unwrap().id();
        let kept = ledger
            .change_marks(&key, &id, "pbx", |marks| marks.is_deleted = true)
            .await;
        assert!(kept.is_err() && ledger.save().await.is_err());
        let is_deleted = |book: &Book| book.get(&key).unwrap().marks("pbx").is_deleted;
        assert!(!ledger.read(is_deleted), "what is not kept has not happened");
    }

    #[tokio::test]
    async fn a_state_that_works_again_needs_nobody() {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
        let ledger = Ledger::open(store.clone(), true).await;
        let review = Review::new(Tokens::none(), store.clone(), Duration::ZERO, None);
        review.state(&ledger, false).await;
        assert!(ledger.next_unsent().is_none());
        ledger.raise(Event::state_failing());
        review.state(&ledger, false).await;
        assert!(ledger.next_unsent().is_none());
        ledger.save().await.unwrap();
        assert_eq!(store.notices().await, Ok(Vec::new()), "nothing stays behind");
    }

    /// State that works only in part.
    #[derive(Debug, Default)]
    struct Impaired {
        /// Whether replicas are missing: notices can be written, other records cannot.
        lacks_replicas: bool,
        /// Whether another gateway is always faster to write the notices of certificates.
        is_contended: bool,
    }

    #[async_trait]
    impl Behaviour for Impaired {
        async fn before(&self, access: Access<'_>) -> Result<(), Unavailable> {
            match access {
                Access::SetNotice(name) if self.is_contended && name.starts_with("certificate") => {
                    Err(Unavailable::Changed)
                }
                _ => Ok(()),
            }
        }

        fn has_failed(&self) -> bool {
            self.lacks_replicas
        }
    }

    #[tokio::test]
    async fn missing_replicas_are_told_of() {
        let store = Arc::new(Altered::new(Impaired {
            lacks_replicas: true,
            ..Impaired::default()
        }));
        let ledger = Ledger::open(store.clone(), true).await;
        let review = Review::new(Tokens::none(), store, Duration::ZERO, None);
        for _ in 0..2 {
            review.state(&ledger, false).await;
            assert_eq!(ledger.next_unsent().unwrap().event.key.kind, EventKind::StateFailing);
        }
    }

    #[tokio::test]
    async fn another_gateway_that_is_faster_is_no_failure_of_state() {
        let store = Arc::new(Altered::new(Impaired {
            is_contended: true,
            ..Impaired::default()
        }));
        let ledger = Ledger::open(store.clone(), true).await;
        let review = Review::new(Tokens::none(), store, Duration::ZERO, None);
        ledger.raise(Event::certificate_ending("/c.pem".as_ref(), "certificate ends"));
        assert_eq!(ledger.save().await, Err(Unavailable::Changed));
        review.state(&ledger, true).await;
        assert!(ledger.read(|book| book.get(&EventKey::state()).is_none()));
    }

    #[tokio::test]
    async fn certificates_are_told_of_until_they_are_renewed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("certificate.pem");
        let key = rcgen::KeyPair::generate().unwrap();
        let write = |year: i32| {
            let mut parameters = rcgen::CertificateParams::new(["mail.example.org".to_owned()]).unwrap();
            parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
            parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
            std::fs::write(&file, parameters.self_signed(&key).unwrap().pem()).unwrap();
        };
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
        let ledger = Ledger::open(store.clone(), true).await;
        let review = Review::new(Tokens::none(), store, Duration::ZERO, None);
        let files = [file.clone(), directory.path().join("missing.pem")];
        for (year, expected) in [(2021, 1), (2120, 0), (2021, 1), (0, 1)] {
            match year {
                0 => std::fs::remove_file(&file).unwrap(),
                year => write(year),
            }
            review.certificates(&ledger, &files).await;
            assert_eq!(ledger.read(|book| book.unsent().count()), expected, "{year}");
        }
        let text = ledger.next_unsent().unwrap().event.text;
        assert!(
            text.starts_with("The certificate ") && text.contains("expired on 2021-01-01"),
            "{text}"
        );
    }
}
