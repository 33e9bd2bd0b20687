//! How a handshake fails, told apart by what helps against it: with a server, and with a device.

use std::io;

use tokio_rustls::rustls::{self, AlertDescription, CertificateError, PeerIncompatible};

use super::trust::Untrusted;
use crate::types::Spoken;

/// Why there is no TLS with a server.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The server's certificate is not to be trusted.
    #[error(transparent)]
    Certificate(#[from] Distrust),
    /// The two sides can't agree: another try would end in the same way.
    #[error(transparent)]
    Disagreement(#[from] Disagreement),
    /// The connection was lost or closed, or failed for a reason that may pass.
    #[error("{0}")]
    Broken(io::Error),
}

/// Why a server's certificate is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Distrust {
    /// What is wrong with it.
    pub flaw: Flaw,
    text: String,
}

/// What is wrong with a certificate, told apart by what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It is for other hosts.
    OtherName,
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// Nobody who is trusted has issued it: it is signed by itself, or by an authority of one's own.
    UnknownIssuer,
    /// It is not the one that `fingerprint` names.
    OtherFingerprint,
    /// The server could not prove that it is its own.
    Signature,
    /// Something else, which the text says.
    Other,
}

impl Distrust {
    pub(super) fn new(flaw: Flaw, text: impl Into<String>) -> Self {
        Self {
            flaw,
            text: text.into(),
        }
    }
}

/// What a server and the gateway can't agree on.
#[derive(Debug, thiserror::Error)]
pub enum Disagreement {
    /// What the server sent is not TLS, but something else.
    #[error("what the server sends is not TLS: {0} answers there")]
    NotTls(Spoken),
    /// No version, cipher suite, key exchange or signature that both sides know. The text is that of rustls.
    #[error(
        "the server and the gateway know no common way to encrypt: {0} (the gateway speaks TLS 1.3, and TLS 1.2 with ECDHE and an \
         AEAD cipher)"
    )]
    NothingInCommon(String),
    /// The same of an old server. The text is OpenSSL's.
    #[error("the server and the gateway know no common way to encrypt, not even one of TLS 1.0: {0}")]
    NothingOldInCommon(String),
    /// The server wants to see a certificate of the gateway, which has none.
    #[error("the server wants a client certificate, and the gateway has none to show ({0})")]
    ClientCertificate(String),
    /// The server has no certificate for the name that it was asked for (RFC 6066 §3).
    #[error("the server does not know the name that it was asked for (unrecognized_name)")]
    UnknownName,
    /// The server breaks a rule of TLS. The text is that of rustls.
    #[error("the server breaks the rules of TLS: {0}")]
    Rules(String),
}

impl HandshakeError {
    /// `error` of a handshake with a server that speaks `spoken`.
    pub(super) fn of(error: io::Error, spoken: Spoken) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(inner) => Self::of_rustls(inner, spoken).unwrap_or(Self::Broken(error)),
            None => Self::Broken(error),
        }
    }

    /// `None` if another try may help.
    fn of_rustls(error: &rustls::Error, spoken: Spoken) -> Option<Self> {
        let disagreement = match error {
            rustls::Error::InvalidCertificate(why) => return Some(distrust(why).into()),
            rustls::Error::NoCertificatesPresented => {
                return Some(Distrust::new(Flaw::Other, error.to_string()).into());
            }
            rustls::Error::InvalidMessage(_) => Disagreement::NotTls(spoken),
            rustls::Error::PeerIncompatible(_) => Disagreement::NothingInCommon(error.to_string()),
            rustls::Error::AlertReceived(alert) => Disagreement::of(*alert)?,
            rustls::Error::PeerMisbehaved(_)
            | rustls::Error::InappropriateMessage { .. }
            | rustls::Error::InappropriateHandshakeMessage { .. }
            | rustls::Error::PeerSentOversizedRecord => Disagreement::Rules(error.to_string()),
            _ => return None,
        };
        Some(Self::Disagreement(disagreement))
    }
}

impl Disagreement {
    /// `None` of an alert that does not say that something must be changed.
    fn of(alert: AlertDescription) -> Option<Self> {
        let text = rustls::Error::AlertReceived(alert).to_string();
        Some(match alert {
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity
            | AlertDescription::InappropriateFallback
            | AlertDescription::UnsupportedExtension
            | AlertDescription::MissingExtension => Self::NothingInCommon(text),
            AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired => Self::ClientCertificate(text),
            AlertDescription::UnrecognisedName => Self::UnknownName,
            AlertDescription::UnexpectedMessage
            | AlertDescription::IllegalParameter
            | AlertDescription::DecodeError => Self::Rules(text),
            _ => return None,
        })
    }
}

/// Why the handshake with a device failed, in words.
pub(super) fn device_words(error: &io::Error) -> String {
    let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => "the device closed the connection during the TLS handshake".to_owned(),
            _ => format!("the TLS handshake failed: {error}"),
        };
    };
    match inner {
        rustls::Error::InvalidMessage(_) => "what the device sends is not TLS".to_owned(),
        rustls::Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13,
        ) => "the device speaks TLS 1.1 or older, or SSL".to_owned(),
        rustls::Error::PeerIncompatible(_) => {
            format!("the device and the gateway know no common way to encrypt: {inner}")
        }
        rustls::Error::NoCertificatesPresented => "the device shows no certificate".to_owned(),
        rustls::Error::InvalidCertificate(why) => format!("the device's certificate is not accepted: {why}"),
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA),
        ) => format!("the device does not trust the gateway's certificate ({alert:?})"),
        rustls::Error::AlertReceived(alert) => format!("the device refuses the TLS handshake ({alert:?})"),
        _ => format!("the TLS handshake failed: {inner}"),
    }
}

fn distrust(error: &CertificateError) -> Distrust {
    match error {
        // Only the holder of the key can make the signature, and anyone can copy the certificate.
        CertificateError::BadSignature => Distrust::new(
            Flaw::Signature,
            "the server could not prove that the certificate is its own (a bad signature)",
        ),
        CertificateError::Other(other) => match other.0.downcast_ref::<Untrusted>() {
            Some(untrusted) => Distrust::new(untrusted.flaw(), untrusted.to_string()),
            None => Distrust::new(Flaw::Other, error.to_string()),
        },
        _ => Distrust::new(Flaw::Other, error.to_string()),
    }
}
