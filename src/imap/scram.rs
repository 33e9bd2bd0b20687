//! The client's side of SCRAM-SHA-256 (RFC 7677, RFC 5802), without channel binding and without I/O.

use std::num::NonZeroU32;

use aws_lc_rs::{hmac, rand};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::challenge::ScramKeys;

/// How many iterations a server may ask for. With fewer, an eavesdropper could try passwords fast (RFC 7677 §4). The
/// upper bound leaves room above the 600,000 that are recommended for PBKDF2-HMAC-SHA-256 today. A hostile server can
/// make the gateway spend about a third of a second of one core.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4096..=1_000_000;
/// GS2 header of a client that does no channel binding and acts for nobody else (RFC 5801 §4).
const GS2_HEADER: &str = "n,,";

/// Why an exchange can't go on, in words for the log. The words contain nothing that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct SaslError(pub(super) &'static str);

/// The client's first message, which was sent or is about to be sent.
#[derive(Debug)]
pub(super) struct FirstMessage {
    /// `client-first-message-bare`
    bare: String,
    nonce: String,
}

/// The client's last message, and the signature that the server must send then.
pub(super) struct FinalMessage {
    signature: hmac::Tag,
}

impl FirstMessage {
    /// The first message for `user`, with a nonce of 144 random bits.
    pub(super) fn new(user: &str) -> Result<Self, SaslError> {
        let mut nonce = [0; 18];
        rand::fill(&mut nonce).map_err(|_| SaslError("the system gives no random numbers"))?;
        Ok(Self::with_nonce(user, BASE64.encode(nonce)))
    }

    fn with_nonce(user: &str, nonce: String) -> Self {
        Self {
            bare: format!("n={},r={nonce}", saslname(user)),
            nonce,
        }
    }

    /// `client-first-message`
    pub(super) fn message(&self) -> String {
        format!("{GS2_HEADER}{}", self.bare)
    }

    /// The answer to `server-first-message`. Computes for up to a second: do not call this on a thread that other
    /// sessions need.
    ///
    /// `secret` is used as the device has sent it, as in PLAIN: see [`ScramKeys::new`].
    pub(super) fn answer(
        &self,
        challenge: &[u8],
        secret: &[u8],
    ) -> Result<(Zeroizing<Vec<u8>>, FinalMessage), SaslError> {
        let text = std::str::from_utf8(challenge).map_err(|_| SaslError("SCRAM: the challenge is not UTF-8"))?;
        let mut fields = text.split(',');
        let mut field = |name: &str| fields.next().and_then(|field| field.strip_prefix(name));
        // A mandatory extension (`m=`) would stand in the nonce's place. It is refused, as RFC 5802 §5.1 demands.
        let nonce = field("r=").ok_or(SaslError("SCRAM: no nonce in the challenge"))?;
        let salt = field("s=").ok_or(SaslError("SCRAM: no salt in the challenge"))?;
        let iterations = field("i=").ok_or(SaslError("SCRAM: no iteration count in the challenge"))?;
        let ours = nonce.strip_prefix(self.nonce.as_str());
        if ours.is_none_or(|added| added.is_empty() || !added.bytes().all(|octet| octet.is_ascii_graphic())) {
            return Err(SaslError("SCRAM: the server's nonce does not continue ours"));
        }
        let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty());
        let salt = salt.ok_or(SaslError("SCRAM: the salt is not base64"))?;
        let is_number = iterations.bytes().all(|octet| octet.is_ascii_digit());
        let iterations = iterations
            .parse()
            .ok()
            .filter(|count| is_number && ITERATIONS.contains(count));
        let iterations = iterations
            .and_then(NonZeroU32::new)
            .ok_or(SaslError("SCRAM: the iteration count is not between 4096 and 1000000"))?;

        let keys = ScramKeys::new(secret, &salt, iterations);
        let mut message = format!("c={},r={nonce}", BASE64.encode(GS2_HEADER));
        let signed = format!("{},{text},{message}", self.bare);
        message.push_str(",p=");
        BASE64.encode_string(keys.proof(signed.as_bytes()).as_slice(), &mut message);
        let signature = keys.signature(signed.as_bytes());
        Ok((Zeroizing::new(message.into_bytes()), FinalMessage { signature }))
    }
}

/// `saslname` (RFC 5801 §4, RFC 5802 §5.1): `user` with its commas and equals signs escaped.
pub(super) fn saslname(user: &str) -> String {
    user.replace('=', "=3D").replace(',', "=2C")
}

/// What `server-final-message` says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ServerFinal {
    /// The server knows the secret.
    Proved,
    /// The server refuses the client's proof (`e=`).
    Refused,
}

