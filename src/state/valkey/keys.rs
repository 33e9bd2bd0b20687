//! The keys of a shared store. All keys of a mailbox have the same digest of its name in braces, so that a cluster has
//! them on one node. The name itself is stored with the records.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};

use super::super::{Consent, Duty, Holding, MailboxName, UpstreamUser};

/// How many slots a cluster has.
const SLOTS: u16 = 16_384;

/// How the key of an index ends, after that of its mailbox.
const INDEX: &[u8] = b":i";

/// Makes keys with one prefix.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// The key of a hash with the records of a mailbox: `p` (past), `m` (removal under way), `k:LOGIN` (marks), `n`
    /// (names).
    pub(super) fn mailbox(&self, mailbox: &MailboxName) -> Vec<u8> {
        let MailboxName { upstream, user, folder } = mailbox;
        self.tagged("", &[upstream, user, folder])
    }

    /// The key of a mailbox's index: a string of its names, a line feed and the record, or a hash of pieces.
    pub(super) fn index(&self, mailbox: &MailboxName) -> Vec<u8> {
        [self.mailbox(mailbox).as_slice(), INDEX].concat()
    }

    /// The key that is written to have replicas confirm earlier writes to a mailbox.
    pub(super) fn confirmation(&self, mailbox: &MailboxName) -> Vec<u8> {
        [self.mailbox(mailbox).as_slice(), b":w"].concat()
    }

    /// The keys that a session with `holding` needs.
    pub(super) fn held(&self, holding: &Holding) -> HeldKeys {
        let mailbox = self.mailbox(&holding.mailbox);
        let ending = |end: &[u8]| [mailbox.as_slice(), end].concat();
        let mut locks = vec![[mailbox.as_slice(), b":l:", short(&[&holding.login]).as_bytes()].concat()];
        if !holding.is_private {
            locks.push(ending(b":l"));
        }
        HeldKeys {
            index: ending(INDEX),
            locks,
            mailbox,
        }
    }

    /// The key of a hash with a consent's token: `t` (token), `n` (names).
    pub(super) fn token(&self, Consent { upstream, name }: &Consent) -> Vec<u8> {
        self.tagged("t:", &[upstream, name])
    }

    /// The key of a duty. Its value is the random name of the gateway that has the duty.
    pub(super) fn duty(&self, duty: &Duty) -> Vec<u8> {
        match duty {
            Duty::Renewal(consent) => {
                let mut key = self.token(consent);
                key.extend_from_slice(b":l");
                key
            }
            Duty::Sweep => self.key("sweep"),
            Duty::Notices => self.key("notifier"),
        }
    }

    /// The key of a hash with all notices, by name.
    pub(super) fn notices(&self) -> Vec<u8> {
        self.key("notices")
    }

    /// The keys of the words that gateways exchange, and of the gateways that are alive. Both are in one slot.
    pub(super) fn gateways(&self) -> [Vec<u8>; 2] {
        ["words", "alive"].map(|end| self.key(&format!("{{gateways}}:{end}")))
    }

    /// The key of a hash with the number of an upstream user's connections, by gateway.
    pub(super) fn seats(&self, user: UpstreamUser<'_>) -> Vec<u8> {
        let UpstreamUser { upstream, server, user } = user;
        let mut key = self.tagged("u:", &[upstream, server, user]);
        key.extend_from_slice(b":c");
        key
    }

    /// The key of a hash with what the gateways announce of themselves, by name.
    pub(super) fn replicas(&self) -> Vec<u8> {
        self.key("replicas")
    }

    /// A pattern that matches the keys of all mailboxes and tokens.
    pub(super) fn pattern(&self) -> Vec<u8> {
        let mut pattern: Vec<u8> = Vec::new();
        for octet in self.prefix.bytes() {
            if matches!(octet, b'*' | b'?' | b'[' | b']' | b'\\') {
                pattern.push(b'\\');
            }
            pattern.push(octet);
        }
        pattern.extend_from_slice(b":{*");
        pattern
    }

    /// What a key is for that [`Keys::pattern`] matches. `None` if it has no records.
    pub(super) fn kind(&self, key: &[u8]) -> Option<Found> {
        let rest = key.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b":{")?;
        let close = rest.iter().position(|&octet| octet == b'}')?;
        match (rest.starts_with(b"t:"), &rest[close + 1..]) {
            (true, b"") => Some(Found::Token),
            (false, b"") => Some(Found::Mailbox),
            (false, b":i") => Some(Found::Index),
            _ => None,
        }
    }

    fn key(&self, name: &str) -> Vec<u8> {
        format!("{}:{name}", self.prefix).into_bytes()
    }

    fn tagged(&self, kind: &str, names: &[&str]) -> Vec<u8> {
        [&self.prefix, ":{", kind, &short(names), "}"].concat().into_bytes()
    }
}

