//! `[upstream.NAME.oauth2]`

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Verifier, signing_key::SigningKey};
use crate::config::{
    CertificateForm, ClientAuthentication, ClientKey, ClientProof, Grant, OAuth2,
    error::Error,
    file,
    preset::{Preset, PresetOAuth2},
};

/// `grant`, before its endpoints are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Device,
    Code,
    ClientCredentials,
    ServiceAccount,
}

const GRANTS: [(&str, Kind); 4] = [
    ("device", Kind::Device),
    ("code", Kind::Code),
    ("client-credentials", Kind::ClientCredentials),
    ("service-account", Kind::ServiceAccount),
];

/// The key file that Google gives for a service account, as far as it matters.
#[derive(Deserialize)]
struct GoogleKey {
    client_email: String,
    private_key: Zeroizing<String>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

/// `private_key_file`, and what stands in it besides.
struct KeyFile {
    key: ClientKey,
    client_id: Option<String>,
    token_url: Option<String>,
}

impl Verifier<'_> {
    pub(super) fn oauth2(
        &mut self,
        path: &str,
        oauth2: file::OAuth2,
        preset: Option<&'static Preset>,
    ) -> Result<OAuth2, Error> {
        let key = |name: &str| format!("{path}.{name}");
        let known = preset.and_then(|preset| preset.oauth2.as_ref());
        let kind = self.grant(&key("grant"), &oauth2, known)?;
        if let Some(known) = known
            && kind != Kind::Device
            && oauth2.token_url.is_none()
            && !known
                .grants
                .iter()
                .any(|grant| GRANTS.contains(&(grant.as_str(), kind)))
        {
            let what = format!(
                "{} has no such grant for mail",
                preset.map_or("the provider", |preset| &preset.name)
            );
            let help = format!("it has \"{}\"", known.grants.join("\", \""));
            return Err(self.error(&key("grant"), what, help));
        }
        let tenant = self.tenant(&key("tenant"), oauth2.tenant.clone(), kind, known)?;
        let fill = |url: &String| url.replace("{tenant}", tenant.as_deref().unwrap_or_default());

        let key_file = match &oauth2.private_key_file {
            Some(file) => Some(self.key_file(path, file, &oauth2)?),
            None if oauth2.certificate_file.is_some() || oauth2.key_id.is_some() => {
                let help = "it tells the provider which of its keys signs: name that by `private_key_file`";
                return Err(self.error(&key("private_key_file"), "is missing", help));
            }
            None => None,
        };
        if oauth2.certificate_form.is_some() && oauth2.certificate_file.is_none() {
            let help = "it says how a certificate is named: give that by `certificate_file`";
            return Err(self.error(&key("certificate_form"), "has no meaning here", help));
        }
        let places = [
            ("post", ClientAuthentication::Post),
            ("basic", ClientAuthentication::Basic),
        ];
        let place = self.word(&key("client_authentication"), oauth2.client_authentication, &places)?;
        let secret = self.secret(&key("client_secret"), oauth2.client_secret, oauth2.client_secret_file)?;
        let from_file = key_file.as_ref().and_then(|file| file.client_id.clone());
        let client_id = match oauth2.client_id.or(from_file) {
            None if kind == Kind::ServiceAccount => {
                let help =
                    "the service account's address; it stands in the JSON file that Google gives as private_key_file";
                return Err(self.error(&key("client_id"), "is missing", help));
            }
            id => self.text(
                &key("client_id"),
                id,
                "the application's id, from where it is registered at the provider",
            )?,
        };

        let device = oauth2.device_url.or_else(|| known?.device_url.as_ref().map(fill));
        let authorize = oauth2.authorize_url.or_else(|| known?.authorize_url.as_ref().map(fill));
        let from_file = key_file.as_ref().and_then(|file| file.token_url.clone());
        let token = oauth2
            .token_url
            .or(from_file)
            .or_else(|| known.map(|known| fill(&known.token_url)));
        let token_url = self.url(
            &key("token_url"),
            token,
            "where the provider gives tokens (RFC 6749 §3.2)",
        )?;
        let grant = match kind {
            Kind::Device => {
                let missing = match preset {
                    Some(preset) if known.is_some() => {
                        format!("{} gives no codes for mail: take grant = \"code\"", preset.name)
                    }
                    _ => "where the provider gives codes (RFC 8628 §3.1)".into(),
                };
                Grant::Device {
                    device_url: self.url(&key("device_url"), device, &missing)?,
                    authorize_url: match authorize {
                        Some(url) => Some(self.url(&key("authorize_url"), Some(url), "")?),
                        None => None,
                    },
                }
            }
            Kind::Code => Grant::Code {
                authorize_url: self.url(
                    &key("authorize_url"),
                    authorize,
                    "the provider's page to consent at (RFC 6749 §3.1)",
                )?,
            },
            Kind::ClientCredentials => Grant::ClientCredentials,
            Kind::ServiceAccount => Grant::ServiceAccount,
        };
        let proof = match (key_file, secret) {
            (Some(_), Some(_)) => {
                let help = "the application proves itself by one of the two";
                return Err(self.error(&key("private_key_file"), "`client_secret` is given too", help));
            }
            (Some(file), None) => ClientProof::Key(file.key),
            (None, Some(_)) if kind == Kind::ServiceAccount => {
                let help = "a service account has a key: name its file by `private_key_file`";
                return Err(self.error(&key("client_secret"), "has no meaning here", help));
            }
            (None, Some(secret)) => ClientProof::Secret(secret, place.unwrap_or(ClientAuthentication::Post)),
            (None, None) => match kind {
                Kind::Device | Kind::Code => ClientProof::Public,
                Kind::ClientCredentials => {
                    let help = "the application must prove itself: `client_secret_file`, or `private_key_file`";
                    return Err(self.error(&key("client_secret"), "is missing", help));
                }
                Kind::ServiceAccount => {
                    let help = "the JSON file that Google gives, or a private key in PEM";
                    return Err(self.error(&key("private_key_file"), "is missing", help));
                }
            },
        };
        if place.is_some() && !matches!(proof, ClientProof::Secret(..)) {
            let help = "it says where a client_secret stands in a request, and there is none";
            return Err(self.error(&key("client_authentication"), "has no meaning here", help));
        }
        let redirect_url = match oauth2.redirect_url {
            Some(url) if oauth2::url::Url::parse(&url).is_err() => {
                let help = "write it as it is registered at the provider, octet for octet";
                return Err(self.error(&key("redirect_url"), format!("{url:?} is no URL"), help));
            }
            url => url,
        };
        let revoke = oauth2.revoke_url.or_else(|| known?.revoke_url.as_ref().map(fill));
        let revoke_url = match revoke {
            Some(url) => Some(self.url(&key("revoke_url"), Some(url), "")?),
            None => None,
        };
        let consents = matches!(kind, Kind::Device | Kind::Code);
        let scopes = oauth2.scopes.unwrap_or_else(|| match (known, consents) {
            (Some(known), true) => known.scopes.clone(),
            (Some(known), false) => known.own_scopes.clone(),
            (None, _) => Vec::new(),
        });
        if scopes
            .iter()
            .any(|scope| scope.is_empty() || scope.contains(char::is_whitespace))
        {
            let help = "a list with a string for each: scopes = [\"one\", \"two\"]";
            return Err(self.error(&key("scopes"), "a scope is empty or holds a space", help));
        }
        let ca_file = match &oauth2.ca_file {
            Some(file) => Some(self.readable(&key("ca_file"), file)?),
            None => None,
        };
        Ok(OAuth2 {
            grant,
            client_id,
            proof,
            token_url,
            revoke_url,
            redirect_url,
            short_device_grant: known.is_some_and(|known| known.short_device_grant),
            issuer: oauth2.issuer,
            scopes,
            ca_file,
        })
    }

