//! Responses to challenges (APOP, CRAM-MD5, SCRAM-SHA-256): the client, which proves that it knows the secret, and the
//! server, which verifies that, compute the same values.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// The digest of APOP (RFC 1939 §7).
pub(crate) fn apop(challenge: &[u8], secret: &[u8]) -> [u8; 16] {
    Md5::new()
        .chain_update(challenge)
        .chain_update(secret)
        .finalize()
        .into()
}

/// HMAC (RFC 2104) with MD5: the digest of CRAM-MD5 (RFC 2195 §2), with the secret for a key.
pub(crate) fn hmac_md5(key: &[u8], text: &[u8]) -> [u8; 16] {
    const BLOCK: usize = 64;
    let mut block = Zeroizing::new([0; BLOCK]);
    if key.len() <= BLOCK {
        block[..key.len()].copy_from_slice(key)
    } else {
        block[..16].copy_from_slice(&Md5::digest(key))
    }
    let hash = |pad: u8, parts: &[u8]| -> [u8; 16] {
        let mut padded = block.map(|octet| octet ^ pad);
        let hash = Md5::new().chain_update(padded).chain_update(parts).finalize();
        padded.zeroize();
        hash.into()
    };
    hash(0x5c, &hash(0x36, text))
}

/// Octets of a hash of SCRAM-SHA-256.
pub(crate) const SCRAM_OCTETS: usize = digest::SHA256_OUTPUT_LEN;

/// What SCRAM-SHA-256 derives from a password (RFC 5802 §3, RFC 7677).
pub(crate) struct ScramKeys {
    client: hmac::Tag,
    stored: hmac::Key,
    server: hmac::Key,
}

impl ScramKeys {
    /// Takes about a millisecond for 4,096 iterations.
    ///
    /// `secret` is used as it is: SASLprep (RFC 4013) leaves printable ASCII alone. If a password has other characters, a
    /// device that normalizes them in another way derives other keys.
    pub(crate) fn new(secret: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = Zeroizing::new([0; SCRAM_OCTETS]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, secret, &mut *salted);
        let key = |key: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, key);
        let salted = key(&*salted);
        let client = hmac::sign(&salted, b"Client Key");
        Self {
            stored: key(digest::digest(&digest::SHA256, client.as_ref()).as_ref()),
            client,
            server: key(hmac::sign(&salted, b"Server Key").as_ref()),
        }
    }

    /// `ClientProof`: proves that the client knows the password. `signed` is RFC 5802's `AuthMessage`.
    pub(crate) fn proof(&self, signed: &[u8]) -> Zeroizing<[u8; SCRAM_OCTETS]> {
        let mut proof = Zeroizing::new([0; SCRAM_OCTETS]);
        let signature = hmac::sign(&self.stored, signed);
        for ((octet, a), b) in proof.iter_mut().zip(self.client.as_ref()).zip(signature.as_ref()) {
            *octet = a ^ b;
        }
        proof
    }

    /// Whether `proof` is [`ScramKeys::proof`]; compared in constant time.
    pub(crate) fn is_proof(&self, proof: &[u8], signed: &[u8]) -> bool {
        self.proof(signed).ct_eq(proof).into()
    }

    /// `ServerSignature`: proves that the server knows the password.
    pub(crate) fn signature(&self, signed: &[u8]) -> hmac::Tag {
        hmac::sign(&self.server, signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digest: [u8; 16]) -> String {
        format!("{:032x}", u128::from_be_bytes(digest))
    }

    #[test]
    fn apop_of_rfc_1939() {
        let digest = apop(b"<1896.697170952@dbc.mtview.ca.us>", b"tanstaaf");
        assert_eq!(hex(digest), "c4c9334bac560ecc979e58001b3e22fb");
    }

    #[test]
    fn hmac_md5_of_rfc_2202() {
        for (key, text, digest) in [
            (&[0x0b; 16][..], &b"Hi There"[..], "9294727a3638bb1c13f48ef8158bfc9d"),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "750c783e6ab0b503eaa86e310a5db738",
            ),
            (
                &[0xaa; 80],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd",
            ),
        ] {
            assert_eq!(hex(hmac_md5(key, text)), digest);
        }
    }
}
