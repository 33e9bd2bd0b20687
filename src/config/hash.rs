//! `password_hash`: the hash of a device's password.

use argon2::password_hash::phc::PasswordHash;

use super::{Secret, key::Wrong};

/// Returns `hash` as text, if it is a complete argon2 hash (a PHC string) that is cheap enough to verify.
pub(super) fn argon2_hash(hash: &Secret) -> Result<String, Wrong> {
    let text = String::from_utf8_lossy(hash.expose());
    if let Some(kind) = other_kind(&text) {
        return Err(Wrong::new(format!("is {kind}, and popgate takes argon2 only")));
    }
    let parsed = PasswordHash::new(&text).map_err(|_| Wrong::new("is not a valid PHC string"))?;
    let argon2 = argon2::Algorithm::try_from(parsed.algorithm.as_str()).is_ok();
    let params = argon2::Params::try_from(&parsed);
    let Some(params) = params
        .ok()
        .filter(|_| argon2 && parsed.salt.is_some() && parsed.hash.is_some())
    else {
        return Err(Wrong::new("is not a whole argon2 hash"));
    };
    let (memory, passes) = (u64::from(params.m_cost()), u64::from(params.t_cost()));
    if memory > MOST_MEMORY {
        return Err(Wrong::new(format!(
            "takes {} MiB of memory for every login (m = {memory}), and popgate gives {} MiB at most",
            memory / 1024,
            MOST_MEMORY / 1024
        )));
    }
    if memory * passes > MOST_WORK {
        return Err(Wrong::new(format!(
            "takes too long for every login: {passes} passes over {} MiB (m × t = {}, at most {MOST_WORK})",
            memory / 1024,
            memory * passes
        )));
    }
    Ok(text.into_owned())
}

/// The most memory for one verification, in KiB: several run at once, and anybody can start one with a wrong password.
const MOST_MEMORY: u64 = 256 * 1024;
/// The most memory times passes, in KiB. At this limit a verification takes about two seconds.
const MOST_WORK: u64 = 2 * 1024 * 1024;

/// The kind of hash that `text` is, if popgate does not take that kind.
fn other_kind(text: &str) -> Option<&'static str> {
    const KINDS: [(&[&str], &str); 8] = [
        (&["$2a$", "$2b$", "$2x$", "$2y$"], "a bcrypt hash"),
        (&["$1$", "$apr1$"], "an MD5 hash"),
        (&["$5$"], "a SHA-256 hash of crypt"),
        (&["$6$"], "a SHA-512 hash of crypt"),
        (&["$y$", "$gy$"], "a yescrypt hash"),
        (&["$7$", "$scrypt$"], "a scrypt hash"),
        (&["$pbkdf2"], "a PBKDF2 hash"),
        (&["{"], "a hash of LDAP or Dovecot"),
    ];
    let kind = KINDS
        .iter()
        .find(|(starts, _)| starts.iter().any(|start| text.starts_with(start)));
    let is_hex = text.bytes().all(|octet| octet.is_ascii_hexdigit());
    match text.len() {
        32 | 40 | 64 | 128 if is_hex => Some("a hash without salt"),
        _ => kind.map(|(_, name)| *name),
    }
}
