//! `[upstream.NAME.oauth2]`

use super::super::{
    Secret,
    key::table,
    value::{FileName, Scopes, SecureUrl, Tenant},
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
        /// How tokens are come by. Default: the provider's first of these.
        ///   device: somebody types a short code at the provider's page, on any device (Microsoft's default)
        ///   code: somebody's browser is sent to the provider and comes back (Google's default)
        ///   client-credentials: the application itself is trusted (Microsoft)
        ///   service-account: the application signs whom it speaks for (Google Workspace)
        grant: Option<GrantWord> [example("client-credentials"), otherwise("the provider's first")];
        /// The directory, Microsoft only. Default: "organizations", with preset = "outlook" "consumers".
        tenant: Option<Tenant> [example("example.onmicrosoft.com"), help("its id, or a domain of it")];
        /// The application's id, from where it is registered at the provider.
        client_id: Option<String> [
            example("1234567890-example.apps.googleusercontent.com"),
            help("the application's id, from where it is registered at the provider")
        ];
        /// File with the application's secret. Default: none, for an application that has no secret.
        client_secret_file: Option<FileName> [example("/run/secrets/gmail-client")];
        /// The same as client_secret_file, without a file of its own.
        client_secret: Option<Secret> [example("a secret of this application")];
        /// A private key instead of a secret: PEM, or the JSON file of a Google service account, which says client_id, key_id
        /// and token_url as well.
        private_key_file: Option<FileName> [example("/run/secrets/office-key")];
        /// The certificate of that key, which the provider knows.
        certificate_file: Option<FileName> [example("/run/secrets/office-certificate")];
        /// The key's name, which some providers want besides.
        key_id: Option<String> [example("2026-01"), help("leave it out if the provider wants none")];
        /// Where the provider gives codes (RFC 8628).
        device_url: Option<SecureUrl> [
            example("https://login.example.net/device"),
            help("write it like \"https://login.example.org/token\"")
        ];
        /// The provider's page to consent at (RFC 6749).
        authorize_url: Option<SecureUrl> [
            example("https://login.example.net/authorize"),
            help("write it like \"https://login.example.org/token\"")
        ];
        /// Where the provider gives tokens (RFC 6749).
        token_url: Option<SecureUrl> [
            example("https://login.example.net/token"),
            help("write it like \"https://login.example.org/token\"")
        ];
        /// What the tokens are asked for.
        scopes: Option<Scopes> [
            example("imap,offline_access"),
            help("a list with a string for each: scopes = [\"one\", \"two\"]")
        ];
        /// PEM file of certificates to trust besides the system's.
        ca_file: Option<FileName> [example("/run/secrets/ca.pem")];
    }
}
