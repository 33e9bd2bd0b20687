//! Which servers are trusted: those whose certificate a root has issued for their name, and those whose certificate the
//! configuration itself names.

use std::{fmt, io, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use tokio_rustls::rustls::{
    self, CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        VerifierBuilderError, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
};
use webpki::RawPublicKeyEntity;

use super::{Distrust, Flaw, HandshakeError, leaf::Leaf};
use crate::config::Fingerprint;

/// Verifies the certificates of one upstream's servers.
#[derive(Debug)]
pub(super) struct Trust {
    /// Checks whether a root has issued the certificate for the server's name.
    issued: Arc<WebPkiServerVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
    pinned: Pinned,
}

/// Certificates that are trusted as they are, whatever their name, version and constraints, and even after they have
/// expired. A configuration that names a certificate means its key, and a date does not change whose key that is (RFC
/// 7671 §5.1 says the same of certificates that DNS names). A bridge or an appliance whose certificate nobody renews
/// must not fail suddenly.
#[derive(Debug)]
pub(super) enum Pinned {
    /// These certificates, besides those that roots have issued.
    Besides(Vec<CertificateDer<'static>>),
    /// Only the certificate with this fingerprint.
    Only(Fingerprint),
    /// Whichever certificate the server shows. Not for a connection on which a secret is sent.
    Any,
}

impl Trust {
    /// `roots` must not be empty.
    pub(super) fn new(
        roots: RootCertStore,
        pinned: Pinned,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        Ok(Self {
            issued: WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone()).build()?,
            algorithms: provider.signature_verification_algorithms,
            pinned,
        })
    }

    /// Whether the server at `host` is trusted. It has proved before that it has the key of the first certificate of
    /// `chain`.
    #[cfg_attr(
        not(feature = "legacy-tls"),
        expect(dead_code, reason = "rustls asks by its own trait")
    )]
    pub(super) fn judge(&self, chain: &[CertificateDer<'_>], host: &str) -> Result<(), HandshakeError> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(Distrust::new(Flaw::Other, "the server shows no certificate").into());
        };
        let name = ServerName::try_from(host)
            .map_err(|error| HandshakeError::Broken(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        match self.verify_certificate(leaf, intermediates, &name, &[], UnixTime::now()) {
            Ok(()) => Ok(()),
            Err(reason) => {
                let untrusted = Untrusted::new(reason, leaf);
                Err(Distrust::new(untrusted.flaw(), untrusted.to_string()).into())
            }
        }
    }

    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        match &self.pinned {
            Pinned::Besides(certificates) => certificates.contains(certificate),
            Pinned::Only(expected) => fingerprint(certificate) == *expected,
            Pinned::Any => true,
        }
    }

    fn verify_certificate(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<(), UntrustedReason> {
        if self.is_pinned(certificate) {
            return match public_key(certificate) {
                Some(_) => Ok(()),
                None => Err(UntrustedReason::Certificate(CertificateError::BadEncoding)),
            };
        }
        if let Pinned::Only(expected) = self.pinned {
            return Err(UntrustedReason::OtherFingerprint(expected));
        }
        match self
            .issued
            .verify_server_cert(certificate, intermediates, name, ocsp_response, now)
        {
            Ok(_) => Ok(()),
            Err(rustls::Error::InvalidCertificate(error)) => Err(UntrustedReason::Certificate(error)),
            Err(error) => Err(UntrustedReason::Other(error)),
        }
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.verify_certificate(certificate, intermediates, name, ocsp_response, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(reason) => {
                let other = OtherError(Arc::new(Untrusted::new(reason, certificate)));
                Err(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if !self.is_pinned(certificate) {
            return self.issued.verify_tls12_signature(message, certificate, signed);
        }
        let key = pinned_key(certificate)?;
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
        let schemes = self.algorithms.mapping.iter();
        // In TLS 1.2 a signature scheme does not fix the curve of an elliptic key (RFC 8446 §4.2.3), so each of its
        // algorithms is tried.
        let mut candidates = schemes
            .filter(|(scheme, _)| *scheme == signed.scheme)
            .flat_map(|(_, algorithms)| algorithms.iter());
        if candidates.any(|algorithm| key.verify_signature(*algorithm, message, signed.signature()).is_ok()) {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if !self.is_pinned(certificate) {
            return self.issued.verify_tls13_signature(message, certificate, signed);
        }
        verify_tls13_signature_with_raw_key(message, &pinned_key(certificate)?, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Why a certificate is not trusted, and its fingerprint, which an administrator can copy from the log into the
/// configuration.
#[derive(Debug)]
pub(super) struct Untrusted {
    reason: UntrustedReason,
    /// The hosts of the certificate; empty if it cannot be parsed.
    names: Vec<String>,
    shown: Fingerprint,
}

#[derive(Debug)]
enum UntrustedReason {
    /// The certificate is not the one that `fingerprint` names.
    OtherFingerprint(Fingerprint),
    Certificate(CertificateError),
    Other(rustls::Error),
}

impl Untrusted {
    fn new(reason: UntrustedReason, certificate: &CertificateDer<'_>) -> Self {
        Self {
            reason,
            names: Leaf::of(certificate).map(|leaf| leaf.names).unwrap_or_default(),
            shown: fingerprint(certificate),
        }
    }

    pub(super) fn flaw(&self) -> Flaw {
        let error = match &self.reason {
            UntrustedReason::OtherFingerprint(_) => return Flaw::OtherFingerprint,
            UntrustedReason::Other(_) => return Flaw::Other,
            UntrustedReason::Certificate(error) => error,
        };
        match error {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Flaw::OtherName,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Flaw::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Flaw::NotYetValid,
            CertificateError::UnknownIssuer => Flaw::UnknownIssuer,
            CertificateError::BadSignature => Flaw::Signature,
            error if is_authority(error) => Flaw::UnknownIssuer,
            _ => Flaw::Other,
        }
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            UntrustedReason::Certificate(_) if self.flaw() == Flaw::OtherName && !self.names.is_empty() => {
                write!(
                    f,
                    "it is for {}, and not for the host that was asked for",
                    self.names.join(", ")
                )?;
            }
            UntrustedReason::OtherFingerprint(expected) => {
                write!(f, "it is not the one that `fingerprint` names, {expected}")?;
            }
            UntrustedReason::Certificate(CertificateError::UnknownIssuer) => {
                f.write_str("it is issued by nobody whom this machine or `ca_file` trusts")?;
            }
            UntrustedReason::Certificate(error) if is_authority(error) => {
                f.write_str("it is an authority's (CA:TRUE), and neither `ca_file` nor `fingerprint` names it")?;
            }
            UntrustedReason::Certificate(error) => write!(f, "{error}")?,
            UntrustedReason::Other(error) => write!(f, "{error}")?,
        }
        write!(f, "; the server's certificate is {}", self.shown)
    }
}

impl std::error::Error for Untrusted {}

/// Whether the server shows the certificate of an authority, which webpki never accepts from a server.
fn is_authority(error: &CertificateError) -> bool {
    let CertificateError::Other(OtherError(inner)) = error else {
        return false;
    };
    matches!(inner.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    let mut octets = [0; 32];
    octets.copy_from_slice(digest(&SHA256, certificate).as_ref());
    Fingerprint(octets)
}

fn pinned_key<'a>(certificate: &'a CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'a>, rustls::Error> {
    public_key(certificate).ok_or_else(|| CertificateError::BadEncoding.into())
}

/// The public key (RFC 5280 §4.1.2.7) of a certificate in DER; `None` if it cannot be parsed. webpki reads X.509 v3
/// only, and only the critical extensions that it knows; this function reads any version and any extensions.
pub(super) fn public_key(certificate: &[u8]) -> Option<SubjectPublicKeyInfoDer<'_>> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (certificate, _) = element(certificate)?;
    let (to_be_signed, _) = element((certificate.tag == SEQUENCE).then_some(certificate.content)?)?;
    let mut rest = to_be_signed.content;
    if element(rest)?.0.tag == VERSION {
        rest = element(rest)?.1;
    }
    // Skip serial number, signature algorithm, issuer, validity and subject.
    for _ in 0..5 {
        rest = element(rest)?.1;
    }
    let (key, _) = element(rest)?;
    (key.tag == SEQUENCE).then(|| key.whole.into())
}

/// One element of DER (X.690 §8.1).
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    /// Tag, length and content.
    whole: &'a [u8],
}

/// The first element of `der`, and the octets after it.
fn element(der: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, &first) = (der.first()?, der.get(1)?);
    let (head, length) = match first {
        0..=0x7f => (2, usize::from(first)),
        0x81..=0x83 => {
            let count = usize::from(first & 0x7f);
            let octets = der.get(2..2 + count)?;
            let length = octets.iter().fold(0, |sum, &octet| sum << 8 | usize::from(octet));
            (2 + count, length)
        }
        _ => return None,
    };
    let whole = der.get(..head + length)?;
    let element = Element {
        tag,
        content: &whole[head..],
        whole,
    };
    Some((element, &der[head + length..]))
}
