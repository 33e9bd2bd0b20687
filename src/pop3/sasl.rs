//! Parses SASL responses: base64 → a login and its secret, digest or token (RFC 5034 §4). `accounts` verifies them.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use crate::{
    config::Secret,
    types::{RandomUnavailable, hex, random_octets},
};

/// Some devices leave out the padding. The response is clear without it.
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

/// Why a token is refused (RFC 7628 §3.2.2), encoded: {"status":"invalid_token"}
pub(super) const INVALID_TOKEN: &[u8] = b"eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=";

/// What is wrong with a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("authentication cancelled")]
    Cancelled,
    #[error("not base64")]
    NotBase64,
    #[error("not a response of this mechanism")]
    Form,
    /// An authorization identity other than the login: nobody may act for others.
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

/// `challenge` in base64 (RFC 5034 §4).
pub(super) fn encode(challenge: &str) -> String {
    BASE64.encode(challenge)
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

/// CRAM-MD5 (RFC 2195 §2): login, a space, the digest.
pub(super) fn cram_md5(response: &[u8]) -> Result<(Vec<u8>, [u8; 16]), Malformed> {
    let space = memchr::memrchr(b' ', response).ok_or(Malformed::Form)?;
    let digest = hexadecimal(&response[space + 1..]).ok_or(Malformed::Form)?;
    match &response[..space] {
        b"" => Err(Malformed::Form),
        login => Ok((login.to_vec(), digest)),
    }
}

/// Parses 32 hexadecimal digits, such as those of an MD5 digest.
pub(super) fn hexadecimal(digits: &[u8]) -> Option<[u8; 16]> {
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}

/// OAUTHBEARER (RFC 7628 §3.1): `n,a=LOGIN,` and fields, each followed by 0x01, and one more 0x01 at the end.
pub(super) fn oauth_bearer(response: &[u8]) -> Result<(Vec<u8>, Secret), Malformed> {
    let text = std::str::from_utf8(response).map_err(|_| Malformed::Form)?;
    let (header, fields) = text.split_once('\x01').ok_or(Malformed::Form)?;
    let mut header = header.split(',');
    if !matches!(header.next(), Some("n" | "y")) {
        return Err(Malformed::Form);
    }
    // The RFC makes the name optional, but the gateway must know whose mail is to be read.
    let name = header.next().and_then(|identity| identity.strip_prefix("a="));
    if header.next() != Some("") || header.next().is_some() {
        return Err(Malformed::Form);
    }
    Ok((saslname(name.ok_or(Malformed::Form)?)?, bearer(fields)?))
}

/// XOAUTH2, as Google describes it: the fields `user=LOGIN` and `auth=Bearer TOKEN`, written like those of OAUTHBEARER.
pub(super) fn xoauth2(response: &[u8]) -> Result<(Vec<u8>, Secret), Malformed> {
    let text = std::str::from_utf8(response).map_err(|_| Malformed::Form)?;
    let (user, fields) = text.split_once('\x01').ok_or(Malformed::Form)?;
    match user.strip_prefix("user=") {
        None | Some("") => Err(Malformed::Form),
        Some(login) => Ok((login.as_bytes().to_vec(), bearer(fields)?)),
    }
}

/// The token in the field `auth`.
fn bearer(fields: &str) -> Result<Secret, Malformed> {
    let fields = fields.strip_suffix("\x01\x01").ok_or(Malformed::Form)?;
    let auth = fields.split('\x01').find_map(|field| field.strip_prefix("auth="));
    let (scheme, token) = auth.and_then(|auth| auth.split_once(' ')).ok_or(Malformed::Form)?;
    let is_token = !token.is_empty() && token.bytes().all(|octet| octet.is_ascii_graphic());
    if scheme.eq_ignore_ascii_case("Bearer") && is_token {
        Ok(token.into())
    } else {
        Err(Malformed::Form)
    }
}

/// `saslname` (RFC 5802 §5.1): a login whose commas and equals signs are escaped.
pub(super) fn saslname(escaped: &str) -> Result<Vec<u8>, Malformed> {
    let mut parts = escaped.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = match part.strip_prefix("2C") {
            Some(rest) => (',', rest),
            None => ('=', part.strip_prefix("3D").ok_or(Malformed::Form)?),
        };
        name.push(sign);
        name.push_str(rest);
    }
    if name.is_empty() {
        Err(Malformed::Form)
    } else {
        Ok(name.into_bytes())
    }
}

