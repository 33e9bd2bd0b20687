//! Logins by a device's own OAuth2 access token, which the upstream verifies.

use std::net::IpAddr;

use super::{Account, Accounts, Attempt, Denied, LoginOwner, PatternTarget};
use crate::config::{Credential, Secret, Upstream};

impl Accounts {
    /// The upstreams that a device's access token may be sent to.
    pub fn token_upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.patterns.iter().filter_map(|(_, target)| match target {
            PatternTarget::Forwarded(upstream) if upstream.is_private() => Some(&**upstream),
            PatternTarget::Forwarded(_) | PatternTarget::Rule(_) => None,
        })
    }

    /// Like [`Accounts::authenticate`], with an access token for the upstream instead of the secret. Only forwarded logins may
    /// use a token: the gateway itself cannot verify it. A token is not sent over the network in plain text.
    pub async fn authenticate_token(
        &self,
        login: &[u8],
        token: Secret,
        peer: IpAddr,
    ) -> Result<(Account, Attempt), Denied> {
        let resolved = self.resolve(login);
        let (attempt, asker) = self.begin(login, resolved.as_ref(), &token, peer).await?;
        let account = match resolved.as_ref().map(|resolved| (resolved, &resolved.owner)) {
            Some((resolved, LoginOwner::Forwarded(upstream))) if upstream.is_private() => {
                let account = self.verify(resolved, token.clone(), asker).await;
                account.map(|account| Account {
                    credential: Credential::Token(token),
                    ..account
                })
            }
            Some((_, LoginOwner::Forwarded(upstream))) => {
                tracing::warn!(
                    upstream = upstream.name,
                    "a device's token was refused: popgate sends no token to an upstream in plain text"
                );
                None
            }
            _ => {
                self.spend_time(token, asker).await;
                None
            }
        };
        attempt.admit(account).await
    }
}
