//! Values by UID, in a sorted vector with binary search.

use serde::{Deserialize, Serialize};

use super::Uid;

/// A map from UIDs to values, in ascending order of the UIDs. It is a vector, because that takes little memory: a
/// mailbox may have a million messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub struct UidMap<T>(#[serde(deserialize_with = "sorted")] Vec<(Uid, T)>);

/// A set of UIDs, in ascending order.
pub type Uids = UidMap<()>;

impl<T> UidMap<T> {
    /// How many UIDs there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no UID.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The position of `uid` in the vector.
    fn position(&self, uid: Uid) -> Option<usize> {
        self.0.binary_search_by_key(&uid, |&(uid, _)| uid).ok()
    }

    /// Whether the map has `uid`.
    pub fn contains(&self, uid: Uid) -> bool {
        self.position(uid).is_some()
    }

    /// The value of `uid`; `None` if the map does not have this UID.
    pub fn get(&self, uid: Uid) -> Option<&T> {
        self.position(uid).map(|at| &self.0[at].1)
    }

    /// All entries, in ascending order of their UIDs.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Uid, &T)> + ExactSizeIterator + '_ {
        self.0.iter().map(|(uid, value)| (*uid, value))
    }

    /// All UIDs, in ascending order.
    pub fn uids(&self) -> impl DoubleEndedIterator<Item = Uid> + ExactSizeIterator + '_ {
        self.0.iter().map(|&(uid, _)| uid)
    }

    /// Sets the value of `uid`, in place of an earlier value. Adding a UID above all others takes constant time.
    pub fn insert(&mut self, uid: Uid, value: T) {
        match self.0.last() {
            Some(&(last, _)) if last >= uid => match self.0.binary_search_by_key(&uid, |&(uid, _)| uid) {
                Ok(at) => self.0[at].1 = value,
                Err(at) => self.0.insert(at, (uid, value)),
            },
            _ => self.0.push((uid, value)),
        }
    }

    /// Removes `uid`; returns its value.
    pub fn remove(&mut self, uid: Uid) -> Option<T> {
        self.position(uid).map(|at| self.0.remove(at).1)
    }

    /// Keeps the entries for which `stays` is true.
    pub fn retain(&mut self, mut stays: impl FnMut(Uid, &T) -> bool) {
        self.0.retain(|(uid, value)| stays(*uid, value));
    }
}

impl Uids {
    /// Adds `uid`, unless it is there already.
    pub fn add(&mut self, uid: Uid) {
        self.insert(uid, ());
    }

    /// The UIDs as a vector, in ascending order.
    pub fn to_vec(&self) -> Vec<Uid> {
        self.uids().collect()
    }
}

impl<T> Default for UidMap<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// If a UID has several values, the first one stays.
impl<T> From<Vec<(Uid, T)>> for UidMap<T> {
    fn from(mut entries: Vec<(Uid, T)>) -> Self {
        if !entries.is_sorted_by(|a, b| a.0 < b.0) {
            entries.sort_by_key(|&(uid, _)| uid);
            entries.dedup_by_key(|&mut (uid, _)| uid);
        }
        Self(entries)
    }
}

/// If a UID has several values, the first one stays.
impl<T> FromIterator<(Uid, T)> for UidMap<T> {
    fn from_iter<I: IntoIterator<Item = (Uid, T)>>(entries: I) -> Self {
        Vec::from_iter(entries).into()
    }
}

/// Accepts UIDs as plain numbers.
impl<T> FromIterator<(u32, T)> for UidMap<T> {
    fn from_iter<I: IntoIterator<Item = (u32, T)>>(entries: I) -> Self {
        entries.into_iter().map(|(uid, value)| (Uid(uid), value)).collect()
    }
}

/// Accepts UIDs as plain numbers.
impl FromIterator<u32> for Uids {
    fn from_iter<I: IntoIterator<Item = u32>>(uids: I) -> Self {
        uids.into_iter().map(Uid).collect()
    }
}

impl<T, const N: usize> From<[(u32, T); N]> for UidMap<T> {
    fn from(entries: [(u32, T); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<const N: usize> From<[u32; N]> for Uids {
    fn from(uids: [u32; N]) -> Self {
        uids.into_iter().collect()
    }
}

impl FromIterator<Uid> for Uids {
    fn from_iter<I: IntoIterator<Item = Uid>>(uids: I) -> Self {
        uids.into_iter().map(|uid| (uid, ())).collect()
    }
}

/// If the map has a value of a UID already, that value stays.
impl<T> Extend<(Uid, T)> for UidMap<T> {
    fn extend<I: IntoIterator<Item = (Uid, T)>>(&mut self, entries: I) {
        let mut all = std::mem::take(&mut self.0);
        all.extend(entries);
        *self = all.into();
    }
}

impl Extend<Uid> for Uids {
    fn extend<I: IntoIterator<Item = Uid>>(&mut self, uids: I) {
        self.extend(uids.into_iter().map(|uid| (uid, ())));
    }
}

impl<T> IntoIterator for UidMap<T> {
    type Item = (Uid, T);
    type IntoIter = std::vec::IntoIter<(Uid, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Reads the entries and sorts them if necessary, because the entries of a stored record may be unsorted.
fn sorted<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<(Uid, T)>, D::Error> {
    Ok(UidMap::from(Vec::deserialize(deserializer)?).0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Behaves like the standard library's map, but of several values the first one stays.
        #[test]
        fn is_a_map(first: Vec<(u8, u8)>, then: Vec<(u8, u8)>, set: Vec<(u8, u8)>, gone: Vec<u8>) {
            let typed = |entries: &[(u8, u8)]| -> Vec<(Uid, u8)> {
                entries.iter().map(|&(uid, value)| (Uid(uid.into()), value)).collect()
            };
            let mut map: UidMap<u8> = typed(&first).into_iter().collect();
            map.extend(typed(&then));
            let mut expected = BTreeMap::new();
            for (uid, value) in typed(&first).into_iter().chain(typed(&then)) {
                expected.entry(uid).or_insert(value);
            }
            for (uid, value) in typed(&set) {
                map.insert(uid, value);
                expected.insert(uid, value);
            }
            for uid in gone {
                let uid = Uid(uid.into());
                prop_assert_eq!(map.remove(uid), expected.remove(&uid));
            }
            let entries: Vec<_> = map.iter().map(|(uid, &value)| (uid, value)).collect();
            prop_assert_eq!(entries, expected.clone().into_iter().collect::<Vec<_>>());
            for uid in (0..=u8::MAX).map(|uid| Uid(uid.into())) {
                prop_assert_eq!(map.get(uid), expected.get(&uid));
            }
            let read: UidMap<u8> = postcard::from_bytes(&postcard::to_allocvec(&map).unwrap()).unwrap();
            prop_assert_eq!(read, map);
        }
    }

    #[test]
    fn what_is_read_is_in_order() {
        let kept = postcard::to_allocvec(&[(3_u32, 'c'), (1, 'a'), (3, 'd')].to_vec()).unwrap();
        let read: UidMap<char> = postcard::from_bytes(&kept).unwrap();
        assert_eq!(read, UidMap::from(vec![(Uid(1), 'a'), (Uid(3), 'c')]));
    }
}