/// 128 random bits in hexadecimal digits.
pub(super) fn nonce() -> Result<String, RandomUnavailable> {
    Ok(hex(&random_octets()?))
}

/// The challenge of APOP (RFC 1939 §7) and CRAM-MD5 (RFC 2195 §2): never the same twice.
pub(super) fn timestamp() -> Result<String, RandomUnavailable> {
    Ok(format!("<{}@popgate>", nonce()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_malformed<T: std::fmt::Debug>(read: fn(&[u8]) -> Result<T, Malformed>, responses: &[&[u8]]) {
        for response in responses {
            assert_eq!(
                read(response).unwrap_err(),
                Malformed::Form,
                "{}",
                response.escape_ascii()
            );
        }
    }

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
        assert_eq!(
            decode(INVALID_TOKEN).unwrap().as_slice(),
            br#"{"status":"invalid_token"}"#
        );
        assert_eq!(encode("Username:").as_bytes(), USERNAME);
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

    #[test]
    fn cram_md5_of_rfc_2195() {
        let (login, digest) = cram_md5(b"tim b913a602c7eda7a495b4e6e7334d3890").unwrap();
        assert_eq!((&login[..], digest[0], digest[15]), (&b"tim"[..], 0xb9, 0x90));
        let (login, _) = cram_md5(b"two words B913A602C7EDA7A495B4E6E7334D3890").unwrap();
        assert_eq!(login, b"two words");
        assert_malformed(
            cram_md5,
            &[
                b"",
                b"tim",
                b" b913a602c7eda7a495b4e6e7334d3890",
                b"tim b913a602c7eda7a495b4e6e7334d389",
                b"tim b913a602c7eda7a495b4e6e7334d38900",
                b"tim +913a602c7eda7a495b4e6e7334d3890",
                b"tim b913a602c7eda7a495b4e6e7334d3890 ",
            ],
        );
    }

    #[test]
    fn tokens() {
        // RFC 7628 §4.1
        let response =
            b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2==\x01\x01";
        let (login, token) = oauth_bearer(response).unwrap();
        assert_eq!(
            (&login[..], token.expose()),
            (&b"user@example.com"[..], &b"vF9dft4qmTc2=="[..])
        );
        let (login, _) = oauth_bearer(b"y,a=a=3Db=2Cc,\x01auth=bearer x\x01\x01").unwrap();
        assert_eq!(login, b"a=b,c");
        assert_malformed(
            oauth_bearer,
            &[
                b"",
                b"n,a=u,\x01auth=Bearer x\x01",
                b"n,,\x01auth=Bearer x\x01\x01",
                b"n,a=,\x01auth=Bearer x\x01\x01",
                b"n,a=u\x01auth=Bearer x\x01\x01",
                b"n,a=u,b,\x01auth=Bearer x\x01\x01",
                b"p=x,a=u,\x01auth=Bearer x\x01\x01",
                b"n,a=u=3,\x01auth=Bearer x\x01\x01",
                b"n,a=u,\x01auth=Basic x\x01\x01",
                b"n,a=u,\x01auth=Bearer \x01\x01",
                b"n,a=u,\x01auth=Bearer x y\x01\x01",
                b"n,a=u,\x01host=x\x01\x01",
                b"n,a=u,\x01auth=Bearer \xff\x01\x01",
            ],
        );
        // Google's documentation of XOAUTH2
        let (login, token) =
            xoauth2(b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01")
                .unwrap();
        assert_eq!(
            (&login[..], &token.expose()[..5]),
            (&b"someuser@example.com"[..], &b"ya29."[..])
        );
        assert_malformed(
            xoauth2,
            &[
                b"",
                b"user=\x01auth=Bearer x\x01\x01",
                b"user=u\x01\x01",
                b"user=u\x01auth=Bearer x",
                b"u\x01auth=Bearer x\x01\x01",
            ],
        );
    }

    #[test]
    fn no_timestamp_comes_twice() {
        let [one, other] = [(); 2].map(|()| timestamp().unwrap());
        assert_ne!(one, other);
        assert!(
            one.starts_with('<') && one.ends_with("@popgate>") && one.len() == 42,
            "{one}"
        );
    }
}
