//! SASL responses: base64 → login and secret (RFC 4616, RFC 5034 §4).

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use crate::config::Secret;

/// Devices differ on padding; what is missing can't be misread.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The challenges of LOGIN, as every implementation words them.
pub(super) const USERNAME: &[u8] = b"VXNlcm5hbWU6"; // Username:
/// See [`USERNAME`].
pub(super) const PASSWORD: &[u8] = b"UGFzc3dvcmQ6"; // Password:

/// What is wrong with a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("authentication cancelled")]
    Cancelled,
    #[error("not base64")]
    NotBase64,
    #[error("not a response of this mechanism")]
    Form,
    /// An authorization identity other than the login: there is no acting for others.
    #[error("authorization identity must equal the login")]
    Identity,
}

/// The octets of a response. `=` is the empty initial response (RFC 5034 §4), `*` cancels.
pub(super) fn decode(response: &[u8]) -> Result<Zeroizing<Vec<u8>>, Malformed> {
    match response {
        b"*" => Err(Malformed::Cancelled),
        b"=" => Ok(Zeroizing::default()),
        response => BASE64
            .decode(response)
            .map(Zeroizing::new)
            .map_err(|_| Malformed::NotBase64),
    }
}

/// PLAIN: `[authzid] NUL authcid NUL passwd`, the latter two not empty.
pub(super) fn plain(response: &[u8]) -> Result<(Vec<u8>, Secret), Malformed> {
    let mut parts = response.splitn(3, |&octet| octet == 0);
    let (Some(identity), Some(login), Some(secret)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Malformed::Form);
    };
    if login.is_empty() || secret.is_empty() || secret.contains(&0) {
        return Err(Malformed::Form);
    }
    if !identity.is_empty() && identity != login {
        return Err(Malformed::Identity);
    }
    Ok((login.to_vec(), secret.to_vec().into()))
}

/// LOGIN: two responses, neither empty.
pub(super) fn login(login: &[u8], secret: &[u8]) -> Result<(Vec<u8>, Secret), Malformed> {
    if login.is_empty() || secret.is_empty() {
        return Err(Malformed::Form);
    }
    Ok((login.to_vec(), secret.to_vec().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses() {
        assert_eq!(**decode(b"QUI=").as_ref().unwrap(), *b"AB");
        assert_eq!(**decode(b"QUI").as_ref().unwrap(), *b"AB");
        assert_eq!(decode(b"=").unwrap().len(), 0);
        assert_eq!(decode(b"").unwrap().len(), 0);
        assert_eq!(decode(b"*"), Err(Malformed::Cancelled));
        assert_eq!(decode(b"QUI*"), Err(Malformed::NotBase64));
        assert_eq!(decode(b"Q"), Err(Malformed::NotBase64));
        assert_eq!(decode(USERNAME).unwrap().as_slice(), b"Username:");
        assert_eq!(decode(PASSWORD).unwrap().as_slice(), b"Password:");
    }

    #[test]
    fn plain_parts() {
        for response in [&b"\0us er\0p \xff"[..], b"us er\0us er\0p \xff"] {
            let (login, secret) = plain(response).unwrap();
            assert_eq!((&login[..], secret.expose()), (&b"us er"[..], &b"p \xff"[..]));
        }
        for (response, expected) in [
            (&b""[..], Malformed::Form),
            (b"user\0secret", Malformed::Form),
            (b"\0\0secret", Malformed::Form),
            (b"\0user\0", Malformed::Form),
            (b"\0user\0sec\0ret", Malformed::Form),
            (b"root\0user\0secret", Malformed::Identity),
        ] {
            assert_eq!(plain(response).unwrap_err(), expected, "{}", response.escape_ascii());
        }
    }
}
