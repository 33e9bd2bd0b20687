//! `popgate health`: asks a running gateway whether its listeners answer.

use super::Failure;
use crate::health::{self, Door};

/// Asks every listener; fails at the first that does not answer as it should.
pub(super) async fn run<'a>(doors: impl IntoIterator<Item = Door<'a>>) -> Result<(), Failure> {
    for door in doors {
        health::ask(door)
            .await
            .map_err(|error| Failure::failed(format!("{}: {error}", door.address)))?;
    }
    Ok(())
}
