//! Tells people that they must act, once for each event: by a webhook, and by a mail in the device's maildrop.

mod book;
mod delivery;
mod event;
mod failing;
mod ledger;
mod mail;
mod review;
mod webhook;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    book::Record,
    event::{Event, EventKey},
    failing::{Failing, LongFailure},
    ledger::Ledger,
    review::Review,
    webhook::Sender,
};
use crate::{
    config::NotifyOptions,
    oauth::Tokens,
    state::{StateStore, Unavailable, now},
    types::{MailboxName, Uid},
};

pub(crate) use failing::{Fault, TriedLogin};
pub(crate) use mail::Mail;
pub(crate) use review::Watched;
pub(crate) use webhook::SetupError;

/// How often consents and state are checked, and how often gateways that share state learn of each other's events.
const REVIEW: Duration = Duration::from_secs(60);
/// How often certificates are checked.
const CERTIFICATES: Duration = Duration::from_secs(3600);
/// The shortest pause between two reviews, however many logins fail.
const BETWEEN: Duration = Duration::from_secs(1);

/// The events that people are told of, and the webhook that tells them. [`Notices::default`] tells nobody anything.
#[derive(Debug, Clone, Default)]
pub struct Notices(Option<Arc<Notifier>>);

#[derive(Debug)]
struct Notifier {
    ledger: Ledger,
    review: Review,
    sender: Option<Sender>,
    /// Whether devices get mails about events.
    has_mail: bool,
    /// Whether state outlives the process.
    is_kept: bool,
    failing: Mutex<Failing>,
    /// Set when state could not be read or written; the next review resets it.
    has_state_failed: AtomicBool,
    /// Notified if a review is needed before its time.
    is_due: tokio::sync::Notify,
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl Notices {
    /// Loads the open events from `store` and starts to send them. `tokens` knows the status of consents. Errors name
    /// the configuration key at fault.
    pub async fn open(
        options: impl Into<NotifyOptions>,
        store: Arc<dyn StateStore>,
        tokens: Arc<Tokens>,
    ) -> Result<Self, SetupError> {
        let NotifyOptions { notify, page, is_kept } = options.into();
        let sender = Sender::new(&notify)?;
        if sender.is_none() && !notify.mail {
            return Ok(Self::default());
        }
        let notifier = Arc::new(Notifier {
            ledger: Ledger::open(store.clone(), sender.is_some()).await,
            review: Review::new(tokens, store, notify.consent, page),
            sender,
            has_mail: notify.mail,
            is_kept,
            failing: Mutex::default(),
            has_state_failed: AtomicBool::new(false),
            is_due: tokio::sync::Notify::new(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let sending = notifier.clone();
        notifier.tasks.spawn(async move {
            let Notifier {
                ledger,
                sender,
                closing,
                ..
            } = &*sending;
            delivery::deliver(ledger, sender.as_ref(), closing).await;
        });
        Ok(Self(Some(notifier)))
    }

    /// Takes the status of consents from `tokens` from now on.
    pub fn set_tokens(&self, tokens: Arc<Tokens>) {
        if let Some(notifier) = &self.0 {
            notifier.review.set_tokens(tokens);
        }
    }

    /// Checks all that is `watched`, at once and then repeatedly, without end. The future may be dropped at any time. Of
    /// the gateways that share state, only the one on duty checks consents.
    pub async fn watch(&self, watched: Watched) {
        let Some(notifier) = &self.0 else {
            return std::future::pending().await;
        };
        let mut clock = interval(REVIEW);
        // A review takes long if the servers of state are away; it is not repeated for each minute that was missed.
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut certificates = None;
        loop {
            let is_time = tokio::select! {
                _ = clock.tick() => true,
                () = notifier.is_due.notified() => false,
            };
            let has_failed = notifier.has_state_failed.swap(false, Ordering::Relaxed);
            notifier.review.state(&notifier.ledger, has_failed).await;
            // Logins that fail must not make every gateway ask a shared store each second.
            if is_time {
                notifier.ledger.keep_up().await;
            }
            if notifier.ledger.checks_consents(is_time) {
                notifier.review.consents(&notifier.ledger, &watched.consents).await;
            }
            if certificates.is_none_or(|last: Instant| last.elapsed() >= CERTIFICATES) {
                notifier
                    .review
                    .certificates(&notifier.ledger, &watched.certificates)
                    .await;
                certificates = Some(Instant::now());
            }
            sleep(BETWEEN).await;
        }
    }

    /// Lets another gateway that shares state check consents and send events from now on, because [`Notices::watch`] does
    /// not run any more.
    pub fn hand_over(&self) {
        if let Some(notifier) = &self.0 {
            notifier.ledger.hand_over();
        }
    }

    /// Stops sending and saves the events. Unsent events are sent after the next start if state outlives the process;
    /// otherwise they are logged.
    pub async fn finish(&self) {
        let Some(notifier) = &self.0 else { return };
        notifier.closing.cancel();
        notifier.tasks.close();
        notifier.tasks.wait().await;
        let is_saved = notifier.ledger.save().await.is_ok() && notifier.is_kept;
        notifier.ledger.read(|book| {
            let is_lost = |record: &&Record| !(is_saved && notifier.ledger.is_in_state(&record.event.key));
            for record in book.unsent().filter(is_lost) {
                let event = &record.event;
                tracing::error!(event = %event.key.kind, text = event.text, "a notice was not sent");
            }
        });
    }

    /// Ends the events about the login and about its upstream, because a device has logged in.
    pub fn login_succeeded(&self, tried: TriedLogin<'_>) {
        let Some(notifier) = self.for_webhook() else { return };
        notifier.failing().note_success(tried);
        notifier.ledger.resolve(&EventKey::login(tried.login));
        if let Some(upstream) = tried.upstream {
            notifier.ledger.resolve(&EventKey::upstream(upstream));
        }
    }

    /// Counts a login that has failed. Raises an event if the login, or its upstream, has been failing for an hour.
    pub fn login_failed(&self, tried: TriedLogin<'_>, fault: Fault) {
        let Some(notifier) = self.for_webhook() else { return };
        if fault == Fault::State {
            return self.state_failed();
        }
        // The secret was right, so a consent may have ended: check the consents now, or with shared state within a
        // minute.
        if matches!(fault, Fault::Login(_)) {
            notifier.is_due.notify_one();
        }
        let long = notifier.failing().note_failure(tried, fault, now());
        match long {
            Some(LongFailure::Login(login, since, why)) => {
                notifier
                    .ledger
                    .raise(Event::login_failing(login, tried.upstream, since, &why));
            }
            Some(LongFailure::Upstream(upstream, since, why)) => {
                notifier.ledger.raise(Event::upstream_failing(upstream, since, &why));
            }
            None => {}
        }
    }

    /// Raises an event: the upstream does not deliver a message of `mailbox` to `login`. `message` is UIDVALIDITY, as
    /// state stores it, and UID.
    pub fn message_undelivered(&self, mailbox: &MailboxName, message: (u64, Uid), login: &str) {
        if let Some(notifier) = self.for_webhook() {
            notifier
                .ledger
                .raise(Event::message_undelivered(mailbox, message, login));
        }
    }

    /// Ends the event about a message, because the upstream has delivered it.
    pub fn message_delivered(&self, mailbox: &MailboxName, message: (u64, Uid)) {
        if let Some(notifier) = self.for_webhook() {
            notifier.ledger.resolve(&EventKey::message(mailbox, message));
        }
    }

    /// Asks for a review now, because state could not be read or written. The review tests whether it works again.
    pub fn state_failed(&self) {
        if let Some(notifier) = self.for_webhook() {
            notifier.has_state_failed.store(true, Ordering::Relaxed);
            notifier.is_due.notify_one();
        }
    }

    /// The mail about an event in the maildrop of `login` (as [`crate::types::canonical`] writes it), if there is one
    /// now.
    pub async fn mail_for(&self, login: &str) -> Option<Mail> {
        let notifier = self.0.as_ref().filter(|notifier| notifier.has_mail)?;
        let record = notifier.ledger.consent_of(login).await?;
        if record.marks(login).is_deleted {
            return None;
        }
        // Somebody may have signed in since the last review.
        if notifier.review.is_still_ending(&record).await {
            Some(Mail::of_consent(&record, login, notifier.review.page()))
        } else {
            notifier.ledger.resolve(&record.event.key);
            None
        }
    }

    /// Notes that the device has deleted `mail`. After `Ok`, the mail does not come back.
    pub async fn delete(&self, mail: &Mail) -> Result<(), Unavailable> {
        let Some(notifier) = &self.0 else { return Ok(()) };
        let Mail { key, id, login, .. } = mail;
        let deleting = notifier
            .ledger
            .change_marks(key, id, login, |marks| marks.is_deleted = true);
        deleting.await.inspect_err(|_| self.state_failed())
    }

    /// Stores when the device first retrieved `mail`.
    pub async fn note_retrieved(&self, mail: &Mail) -> Result<(), Unavailable> {
        let Some(notifier) = &self.0 else { return Ok(()) };
        let Mail { key, id, login, .. } = mail;
        let noting = notifier.ledger.change_marks(key, id, login, |marks| {
            marks.retrieved.get_or_insert_with(now);
        });
        noting.await.inspect_err(|_| self.state_failed())
    }

    /// For tests: notices with a mail for `login` about an invented consent, stored in `store`.
    #[cfg(test)]
    pub(crate) async fn with_mail(login: &str, store: Arc<dyn StateStore>) -> (Self, Mail) {
        let options = NotifyOptions {
            notify: crate::config::Notify {
                mail: true,
                ..Default::default()
            },
            ..NotifyOptions::default()
        };
        let notices = Self::open(options, store, Tokens::none()).await.unwrap();
        let notifier = notices.0.clone().unwrap();
        let consent = crate::state::Consent {
            upstream: "home".into(),
            name: "eva".into(),
        };
        let logins = [login.to_owned()];
        notifier
            .ledger
            .raise(Event::consent_ending(&consent, &logins, now() + 1000, None));
        let mail = notices.mail_for(login).await.unwrap();
        (notices, mail)
    }

    fn for_webhook(&self) -> Option<&Notifier> {
        self.0.as_deref().filter(|notifier| notifier.sender.is_some())
    }
}

impl Notifier {
    fn failing(&self) -> std::sync::MutexGuard<'_, Failing> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
