//! Access tokens for commands that run beside a gateway, or without one.

use std::{path::Path, sync::Arc};

use super::Failure;
use crate::{
    config::Config,
    oauth::Tokens,
    state::{self, MemoryStore, StateStore},
};

/// The tokens that the gateway keeps at `[state] url` or in `[state] dir`, whether the gateway runs or not; tokens in
/// memory if neither is given. `store` opens the directory.
pub(super) fn kept(
    config: &Config,
    store: impl Fn(&Path) -> Result<Arc<dyn StateStore>, state::Error>,
) -> Result<Arc<Tokens>, Failure> {
    if config.state.shared.is_some() {
        return of(config, state::reach_configured(&config.state).map_err(Failure::failed)?);
    }
    match &config.state.dir {
        Some(dir) => of(config, store(dir).map_err(|error| Failure::failed(error.to_string()))?),
        None => in_memory(config),
    }
}

/// Tokens in memory, for this process alone.
pub(super) fn in_memory(config: &Config) -> Result<Arc<Tokens>, Failure> {
    of(config, Arc::new(MemoryStore::default()))
}

/// The tokens in `store`. Fails if an `oauth2` of the configuration cannot be used.
pub(super) fn of(config: &Config, store: Arc<dyn StateStore>) -> Result<Arc<Tokens>, Failure> {
    Tokens::new(config, store).map_err(|error| Failure::wrong(format!("[upstream.….oauth2] {error}")))
}
