//! The parts of the gateway that do not work, each with the reason: shown by /readyz and on the status page.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The parts that fail now, with the reason in words.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Mutex<BTreeMap<String, String>>);

/// The troubles of this process.
pub(crate) fn troubles() -> &'static Troubles {
    static TROUBLES: Troubles = Troubles(Mutex::new(BTreeMap::new()));
    &TROUBLES
}

impl Troubles {
    /// Notes that `part` fails. The new reason replaces an earlier one.
    pub(crate) fn begin(&self, part: &str, reason: String) {
        self.lock().insert(part.to_owned(), reason);
    }

    /// Notes that `part` works again, if it has failed.
    pub(crate) fn end(&self, part: &str) {
        self.lock().remove(part);
    }

    /// The reasons of all failures that last, by part.
    pub(crate) fn all(&self) -> BTreeMap<String, String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_fails_until_it_works() {
        let troubles = Troubles::default();
        troubles.begin("state", "disk full".into());
        troubles.begin("state", "read-only".into());
        assert_eq!(troubles.all(), BTreeMap::from([("state".into(), "read-only".into())]));
        troubles.end("state");
        assert!(troubles.all().is_empty());
    }
}
