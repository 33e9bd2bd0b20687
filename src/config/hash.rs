//! `password_hash`: the hash of a device's password.

use argon2::password_hash::phc::PasswordHash;

use super::{Secret, key::Wrong};

/// `hash`, if it is a whole PHC string of argon2.
pub(super) fn argon2_hash(hash: &Secret) -> Result<String, Wrong> {
    let text = String::from_utf8_lossy(hash.expose());
    let parsed = PasswordHash::new(&text).map_err(|_| Wrong::new("is not a valid PHC string"))?;
    let argon2 = argon2::Algorithm::try_from(parsed.algorithm.as_str()).is_ok();
    if !argon2 || parsed.salt.is_none() || parsed.hash.is_none() || argon2::Params::try_from(&parsed).is_err() {
        return Err(Wrong::new("is not a whole argon2 hash"));
    }
    Ok(text.into_owned())
}