impl FinalMessage {
    /// Checks `server-final-message`. A wrong signature is an error.
    pub(super) fn verify(&self, challenge: &[u8]) -> Result<ServerFinal, SaslError> {
        let first = challenge.split(|&octet| octet == b',').next().unwrap_or_default();
        if first.starts_with(b"e=") {
            return Ok(ServerFinal::Refused);
        }
        let signature = first.strip_prefix(b"v=").and_then(|text| BASE64.decode(text).ok());
        let is_right = signature.is_some_and(|signature| signature.ct_eq(self.signature.as_ref()).into());
        if is_right {
            Ok(ServerFinal::Proved)
        } else {
            Err(SaslError(
                "SCRAM: the server's signature is wrong: it does not know the password",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // RFC 7677 §3
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const CHALLENGE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const ANSWER: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                          p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SIGNATURE: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn first() -> FirstMessage {
        FirstMessage::with_nonce("user", NONCE.into())
    }

    fn fault(challenge: &str) -> Option<&'static str> {
        first()
            .answer(challenge.as_bytes(), b"pencil")
            .err()
            .map(|SaslError(text)| text)
    }

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(first().message(), format!("n,,n=user,r={NONCE}"));
        let (answer, last) = first().answer(CHALLENGE.as_bytes(), b"pencil").unwrap();
        assert_eq!(std::str::from_utf8(&answer).unwrap(), ANSWER);
        assert_eq!(last.verify(SIGNATURE), Ok(ServerFinal::Proved));
        assert_eq!(last.verify(&[SIGNATURE, b",ext=1"].concat()), Ok(ServerFinal::Proved));
        assert_eq!(last.verify(b"e=invalid-proof"), Ok(ServerFinal::Refused));
    }

    #[test]
    fn a_server_that_does_not_know_the_password() {
        let (_, last) = first().answer(CHALLENGE.as_bytes(), b"pencil").unwrap();
        for forged in [
            &b""[..],
            b"v=",
            b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=",
            b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            b"v=6rriTRBi23WpRR/wtup+",
            b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            CHALLENGE.as_bytes(),
        ] {
            assert!(last.verify(forged).is_err(), "{}", forged.escape_ascii());
        }
    }

    #[test]
    fn challenges_that_are_none() {
        for (challenge, word) in [
            ("", "no nonce"),
            ("m=ext,r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=4096", "no nonce"),
            ("r=rOprNGfwEbeRWgbNEkqOx,i=4096", "no salt"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=YQ==", "no iteration count"),
            ("r=somebodyelse,s=YQ==,i=4096", "nonce"),
            ("r=rOprNGfwEbeRWgbNEkq,s=YQ==,i=4096", "nonce"),
            ("r=rOprNGfwEbeRWgbNEkqO,s=YQ==,i=4096", "nonce"),
            ("r=rOprNGfwEbeRWgbNEkqO x,s=YQ==,i=4096", "nonce"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096", "salt"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=Y?==,i=4096", "salt"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=0", "iteration"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=1", "iteration"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=4095", "iteration"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=+4096", "iteration"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=-4096", "iteration"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=1000001", "iteration"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=4294967295", "iteration"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=99999999999999999999", "iteration"),
        ] {
            let fault = fault(challenge).unwrap_or_else(|| panic!("taken: {challenge}"));
            assert!(fault.contains(word), "{challenge}: {fault}");
        }
        assert_eq!(fault("r=rOprNGfwEbeRWgbNEkqOx,s=YQ==,i=4096,ext=1"), None);
    }

    #[test]
    fn names_are_escaped_and_nonces_differ() {
        assert_eq!(
            FirstMessage::with_nonce("a=b,c", "x".into()).message(),
            "n,,n=a=3Db=2Cc,r=x"
        );
        let [a, b] = [(); 2].map(|()| FirstMessage::new("user").unwrap().nonce);
        assert_ne!(a, b);
        assert_eq!(a.len(), 24);
    }

    proptest! {
        #[test]
        fn never_panics(challenge: Vec<u8>, secret: Vec<u8>, text in "r=rOprNGfwEbeRWgbNEkqO[ -~]{0,8},s=[A-Za-z0-9=]{0,8},i=[0-9]{0,4}") {
            let _ = first().answer(&challenge, &secret);
            let _ = first().answer(text.as_bytes(), &secret);
            let (_, last) = first().answer(CHALLENGE.as_bytes(), &secret).unwrap();
            prop_assert!(last.verify(&challenge) != Ok(ServerFinal::Proved));
        }
    }
}
