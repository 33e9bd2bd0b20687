//! Why a handshake with a server or a device failed, in kinds that each have their own remedy.

use std::io;

use tokio_rustls::rustls::{self, AlertDescription, CertificateError, PeerIncompatible};

use super::trust::Untrusted;
use crate::types::Spoken;

/// Why the handshake with a server failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The server's certificate is not trusted.
    #[error(transparent)]
    Certificate(#[from] Distrust),
    /// The two sides can't agree, and another try would end in the same way.
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
    /// The kind of mistake, which decides the remedy.
    pub flaw: Flaw,
    text: String,
}

/// What is wrong with a certificate, in kinds that each have their own remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The certificate is for other hosts.
    OtherName,
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// No trusted authority has issued the certificate: it is self-signed, or comes from a private authority.
    UnknownIssuer,
    /// The certificate is not the one that `fingerprint` names.
    OtherFingerprint,
    /// The server could not prove that it has the key of the certificate.
    Signature,
    /// Something else; the text says what.
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
    /// The server sent something that is not TLS.
    #[error("what the server sends is not TLS: {0} answers there")]
    NotTls(Spoken),
    /// The two sides have no TLS version, cipher suite, key exchange or signature in common. The text is that of
    /// rustls.
    #[error(
        "the server and the gateway know no common way to encrypt: {0} (the gateway speaks TLS 1.3, and TLS 1.2 with ECDHE and an \
         AEAD cipher)"
    )]
    NothingInCommon(String),
    /// The same for an old server. The text is that of OpenSSL.
    #[error("the server and the gateway know no common way to encrypt, not even one of TLS 1.0: {0}")]
    NothingOldInCommon(String),
    /// The server asks for a client certificate, and the gateway has none.
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
    /// Classifies the error of a handshake with a server that speaks `spoken`.
    pub(super) fn of(error: io::Error, spoken: Spoken) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(inner) => Self::of_rustls(inner, spoken).unwrap_or(Self::Broken(error)),
            None => Self::Broken(error),
        }
    }

    /// Classifies the error of the first read after the handshake: in TLS 1.3 the client has finished before the server
    /// verifies the client's certificate (RFC 8446 §2).
    pub(crate) fn after_handshake(error: io::Error) -> Self {
        Self::of(error, Spoken::Tls)
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
    /// `None` if the alert does not say that something must be changed.
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
        // A ClientHello of TLS 1.1 has no such extension, and rustls looks for the extension before it looks at the
        // version.
        rustls::Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired) => {
            "the device speaks TLS 1.1 or older, or TLS 1.2 without `signature_algorithms`".to_owned()
        }
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
        // Anyone can copy a certificate, but only the holder of its key can make this signature.
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