    fn grant(&self, path: &str, oauth2: &file::OAuth2, known: Option<&PresetOAuth2>) -> Result<Kind, Error> {
        let word = match (&oauth2.grant, known) {
            (Some(word), _) => word.clone(),
            (None, Some(known)) => known.grant.clone(),
            (None, None) if oauth2.device_url.is_some() => "device".into(),
            (None, None) if oauth2.authorize_url.is_some() => "code".into(),
            (None, None) => {
                let help = "one of \"device\", \"code\", \"client-credentials\", \"service-account\"";
                return Err(self.error(path, "is missing", help));
            }
        };
        let kind = self.word(path, Some(word), &GRANTS)?;
        Ok(kind.unwrap_or(Kind::Code))
    }

    fn tenant(
        &self,
        path: &str,
        tenant: Option<String>,
        kind: Kind,
        known: Option<&PresetOAuth2>,
    ) -> Result<Option<String>, Error> {
        let default = known.and_then(|known| known.tenant.clone());
        match (tenant, default) {
            (Some(_), None) => {
                let help = "it is a part of Microsoft's URLs: write preset = \"microsoft365\", or put it into the URLs";
                Err(self.error(path, "has no meaning here", help))
            }
            (None, Some(_)) if kind == Kind::ClientCredentials => {
                let help = "for client credentials Microsoft must know whose: the tenant's id or a domain of it";
                Err(self.error(path, "is missing", help))
            }
            (Some(tenant), Some(_)) => {
                let is_part = |octet: u8| octet.is_ascii_alphanumeric() || b".-_".contains(&octet);
                match tenant.is_empty() || !tenant.bytes().all(is_part) {
                    true => Err(self.error(path, format!("{tenant:?} is no tenant"), "its id, or a domain of it")),
                    false => Ok(Some(tenant)),
                }
            }
            (None, default) => Ok(default),
        }
    }

