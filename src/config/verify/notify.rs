//! Verifies `[notify]`.

use std::time::Duration;

use super::{
    Verifier,
    value::{Checked, Noted},
};
use crate::config::{Notify, keys};

const DAY: u64 = 24 * 3600;

impl Verifier<'_> {
    pub(super) fn notify(&mut self, notify: keys::Notify) -> Checked<Notify> {
        let webhook = notify.webhook.map(|webhook| webhook.0);
        if webhook.is_some() {
            self.note_literal("notify.webhook");
        }
        let secret = self.secret(
            "notify.webhook_secret",
            notify.webhook_secret,
            notify.webhook_secret_file,
        );
        let ca_file = notify.webhook_ca_file.as_ref();
        let ca_file = ca_file
            .map(|file| self.readable("notify.webhook_ca_file", file))
            .transpose();
        let (webhook_secret, webhook_ca_file) = (secret?, ca_file?);
        if webhook.is_none() && self.sources.is_wrong("notify.webhook") {
            return Err(Noted);
        }
        if webhook.is_none() && (webhook_secret.is_some() || webhook_ca_file.is_some()) {
            let help = "the other keys say how notices are sent there: give it, or leave them out";
            return Err(self.missing("notify.webhook", help));
        }
        Ok(Notify {
            webhook,
            webhook_secret,
            webhook_ca_file,
            mail: notify.mail,
            consent: Duration::from_secs(DAY * u64::from(notify.consent_days.0)),
        })
    }
}
