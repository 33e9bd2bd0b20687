//! `[upstream.NAME.oauth2]`

use super::super::{
    CertificateForm, ClientAuthentication, Secret,
    key::table,
    value::{FileName, RedirectUrl, Scopes, SecureUrl, Tenant},
    words::words,
};

words! {
    /// `grant`, before its endpoints are known.
    pub(in crate::config) enum GrantWord {
        /// RFC 8628
        Device = "device" | "device-code",
        /// RFC 6749 §4.1
        Code = "code" | "authorization-code" | "authorization_code",
        /// RFC 6749 §4.4
        ClientCredentials = "client-credentials" | "client_credentials" | "application",
        /// RFC 7523 §2.1
        ServiceAccount = "service-account" | "service_account" | "jwt",
    }
}

table! {
    /// `[upstream.NAME.oauth2]`
    OAuth2 {
        /// How popgate gets tokens. Default: the usual way of the provider.
        ///   device: somebody types a short code at the provider's page, on any device (Microsoft's default)
        ///   code: somebody's browser is sent to the provider and comes back (Google's default)
        ///   client-credentials: the provider trusts the application itself (Microsoft)
        ///   service-account: the application signs a request that names the user (Google Workspace)
        grant: Option<GrantWord> [example("client-credentials"), otherwise("the provider's usual way")];
        /// The tenant (directory), for Microsoft only. Default: "organizations"; with preset = "outlook" it is "consumers".
        tenant: Option<Tenant> [example("example.onmicrosoft.com"), help("its id, or one of its domains")];
        /// The id that the provider gave the application when it was registered.
        client_id: Option<String> [
            example("1234567890-example.apps.googleusercontent.com"),
            help("the id that the provider gave the application when it was registered")
        ];
        /// File with the application's secret. Default: none, for an application that has no secret.
        client_secret_file: Option<FileName> [example("/run/secrets/gmail-client")];
        /// The same as client_secret_file, without a file of its own.
        client_secret: Option<Secret> [example("a secret of this application")];
        /// Where client_secret stands in a request. post: in its body | basic: in its header (HTTP Basic)
        client_authentication: Option<ClientAuthentication> [default("post")];
        /// A private key instead of a secret: PEM, or the JSON file of a Google service account, which gives client_id, key_id
        /// and token_url as well.
        private_key_file: Option<FileName> [example("/run/secrets/office-key")];
        /// The certificate of that key, which the provider knows.
        certificate_file: Option<FileName> [example("/run/secrets/office-certificate")];
        /// How the application names that certificate. ps256: PS256 and x5t#S256, as Entra asks for today | rs256: RS256 and
        /// x5t, as Entra asked for before
        certificate_form: Option<CertificateForm> [default("ps256")];
        /// The key's id (`kid`), which some providers ask for.
        key_id: Option<String> [example("2026-01"), help("leave it out if the provider wants none")];
        /// Where the provider gives codes (RFC 8628).
        device_url: Option<SecureUrl> [
            example("https://login.example.net/device"),
            help("write it like \"https://login.example.org/token\"")
        ];
        /// The provider's page where somebody consents (RFC 6749).
        authorize_url: Option<SecureUrl> [
            example("https://login.example.net/authorize"),
            help("write it like \"https://login.example.org/token\"")
        ];
        /// Where the provider gives tokens (RFC 6749).
        token_url: Option<SecureUrl> [
            example("https://login.example.net/token"),
            help("write it like \"https://login.example.org/token\"")
        ];
        /// Where popgate revokes a consent that opened no mailbox (RFC 7009). Default: the preset's, or none.
        revoke_url: Option<SecureUrl> [
            example("https://login.example.net/revoke"),
            otherwise("the preset's"),
            help("write it like \"https://login.example.org/revoke\"")
        ];
        /// The URL that the provider sends browsers back to, if it accepts only a registered one. Default: a port of this
        /// machine; for the sign-in page it is public_url of [web] with /callback/NAME appended.
        redirect_url: Option<RedirectUrl> [
            example("https://login.example.net/verification_code"),
            otherwise("a port of this machine, or the sign-in page"),
            help("write it as it is registered at the provider, octet for octet")
        ];
        /// The name that the provider gives itself in its answers (RFC 9207). Default: any URL at one of the provider's servers.
        issuer: Option<String> [
            example("https://login.example.net"),
            otherwise("any URL at one of the provider's servers"),
            help("leave it out if the provider's documentation names none")
        ];
        /// The scopes that popgate asks the provider for.
        scopes: Option<Scopes> [
            example("imap,offline_access"),
            help("write a list with one string for each scope: scopes = [\"one\", \"two\"]")
        ];
        /// PEM file of certificates to trust in addition to the system's.
        ca_file: Option<FileName> [example("/run/secrets/ca.pem")];
    }
}
