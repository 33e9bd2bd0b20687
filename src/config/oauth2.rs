//! `[upstream.NAME.oauth2]`: how popgate proves to an upstream without passwords who asks.

use std::path::PathBuf;

use super::{Secret, words::words};

/// How popgate gets access tokens (RFC 6749), for all accounts of an upstream.
#[derive(Debug, Clone)]
pub struct OAuth2 {
    /// What the token is given for.
    pub grant: Grant,
    /// The application, as the provider has registered it; the issuer of a service account's assertions.
    pub client_id: String,
    /// What proves the application to the provider.
    pub proof: ClientProof,
    /// Where tokens are given (RFC 6749 §3.2).
    pub token_url: String,
    /// Where tokens are revoked (RFC 7009), if the provider has such a page.
    pub revoke_url: Option<String>,
    /// Where browsers are sent back to, for a provider that matches it exactly; else a port of this machine, or the sign-in page.
    pub redirect_url: Option<String>,
    /// A device code's token is asked for by `grant_type=device_code` and `code`, as Yandex has it.
    pub short_device_grant: bool,
    /// What the provider calls itself (RFC 9207); else it is known by the server of its URLs.
    pub issuer: Option<String>,
    /// What is asked for, in the order of the request.
    pub scopes: Vec<String>,
    /// PEM file of roots trusted besides the system's, for a provider of one's own.
    pub ca_file: Option<PathBuf>,
}

impl OAuth2 {
    /// Whether somebody must have consented (`popgate sign-in`); else the application's own proof is enough.
    pub fn needs_consent(&self) -> bool {
        matches!(self.grant, Grant::Device { .. } | Grant::Code { .. })
    }
}

/// `grant`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// Somebody types a code at the provider's page, on any device (RFC 8628).
    Device {
        /// Where the code comes from.
        device_url: String,
        /// Where a browser may be sent instead, if the provider has that too.
        authorize_url: Option<String>,
    },
    /// Somebody's browser is sent to the provider and comes back with a code (RFC 6749 §4.1, RFC 7636).
    Code {
        /// Where the browser is sent.
        authorize_url: String,
    },
    /// The application itself is trusted with the mailboxes (RFC 6749 §4.4).
    ClientCredentials,
    /// The application signs whom it speaks for (RFC 7523 §2.1).
    ServiceAccount,
}

/// What proves the application to the provider.
#[derive(Debug, Clone)]
pub enum ClientProof {
    /// Nothing: a public client.
    Public,
    /// `client_secret`, in the body of a request or in its header.
    Secret(Secret, ClientAuthentication),
    /// `private_key_file`: assertions are signed with it (RFC 7523 §2.2).
    Key(ClientKey),
}

words! {
    /// `client_authentication`: where the secret stands in a request (RFC 6749 §2.3.1).
    pub enum ClientAuthentication {
        /// In its body.
        Post = "post" | "body" | "client_secret_post",
        /// In its header: HTTP Basic.
        Basic = "basic" | "header" | "client_secret_basic",
    }

    /// `certificate_form`: how an assertion by an RSA key names its certificate.
    pub enum CertificateForm {
        /// PS256 and `x5t#S256`.
        Ps256 = "ps256" | "x5t#S256",
        /// RS256 and `x5t`, of SHA-1: what Entra asked for before, and other directories do still.
        Rs256 = "rs256" | "x5t",
    }
}

/// A private key, and how the provider tells which of its public keys belongs to it.
#[derive(Debug, Clone)]
pub struct ClientKey {
    /// RSA or EC, PEM.
    pub pem: Secret,
    /// `kid` of the assertions.
    pub key_id: Option<String>,
    /// SHA-256 of the certificate's DER: `x5t#S256` of the assertions.
    pub thumbprint: Option<[u8; 32]>,
    /// SHA-1 of it: `x5t`.
    pub old_thumbprint: Option<[u8; 20]>,
    /// Which of the two.
    pub form: CertificateForm,
}
