//! What a session has delivered. Only this decides what counts as retrieved.

use std::num::NonZeroU32;

use crate::types::{Octets, Uid, UidMap, Uids};

/// The messages that were sent to the device.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// The messages that were delivered whole, in the order of delivery. With each its size as the device counts it, if
    /// that is known and state can store it.
    delivered: Vec<(Uid, Option<NonZeroU32>)>,
    /// How many of `delivered` the device has acknowledged by its next command.
    acknowledged: usize,
    /// Messages that were asked for in this session and not delivered.
    failed: Uids,
}

impl Delivery {
    /// Notes that a message was delivered whole, by RETR or by a TOP that reached its end, so it counts as retrieved.
    pub(super) fn note_delivered(&mut self, uid: Uid, octets: Option<Octets>) {
        let octets = octets.and_then(|Octets(octets)| NonZeroU32::new(octets.try_into().ok()?));
        self.delivered.push((uid, octets));
    }

    /// Notes that the device has received everything delivered so far: it has sent another command since.
    pub(super) fn acknowledge(&mut self) {
        self.acknowledged = self.delivered.len();
    }

    /// Notes that the device has gone without QUIT: only what it has acknowledged counts.
    pub(super) fn drop_unacknowledged(&mut self) {
        self.delivered.truncate(self.acknowledged);
    }

    /// Notes that a message was not delivered. Returns whether this is its first failure in this session.
    pub(super) fn note_failed(&mut self, uid: Uid) -> bool {
        let is_new = !self.failed.contains(uid);
        self.failed.add(uid);
        is_new
    }

    pub(super) fn is_empty(&self) -> bool {
        self.delivered.is_empty()
    }

    pub(super) fn has(&self, uid: Uid) -> bool {
        self.delivered.iter().any(|&(delivered, _)| delivered == uid)
    }

    pub(super) fn retrieved(&self) -> Uids {
        self.delivered.iter().map(|&(uid, _)| uid).collect()
    }

    /// The octets of the retrieved messages, if they are known. The last delivery of a message counts.
    pub(super) fn octets(&self) -> UidMap<u32> {
        let sizes = self.delivered.iter().rev();
        sizes.filter_map(|&(uid, octets)| Some((uid, octets?.get()))).collect()
    }

    pub(super) fn forget(&mut self, gone: &Uids) {
        self.delivered.retain(|&(uid, _)| !gone.contains(uid));
        self.acknowledged = self.acknowledged.min(self.delivered.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(uids: &[u32]) -> Delivery {
        let mut delivery = Delivery::default();
        for &uid in uids {
            delivery.note_delivered(Uid(uid), Some(Octets(u64::from(uid) * 10)));
        }
        delivery
    }

    #[test]
    fn after_a_drop_only_what_was_acknowledged_counts() {
        let mut delivery = delivery(&[3, 1]);
        delivery.acknowledge();
        delivery.note_delivered(Uid(2), Some(Octets(20)));
        assert_eq!(delivery.retrieved(), [1, 2, 3].into());
        delivery.drop_unacknowledged();
        assert_eq!(delivery.retrieved(), [1, 3].into());
        assert!(delivery.has(Uid(3)) && !delivery.has(Uid(2)));
    }

    #[test]
    fn the_last_delivery_tells_the_octets() {
        let mut delivery = delivery(&[1, 2]);
        delivery.note_delivered(Uid(1), Some(Octets(12)));
        delivery.note_delivered(Uid(4), Some(Octets(1 << 32)));
        assert_eq!(delivery.octets(), [(1, 12), (2, 20)].into(), "more than state can keep");
    }

    #[test]
    fn what_was_removed_is_forgotten() {
        let mut delivery = delivery(&[1, 2, 3]);
        delivery.acknowledge();
        delivery.forget(&[1, 3].into());
        assert_eq!(delivery.retrieved(), [2].into());
        delivery.note_delivered(Uid(4), None);
        delivery.drop_unacknowledged();
        assert!(!delivery.is_empty() && !delivery.has(Uid(1)));
    }

    #[test]
    fn a_failure_counts_once_in_a_session() {
        let mut delivery = Delivery::default();
        assert!(delivery.note_failed(Uid(1)) && !delivery.note_failed(Uid(1)) && delivery.note_failed(Uid(2)));
    }
}
