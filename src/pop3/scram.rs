//! The server's side of SCRAM-SHA-256 (RFC 5802 §5, RFC 7677), without channel binding, without I/O and without base64.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use super::sasl::{Malformed, saslname};
use crate::accounts::{Response, SCRAM_ITERATIONS, Signature};

/// The most octets of a device's nonce: the challenge repeats it, in a line of 512 octets (RFC 1939 §3).
const NONCE: usize = 256;

/// `client-first-message`
#[derive(Debug)]
pub(super) struct ClientFirst {
    pub(super) login: Vec<u8>,
    /// `gs2-header`
    header: String,
    /// `client-first-message-bare`
    bare: String,
    nonce: String,
}

/// `server-first-message`, the gateway's challenge
#[derive(Debug)]
pub(super) struct ServerFirst {
    header: String,
    /// `client-first-message-bare` and `server-first-message`, as they are signed.
    signed: String,
    nonce: String,
    /// Where `server-first-message` begins in `signed`.
    start: usize,
}

impl ClientFirst {
    pub(super) fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(message).map_err(|_| Malformed::Form)?;
        let mut parts = text.splitn(3, ',');
        let (Some(binding), Some(identity), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Malformed::Form);
        };
        // `y`: the client could bind the channel, and believes that the server does not offer this (RFC 5802 §6).
        if !matches!(binding, "n" | "y") {
            return Err(Malformed::Form);
        }
        let mut fields = bare.split(',');
        let mut field = |name: &str| {
            let value = fields.next().and_then(|field| field.strip_prefix(name));
            value.filter(|value| !value.is_empty()).ok_or(Malformed::Form)
        };
        // A mandatory extension (`m=`) comes before the name, and so it is refused here (RFC 5802 §5.1).
        let login = saslname(field("n=")?)?;
        let nonce = field("r=")?;
        if nonce.len() > NONCE || !nonce.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(Malformed::Form);
        }
        match identity.strip_prefix("a=") {
            None if identity.is_empty() => {}
            Some(name) if saslname(name)? == login => {}
            Some(_) => return Err(Malformed::Identity),
            None => return Err(Malformed::Form),
        }
        Ok(Self {
            login,
            header: format!("{binding},{identity},"),
            nonce: nonce.to_owned(),
            bare: bare.to_owned(),
        })
    }

    /// The challenge that answers this message; `nonce` must be random.
    pub(super) fn challenge(self, nonce: &str, salt: &[u8]) -> ServerFirst {
        let nonce = self.nonce + nonce;
        let (salt, start) = (BASE64.encode(salt), self.bare.len() + 1);
        ServerFirst {
            header: self.header,
            signed: format!("{},r={nonce},s={salt},i={SCRAM_ITERATIONS}", self.bare),
            nonce,
            start,
        }
    }
}

impl ServerFirst {
    /// `server-first-message`
    pub(super) fn text(&self) -> &str {
        self.signed.get(self.start..).unwrap_or_default()
    }

    /// Reads `client-final-message`.
    pub(super) fn response(self, message: &[u8]) -> Result<Response, Malformed> {
        let text = std::str::from_utf8(message).map_err(|_| Malformed::Form)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Malformed::Form)?;
        let mut fields = without_proof.split(',');
        let mut field = |name: &str| {
            let value = fields.next().and_then(|field| field.strip_prefix(name));
            value.ok_or(Malformed::Form)
        };
        let header = BASE64.decode(field("c=")?).map_err(|_| Malformed::Form)?;
        if header != self.header.as_bytes() || field("r=")? != self.nonce {
            return Err(Malformed::Form);
        }
        let proof = BASE64.decode(proof).map_err(|_| Malformed::Form)?;
        Ok(Response::ScramSha256 {
            signed: format!("{},{without_proof}", self.signed),
            proof: proof.try_into().map_err(|_| Malformed::Form)?,
        })
    }
}

/// `server-final-message`, which proves that the gateway knows the password too.
pub(super) fn server_final(signature: &Signature) -> String {
    format!("v={}", BASE64.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";

    fn challenge() -> ServerFirst {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        ClientFirst::parse(FIRST)
            .unwrap()
            .challenge("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", &salt)
    }

    #[test]
    fn the_example_of_rfc_7677() {
        assert_eq!(ClientFirst::parse(FIRST).unwrap().login, b"user");
        assert_eq!(
            challenge().text(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let Ok(Response::ScramSha256 { signed, proof }) = challenge().response(last) else {
            panic!()
        };
        assert!(signed.starts_with("n=user,r=rOprNGfwEbeRWgbNEkqO,r="), "{signed}");
        assert!(signed.ends_with("i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"));
        assert_eq!(BASE64.encode(proof), "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    }

    #[test]
    fn first_messages() {
        for (message, login) in [
            (&b"n,,n=user,r=x"[..], "user"),
            (b"y,,n=us=2Cer=3D,r=x", "us,er="),
            (b"n,a=user,n=user,r=x,e=more", "user"),
            ("n,,n=jörg,r=x".as_bytes(), "jörg"),
        ] {
            assert_eq!(ClientFirst::parse(message).unwrap().login, login.as_bytes());
        }
        for (message, expected) in [
            (&b""[..], Malformed::Form),
            (b"n,,", Malformed::Form),
            (b"n,,n=user", Malformed::Form),
            (b"n,,n=,r=x", Malformed::Form),
            (b"n,,n=user,r=", Malformed::Form),
            (b"n,,n=user,r=x y", Malformed::Form),
            (b"n,,m=ext,n=user,r=x", Malformed::Form),
            (b"n,,n=us=er,r=x", Malformed::Form),
            (b"n,b,n=user,r=x", Malformed::Form),
            (b"p=tls-unique,,n=user,r=x", Malformed::Form),
            (b"n,,n=\xff,r=x", Malformed::Form),
            (b"n,a=root,n=user,r=x", Malformed::Identity),
        ] {
            assert_eq!(
                ClientFirst::parse(message).unwrap_err(),
                expected,
                "{}",
                message.escape_ascii()
            );
        }
    }

    #[test]
    fn the_question_keeps_to_the_length_of_a_line() {
        let first = |nonce: usize| ClientFirst::parse(format!("n,,n=user,r={}", "x".repeat(nonce)).as_bytes());
        let asked = first(NONCE).unwrap().challenge(&"y".repeat(32), &[0xff; 16]);
        assert!(BASE64.encode(asked.text()).len() <= 512 - b"+ \r\n".len());
        assert_eq!(first(NONCE + 1).unwrap_err(), Malformed::Form);
    }

    #[test]
    fn last_messages_of_another_exchange() {
        for message in [
            "",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            // `y,,` instead of `n,,`
            "c=eSws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzb",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=?",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,c=biws,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        ] {
            let read = challenge().response(message.as_bytes());
            assert_eq!(read.unwrap_err(), Malformed::Form, "{message}");
        }
    }
}