/// The keys that a session with a maildrop needs.
#[derive(Debug)]
pub(super) struct HeldKeys {
    /// See [`Keys::mailbox`].
    pub(super) mailbox: Vec<u8>,
    /// See [`Keys::index`].
    pub(super) index: Vec<u8>,
    /// The session's locks.
    pub(super) locks: Vec<Vec<u8>>,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Records of a mailbox.
    Mailbox,
    /// An index.
    Index,
    /// The token of a consent.
    Token,
}

/// The first 96 bits of the SHA-256 of `names`, in base64.
fn short(names: &[&str]) -> String {
    BASE64.encode(&digest(&SHA256, &framed(names)).as_ref()[..12])
}

/// Joins `parts`, with the length of each part before it. Two different lists never give the same octets.
pub(super) fn framed<T: AsRef<[u8]>>(parts: &[T]) -> Vec<u8> {
    let parts = || parts.iter().map(AsRef::as_ref);
    let mut octets = Vec::with_capacity(parts().map(|part| size_of::<u64>() + part.len()).sum());
    for part in parts() {
        octets.extend_from_slice(&(part.len() as u64).to_le_bytes());
        octets.extend_from_slice(part);
    }
    octets
}

/// The slot of a cluster that has `key`: CRC-16 (XMODEM) of the text in its first braces, or of the whole key if there
/// are none.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|&octet| octet == b'{')? + 1;
        let length = key[open..].iter().position(|&octet| octet == b'}')?;
        (length > 0).then(|| &key[open..open + length])
    };
    let mut crc: u16 = 0;
    for &octet in tag().unwrap_or(key) {
        crc ^= u16::from(octet) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
        }
    }
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(user: &str, folder: &str) -> MailboxName {
        MailboxName {
            upstream: "home".into(),
            user: user.into(),
            folder: folder.into(),
        }
    }

    #[test]
    fn slots_are_those_of_servers() {
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"{foo}:l"), 12_182);
        assert_eq!(slot(b"a{}b"), slot(b"a{}b"));
        assert_ne!(slot(b"{}foo"), 12_182);
    }

    #[test]
    fn keys_of_a_mailbox_lie_in_one_slot_and_are_known_again() {
        let keys = Keys::new("pop*gate");
        let inbox = mailbox("eva", "INBOX");
        let holding = |is_private| Holding {
            mailbox: inbox.clone().into(),
            login: "pbx".into(),
            is_private,
            name: [0; 16],
        };
        let [own, all] = keys.held(&holding(false)).locks.try_into().unwrap();
        let held = keys.held(&holding(true));
        assert_eq!(held.locks, std::slice::from_ref(&own));
        let records = keys.mailbox(&inbox);
        assert_eq!((&held.mailbox, held.index), (&records, keys.index(&inbox)));
        for key in [&own, &all, &keys.index(&inbox), &keys.confirmation(&inbox)] {
            assert_eq!(slot(key), slot(&records));
            assert!(key.starts_with(&records));
        }
        let consent = Consent {
            upstream: "home".into(),
            name: "eva".into(),
        };
        assert_eq!(keys.kind(&records), Some(Found::Mailbox));
        assert_eq!(keys.kind(&keys.index(&inbox)), Some(Found::Index));
        assert_eq!(keys.kind(&keys.token(&consent)), Some(Found::Token));
        let duties = [Duty::Renewal(consent), Duty::Sweep, Duty::Notices].map(|duty| keys.duty(&duty));
        let user = UpstreamUser {
            upstream: "home",
            server: "imap.example.org:993",
            user: "eva",
        };
        let others = [
            own,
            all,
            keys.confirmation(&inbox),
            keys.notices(),
            keys.replicas(),
            keys.seats(user),
            b"popgate:{t:x}".to_vec(),
        ];
        let gateways = keys.gateways();
        assert_eq!(slot(&gateways[0]), slot(&gateways[1]));
        for other in others.into_iter().chain(duties).chain(gateways) {
            assert_eq!(keys.kind(&other), None, "{}", other.escape_ascii());
        }
        assert_eq!(keys.pattern(), b"pop\\*gate:{*");
        assert_ne!(keys.mailbox(&mailbox("ev", "aINBOX")), records);
    }
}
