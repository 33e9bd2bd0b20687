//! `[upstream.NAME.oauth2]`: how popgate logs in to an upstream that takes no passwords.

use std::path::PathBuf;

use super::{Secret, words::words};

/// How popgate gets access tokens (RFC 6749), for all accounts of an upstream.
#[derive(Debug, Clone)]
pub struct OAuth2 {
    /// How the provider grants tokens.
    pub grant: Grant,
    /// The id of the application at the provider; for a service account, the issuer of its assertions.
    pub client_id: String,
    /// What proves the application to the provider.
    pub proof: ClientProof,
    /// The URL of the token endpoint (RFC 6749 §3.2).
    pub token_url: String,
    /// The URL that revokes tokens (RFC 7009), if the provider has one.
    pub revoke_url: Option<String>,
    /// The URL that the provider sends browsers back to, if it accepts only one. Otherwise it sends them to a port of
    /// this machine or to the sign-in page.
    pub redirect_url: Option<String>,
    /// Whether the request for a device code's token has `grant_type=device_code` and `code`, as Yandex wants it.
    pub short_device_grant: bool,
    /// The provider's issuer identifier (RFC 9207). Without it, the provider is recognised by the server of its URLs.
    pub issuer: Option<String>,
    /// The scopes to ask for, in the order of the request.
    pub scopes: Vec<String>,
    /// PEM file of roots that are trusted besides the system's, for a private provider.
    pub ca_file: Option<PathBuf>,
}

impl OAuth2 {
    /// Whether a person must have consented (`popgate sign-in`). Otherwise the application's own proof is enough.
    pub fn needs_consent(&self) -> bool {
        matches!(self.grant, Grant::Device { .. } | Grant::Code { .. })
    }
}

/// `grant`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// A person types a code at the provider's page, on any device (RFC 8628).
    Device {
        /// The URL that gives the code (RFC 8628 §3.1).
        device_url: String,
        /// The page that a browser may be sent to instead, if the provider has one.
        authorize_url: Option<String>,
    },
    /// A person's browser is sent to the provider and comes back with a code (RFC 6749 §4.1, RFC 7636).
    Code {
        /// The page that the browser is sent to (RFC 6749 §3.1).
        authorize_url: String,
    },
    /// The provider trusts the application itself with the mailboxes (RFC 6749 §4.4).
    ClientCredentials,
    /// The application signs an assertion that names the user it speaks for (RFC 7523 §2.1).
    ServiceAccount,
}

/// What proves the application to the provider.
#[derive(Debug, Clone)]
pub enum ClientProof {
    /// Nothing: a public client (RFC 6749 §2.1).
    Public,
    /// `client_secret`, in the body of a request or in its header.
    Secret(Secret, ClientAuthentication),
    /// `private_key_file`: the key that signs assertions (RFC 7523 §2.2).
    Key(ClientKey),
}

words! {
    /// `client_authentication`: where a request has the secret (RFC 6749 §2.3.1).
    pub enum ClientAuthentication {
        /// In the body.
        Post = "post" | "body" | "client_secret_post",
        /// In the header: HTTP Basic.
        Basic = "basic" | "header" | "client_secret_basic",
    }

    /// `certificate_form`: how an assertion by an RSA key names its certificate.
    pub enum CertificateForm {
        /// PS256 and `x5t#S256`.
        Ps256 = "ps256" | "x5t#S256",
        /// RS256 and `x5t`, which uses SHA-1. Entra asked for this earlier, and other directories still do.
        Rs256 = "rs256" | "x5t",
    }
}

/// A private key, and how assertions tell the provider which of its public keys belongs to it.
#[derive(Debug, Clone)]
pub struct ClientKey {
    /// The key in PEM, RSA or EC.
    pub pem: Secret,
    /// `kid` of the assertions.
    pub key_id: Option<String>,
    /// SHA-256 of the certificate's DER: `x5t#S256` of the assertions.
    pub thumbprint: Option<[u8; 32]>,
    /// SHA-1 of the certificate's DER: `x5t` of the assertions.
    pub old_thumbprint: Option<[u8; 20]>,
    /// Which of the two thumbprints the assertions have.
    pub form: CertificateForm,
}
