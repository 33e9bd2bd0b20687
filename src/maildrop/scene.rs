//! Help for unit tests: a folder at an upstream that answers as a test wants, and a state that fails.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{parked::ParkedFolder, upstream::UpstreamFolder};
use crate::{
    accounts::Account,
    config::Config,
    imap::{Connector, Pool, UserKey, scene::play_with},
    oauth::Tokens,
    state::{Access, Altered, Behaviour, MemoryStore, Unavailable},
};

/// A configuration of one account with the maildrop keys `keys`.
pub(super) fn config(keys: &str) -> Config {
    let text = format!(
        "[upstream.home]\nhost = \"127.0.0.1\"\nport = 1\ntls = \"off\"\n[upstream.home.maildrop]\n{keys}\n\
         [[account]]\nlogin = \"pbx\"\npassword = \"p\"\nupstream = \"home\"\nuser = \"eva\"\nupstream_password = \"q\"\n"
    );
    Config::parse(&text, std::path::Path::new("")).unwrap()
}

/// Runs `work` on the INBOX of an account with the maildrop keys `keys`. If the connection is lost, it cannot be made
/// again. `answer` is as in [`play_with`]. Returns the commands that the server got, and what `work` returned.
pub(super) async fn play<T>(
    keys: &str,
    capabilities: &str,
    answer: impl FnMut(&str) -> String,
    work: impl AsyncFnOnce(&mut UpstreamFolder) -> T,
) -> (Vec<String>, T) {
    let config = config(keys);
    let tokens = Tokens::new(&config, Arc::new(MemoryStore::default())).unwrap();
    let connector = Connector::new(&config.upstreams[0], Duration::from_secs(5), tokens).unwrap();
    let account = Account::from(&config.accounts[0]);
    let pool: Arc<Pool<ParkedFolder>> = Pool::new(Duration::ZERO, None).unwrap();
    let secret = "q".into();
    let slot = pool
        .reserve(&UserKey::new(&config.upstreams[0], "eva"), 8, &secret, false)
        .await;
    let slot = slot.unwrap_or_else(|_| unreachable!());
    play_with(capabilities, 3, answer, async |mailbox| {
        let name = account.mailbox("INBOX");
        let mut upstream = UpstreamFolder::new(Arc::new(account), name.into(), Arc::new(connector), slot, mailbox);
        work(&mut upstream).await
    })
    .await
}

/// State that can neither be read nor written.
pub(super) fn broken() -> Altered<Broken> {
    Altered::new(Broken)
}

/// See [`broken`].
#[derive(Debug)]
pub(super) struct Broken;

#[async_trait]
impl Behaviour for Broken {
    async fn before(&self, _: Access<'_>) -> Result<(), Unavailable> {
        Err(Unavailable::Failed)
    }
}
