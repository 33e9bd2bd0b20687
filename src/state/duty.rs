//! Work that only one gateway does at a time, among all gateways that share a store.

use std::{fmt, future::pending, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{Instant, sleep},
};

use super::{
    Consent, StateStore, Unavailable,
    lease::random_name,
    term::{PART, Term},
};

/// How long a duty stays taken after the gateway that has it dies.
pub const LASTS: Duration = Duration::from_secs(60);
/// The pause before a duty that another gateway has is asked for again.
const AGAIN: Duration = Duration::from_millis(200);

/// Work that only one of the gateways that share a store does at a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Duty {
    /// Renewing the token of a consent: a provider may accept each refresh token only once, and may end the consent if
    /// two gateways use the same one (RFC 9700 §4.14.2).
    Renewal(Consent),
    /// Deleting messages past `retain_days`, and renewing consents that nobody uses.
    Sweep,
    /// Checking consents, and sending the notices of all gateways, so that each is sent once.
    Notices,
}

/// A duty that this gateway has. Dropping it gives the duty up in the background; [`OnDuty::leave`] waits for that.
pub struct OnDuty {
    /// `None` if the store is not shared.
    shared: Option<SharedDuty>,
}

struct SharedDuty {
    store: Arc<dyn StateStore>,
    duty: Duty,
    name: [u8; 16],
    term: Arc<Term>,
    /// The task that renews the duty.
    renewing: AbortHandle,
}

impl Duty {
    /// Takes the duty. While another gateway has it, asks again for up to `patience`, and then returns `None`.
    pub async fn take(self, store: &Arc<dyn StateStore>, patience: Duration) -> Result<Option<OnDuty>, Unavailable> {
        if store.lease().is_none() {
            return Ok(Some(OnDuty { shared: None }));
        }
        let (name, begun) = (random_name()?, Instant::now());
        loop {
            let asked = Instant::now();
            if store.take_duty(&self, &name).await? {
                let term = Arc::new(Term::new());
                term.renewed(asked, LASTS);
                let renewing = keep(store.clone(), self.clone(), name, term.clone());
                let shared = SharedDuty {
                    store: store.clone(),
                    duty: self,
                    name,
                    term,
                    renewing: tokio::spawn(renewing).abort_handle(),
                };
                return Ok(Some(OnDuty { shared: Some(shared) }));
            }
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            sleep(AGAIN.min(left)).await;
        }
    }
}

/// Renews a duty until another gateway has taken it.
async fn keep(store: Arc<dyn StateStore>, duty: Duty, name: [u8; 16], term: Arc<Term>) {
    loop {
        sleep(LASTS / PART).await;
        let asked = Instant::now();
        match store.take_duty(&duty, &name).await {
            Ok(true) => term.renewed(asked, LASTS),
            Ok(false) => {
                term.lose();
                return;
            }
            // The failure has been logged. The next renewal may still come in time.
            Err(_) => {}
        }
    }
}

impl OnDuty {
    /// Whether it is certain that no other gateway has the duty now.
    pub fn holds(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.term.holds())
    }

    /// Returns when another gateway may have the duty; never if the store is not shared.
    pub async fn lapsed(&self) {
        match &self.shared {
            Some(shared) => shared.term.ended().await,
            None => pending().await,
        }
    }

    /// Gives the duty up, and returns once the store has been told.
    pub async fn leave(mut self) {
        if let Some(shared) = self.shared.take() {
            shared.leave().await;
        }
    }
}

impl SharedDuty {
    async fn leave(self) {
        self.renewing.abort();
        // A failure has been logged. The duty ends without renewal after [`LASTS`].
        let _ = self.store.leave_duty(&self.duty, &self.name).await;
    }
}

impl Drop for OnDuty {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(shared.leave());
        }
    }
}

impl fmt::Debug for OnDuty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let duty = self.shared.as_ref().map(|shared| &shared.duty);
        f.debug_tuple("OnDuty").field(&duty).finish()
    }
}
