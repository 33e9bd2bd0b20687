//! Session tickets (RFC 5077, RFC 8446 §4.6.1): with a ticket, a device resumes a session by a shorter handshake.

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use tokio_rustls::rustls::server::ProducesTickets;

use crate::{
    config::{ClientCertificates, Secret},
    types::{Sealer, now},
};

/// How many seconds a key encrypts tickets. It decrypts them for as long again.
const PERIOD: u64 = 6 * 60 * 60;
/// Keeps these keys apart from other keys that are derived from the same secret.
const PURPOSE: &[u8] = b"popgate session tickets";
/// How many octets of a ticket hold the number of its period.
const NUMBER: usize = 8;

/// Tickets that every gateway with the same secret, the same certificate and the same demands can open, also after a
/// restart.
///
/// The gateways need not talk to each other: the key of each period is derived from the secret, the period's number and
/// the demands. A ticket is the period's number (8 octets, big-endian) and the session, sealed. Clocks may differ by
/// less than a period.
pub(super) struct SharedTickets {
    secret: Secret,
    demands: digest::Digest,
    now: fn() -> u64,
}

impl SharedTickets {
    /// Tickets that are valid where both `secret` and `demands` are equal.
    pub(super) fn new(secret: &Secret, demands: Demands) -> Self {
        Self {
            secret: secret.clone(),
            demands: demands.0.finish(),
            now: || u64::from(now()),
        }
    }

    fn period(&self) -> u64 {
        (self.now)() / PERIOD
    }

    /// Seals and opens the tickets of the period with this number.
    fn sealer(&self, period: u64) -> Option<Sealer> {
        let purpose = [PURPOSE, &period.to_be_bytes(), self.demands.as_ref()];
        Sealer::new(Some(self.secret.expose()), &purpose).ok()
    }
}

/// A digest of what a handshake proves to each side: the certificates that devices are shown, and what is demanded of
/// theirs.
pub(super) struct Demands(digest::Context);

impl Demands {
    /// The demands of a server that shows `chain`.
    pub(super) fn of(clients: ClientCertificates, chain: &[CertificateDer<'_>]) -> Self {
        let mut demands = Self(digest::Context::new(&digest::SHA256));
        demands.0.update(clients.to_string().as_bytes());
        demands.add(chain);
        demands
    }

    /// Adds the roots that must have issued the certificates of devices.
    pub(super) fn add(&mut self, certificates: &[CertificateDer<'_>]) {
        self.0.update(&certificates.len().to_be_bytes());
        for certificate in certificates {
            self.0.update(&certificate.len().to_be_bytes());
            self.0.update(certificate);
        }
    }
}

impl ProducesTickets for SharedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        PERIOD as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let period = self.period();
        let sealed = self.sealer(period)?.seal(plain, &[]).ok()?;
        Some([&period.to_be_bytes()[..], &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (number, sealed) = ticket.split_first_chunk::<NUMBER>()?;
        let period = u64::from_be_bytes(*number);
        if period.abs_diff(self.period()) > 1 {
            return None;
        }
        let plain = self.sealer(period)?.open(sealed, &[])?;
        Some(plain.to_vec())
    }
}

impl std::fmt::Debug for SharedTickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedTickets(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::ClientCertificates::{Off, Required};

    const SESSION: &[u8] = b"what is agreed with a device";

    fn tickets(secret: &str, clients: ClientCertificates, now: fn() -> u64) -> SharedTickets {
        SharedTickets {
            now,
            ..SharedTickets::new(&Secret::from(secret), Demands::of(clients, &[]))
        }
    }

    #[test]
    fn a_ticket_is_valid_where_secret_and_demands_are_equal() {
        let now = || 100 * PERIOD;
        let ticket = tickets("secret", Off, now).encrypt(SESSION).unwrap();
        for (secret, demands, is_valid) in [
            ("secret", Off, true),
            ("other", Off, false),
            ("secret", Required, false),
        ] {
            let opened = tickets(secret, demands, now).decrypt(&ticket);
            assert_eq!(opened.as_deref() == Some(SESSION), is_valid, "{secret}");
            assert_eq!(opened.is_some(), is_valid, "{secret}");
        }
    }

    #[test]
    fn a_ticket_is_valid_for_its_lifetime_and_ends_soon_after() {
        let ticket = tickets("secret", Off, || 100 * PERIOD + PERIOD - 1)
            .encrypt(SESSION)
            .unwrap();
        let opens = |now| tickets("secret", Off, now).decrypt(&ticket).is_some();
        // Another gateway's clock is behind.
        assert!(opens(|| 99 * PERIOD));
        assert!(opens(|| 100 * PERIOD + PERIOD - 1 + PERIOD));
        assert!(!opens(|| 102 * PERIOD));
        assert!(!opens(|| 98 * PERIOD));
    }

    proptest! {
        #[test]
        fn what_is_no_ticket_opens_nothing(octets in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..80) {
            let tickets = tickets("secret", Off, || 100 * PERIOD);
            prop_assert_eq!(tickets.decrypt(&octets), None);
            let mut ticket = tickets.encrypt(SESSION).unwrap();
            prop_assert_eq!(tickets.decrypt(&ticket[..at.min(ticket.len() - 1)]), None);
            let at = at % ticket.len();
            ticket[at] ^= 1;
            prop_assert_eq!(tickets.decrypt(&ticket), None);
        }
    }
}