    /// An HTTPS URL; plain HTTP for a provider on this machine, as tests have it.
    fn url(&self, path: &str, url: Option<String>, missing: &str) -> Result<String, Error> {
        let url = self.text(path, url, missing)?;
        match secure_url(&url) {
            Ok(()) => Ok(url),
            Err(what) => Err(self.error(path, what, "write it like \"https://login.example.org/token\"")),
        }
    }

    fn key_file(&mut self, path: &str, file: &str, oauth2: &file::OAuth2) -> Result<KeyFile, Error> {
        let file_path = format!("{path}.private_key_file");
        let octets = Zeroizing::new(self.read(&file_path, file)?);
        self.judge_file(&file_path, file);
        let google = serde_json::from_slice::<GoogleKey>(&octets).ok();
        let pem = google
            .as_ref()
            .map_or(&octets[..], |google| google.private_key.as_bytes());
        let Ok(private) = PrivateKeyDer::from_pem_slice(pem) else {
            let help = "a private key in PEM without a passphrase (-----BEGIN PRIVATE KEY-----), or the JSON file that Google gives for a service account";
            return Err(self.error(&file_path, format!("{file}: holds no private key"), help));
        };
        let Some(signing) = SigningKey::of(&private) else {
            let help = "make another: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem";
            let what = format!("{file}: the key is neither RSA of at least 2048 bits nor EC P-256");
            return Err(self.error(&file_path, what, help));
        };
        let certificate = match &oauth2.certificate_file {
            Some(file) => Some(self.client_certificate(&format!("{path}.certificate_file"), file, &signing)?),
            None => None,
        };
        let forms = [("ps256", CertificateForm::Ps256), ("rs256", CertificateForm::Rs256)];
        let form = self.word(
            &format!("{path}.certificate_form"),
            oauth2.certificate_form.clone(),
            &forms,
        )?;
        let (google_id, client_id, token_url) = match google {
            Some(google) => (google.private_key_id, Some(google.client_email), google.token_uri),
            None => (None, None, None),
        };
        Ok(KeyFile {
            key: ClientKey {
                pem: signing.pem,
                key_id: oauth2.key_id.clone().or(google_id),
                thumbprint: certificate.as_ref().map(|der| thumbprint(&SHA256, der)),
                old_thumbprint: certificate
                    .as_ref()
                    .map(|der| thumbprint(&SHA1_FOR_LEGACY_USE_ONLY, der)),
                form: form.unwrap_or(CertificateForm::Ps256),
            },
            client_id,
            token_url,
        })
    }

    fn client_certificate(&self, path: &str, file: &str, key: &SigningKey) -> Result<CertificateDer<'static>, Error> {
        let octets = self.read(path, file)?;
        let Ok(certificate) = CertificateDer::from_pem_slice(&octets) else {
            let help = "the certificate that was uploaded to the provider, in PEM (-----BEGIN CERTIFICATE-----)";
            return Err(self.error(path, format!("{file}: holds no certificate"), help));
        };
        if !key.is_certified_by(&certificate) {
            let help = "name the certificate that was made with this key; the first in the file counts";
            return Err(self.error(path, format!("{file}: is not of the key in private_key_file"), help));
        }
        Ok(certificate)
    }
}

/// `N` must be the length of the algorithm's digests.
fn thumbprint<const N: usize>(algorithm: &'static Algorithm, der: &[u8]) -> [u8; N] {
    let mut thumbprint = [0; N];
    thumbprint.copy_from_slice(digest(algorithm, der).as_ref());
    thumbprint
}

/// Whether secrets may be sent to `url`; else what is wrong with it.
pub(super) fn secure_url(url: &str) -> Result<(), String> {
    let parsed = oauth2::url::Url::parse(url).map_err(|error| format!("{url:?} is no URL: {error}"))?;
    let is_local = match parsed.host() {
        Some(oauth2::url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(oauth2::url::Host::Ipv4(address)) => address.is_loopback(),
        Some(oauth2::url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match parsed.scheme() {
        "https" => Ok(()),
        "http" if is_local => Ok(()),
        _ => Err(format!("{url:?} is not encrypted")),
    }
}
