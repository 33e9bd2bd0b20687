//! Verifies `[upstream.NAME.oauth2]`.

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    Verifier,
    signing_key::SigningKey,
    value::{Checked, Noted},
};
use crate::config::{
    CertificateForm, ClientAuthentication, ClientKey, ClientProof, Grant, OAuth2, Secret,
    key::{Raw, Value},
    keys::{self, GrantWord},
    nearest::quoted_list,
    preset::{Preset, PresetOAuth2},
    value::{FileName, SecureUrl, Tenant},
};

/// Google's key file for a service account: the fields that popgate uses.
#[derive(Deserialize)]
struct GoogleKey {
    client_email: String,
    private_key: Zeroizing<String>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

/// The key in `private_key_file`, and what else Google's JSON says in that file.
struct KeyFile {
    key: ClientKey,
    client_id: Option<String>,
    token_url: Option<String>,
}

impl Verifier<'_> {
    pub(super) fn oauth2(
        &mut self,
        path: &str,
        oauth2: keys::OAuth2,
        preset: Option<&'static Preset>,
    ) -> Checked<OAuth2> {
        let key = |name: &str| format!("{path}.{name}");
        let known = preset.and_then(|preset| preset.oauth2.as_ref());
        let word = self.grant(&key("grant"), &oauth2, known)?;
        let is_known = self.has_grant(&key("grant"), word, &oauth2, preset);
        let tenant = self.tenant(&key("tenant"), oauth2.tenant.clone(), word, known);
        let key_file = match &oauth2.private_key_file {
            Some(file) => self.key_file(path, file, &oauth2).map(Some),
            None if oauth2.certificate_file.is_some() || oauth2.key_id.is_some() => {
                let help = "certificate_file and key_id tell the provider which key signs: name that key by `private_key_file`";
                Err(self.missing(&key("private_key_file"), help))
            }
            None => Ok(None),
        };
        let form = match oauth2.certificate_form {
            Some(_) if oauth2.certificate_file.is_none() => {
                let help =
                    "it says how the application names its certificate: give that certificate by `certificate_file`";
                Err(self.wrong(&key("certificate_form"), "has no meaning here", help))
            }
            _ => Ok(()),
        };
        let secret = self.secret(&key("client_secret"), oauth2.client_secret, oauth2.client_secret_file);
        let scopes = oauth2
            .scopes
            .map(|scopes| scopes.0)
            .unwrap_or_else(|| match (known, word) {
                (Some(known), GrantWord::Device | GrantWord::Code) => known.scopes.clone(),
                (Some(known), _) => known.own_scopes.clone(),
                (None, _) => Vec::new(),
            });
        let ca_file = oauth2
            .ca_file
            .map(|file| self.readable(&key("ca_file"), &file))
            .transpose();
        let key_file = key_file?;
        let (google_client, google_url) = key_file
            .as_ref()
            .map_or((None, None), |file| (file.client_id.clone(), file.token_url.clone()));
        let client_id = match (oauth2.client_id.or(google_client), word) {
            (Some(id), _) => Ok(id),
            (None, GrantWord::ServiceAccount) => {
                let help = "the service account's address; the JSON file that Google gives has it: name that file by `private_key_file`";
                Err(self.missing(&key("client_id"), help))
            }
            (None, _) => self.required(&key("client_id"), None),
        };
        let proof = self.proof(path, word, key_file, secret, oauth2.client_authentication);

        let tenant = tenant?.unwrap_or_default();
        let fill = |url: &String| url.replace("{tenant}", &tenant);
        let token_url = oauth2
            .token_url
            .map(|url| url.0)
            .or(google_url)
            .or_else(|| known.map(|known| fill(&known.token_url)));
        let endpoint =
            |given: Option<SecureUrl>, known: Option<&String>| given.map(|url| url.0).or_else(|| known.map(fill));
        let device = endpoint(oauth2.device_url, known.and_then(|known| known.device_url.as_ref()));
        let authorize = endpoint(
            oauth2.authorize_url,
            known.and_then(|known| known.authorize_url.as_ref()),
        );
        let revoke_url = endpoint(oauth2.revoke_url, known.and_then(|known| known.revoke_url.as_ref()));
        let token_url = token_url.ok_or_else(|| {
            self.missing(
                &key("token_url"),
                "the URL where the provider gives tokens (RFC 6749 §3.2)",
            )
        });
        let grant = self.endpoints(path, word, device, authorize, preset);
        is_known?;
        form?;
        Ok(OAuth2 {
            grant: grant?,
            client_id: client_id?,
            proof: proof?,
            token_url: token_url?,
            revoke_url,
            redirect_url: oauth2.redirect_url.map(|url| url.0),
            short_device_grant: known.is_some_and(|known| known.short_device_grant),
            issuer: oauth2.issuer,
            scopes,
            ca_file: ca_file?,
        })
    }

    /// Checks that the provider of `preset` has the grant `word`. If the grant by device codes is missing, `endpoints`
    /// reports it.
    fn has_grant(
        &mut self,
        path: &str,
        word: GrantWord,
        oauth2: &keys::OAuth2,
        preset: Option<&Preset>,
    ) -> Checked<()> {
        let Some(preset) = preset else { return Ok(()) };
        let Some(known) = &preset.oauth2 else { return Ok(()) };
        if word == GrantWord::Device || oauth2.token_url.is_some() || known.grants.contains(&word) {
            return Ok(());
        }
        let words: Vec<_> = known.grants.iter().map(ToString::to_string).collect();
        let help = format!("it has {}", quoted_list(words.iter().map(String::as_str)));
        Err(self.wrong(path, format!("{} has no such grant for mail", preset.name), help))
    }

    /// The grant, with the endpoints that it needs.
    fn endpoints(
        &mut self,
        path: &str,
        word: GrantWord,
        device_url: Option<String>,
        authorize_url: Option<String>,
        preset: Option<&Preset>,
    ) -> Checked<Grant> {
        match (word, device_url, authorize_url) {
            (GrantWord::Device, Some(device_url), authorize_url) => Ok(Grant::Device {
                device_url,
                authorize_url,
            }),
            (GrantWord::Device, None, _) => {
                let help = match preset {
                    Some(preset) if preset.oauth2.is_some() => {
                        format!("{} gives no device codes for mail: take grant = \"code\"", preset.name)
                    }
                    _ => "the URL where the provider gives codes (RFC 8628 §3.1)".into(),
                };
                Err(self.missing(&format!("{path}.device_url"), help))
            }
            (GrantWord::Code, _, Some(authorize_url)) => Ok(Grant::Code { authorize_url }),
            (GrantWord::Code, _, None) => {
                let help = "the URL of the provider's page where somebody consents (RFC 6749 §3.1)";
                Err(self.missing(&format!("{path}.authorize_url"), help))
            }
            (GrantWord::ClientCredentials, ..) => Ok(Grant::ClientCredentials),
            (GrantWord::ServiceAccount, ..) => Ok(Grant::ServiceAccount),
        }
    }

    fn proof(
        &mut self,
        path: &str,
        word: GrantWord,
        key_file: Option<KeyFile>,
        secret: Checked<Option<Secret>>,
        authentication: Option<ClientAuthentication>,
    ) -> Checked<ClientProof> {
        let key_path = format!("{path}.private_key_file");
        let secret_path = format!("{path}.client_secret");
        let secret = secret?;
        let needs_no_secret = key_file.is_some() || matches!(word, GrantWord::Device | GrantWord::Code);
        if authentication.is_some() && secret.is_none() && needs_no_secret {
            let help = "it says where a client_secret stands in a request, and there is none";
            self.wrong(&format!("{path}.client_authentication"), "has no meaning here", help);
        }
        match (key_file, secret, word) {
            (Some(_), Some(_), _) => {
                let help = "the application proves itself by one of the two";
                Err(self.wrong(&key_path, "`client_secret` is given too", help))
            }
            (Some(file), None, _) => Ok(ClientProof::Key(file.key)),
            (None, Some(_), GrantWord::ServiceAccount) => {
                let help = "a service account has a key: name its file by `private_key_file`";
                Err(self.wrong(&secret_path, "has no meaning here", help))
            }
            (None, Some(secret), _) => Ok(ClientProof::Secret(
                secret,
                authentication.unwrap_or(ClientAuthentication::Post),
            )),
            (None, None, GrantWord::Device | GrantWord::Code) => Ok(ClientProof::Public),
            (None, None, GrantWord::ClientCredentials) => {
                let help = "the application must prove itself: `client_secret_file`, or `private_key_file`";
                Err(self.missing(&secret_path, help))
            }
            (None, None, GrantWord::ServiceAccount) => {
                let help = "the JSON file that Google gives, or a private key in PEM";
                Err(self.missing(&key_path, help))
            }
        }
    }

    fn grant(&mut self, path: &str, oauth2: &keys::OAuth2, known: Option<&PresetOAuth2>) -> Checked<GrantWord> {
        match (oauth2.grant, known) {
            (None, _) if self.sources.is_wrong(path) => Err(Noted),
            (Some(word), _) => Ok(word),
            (None, Some(known)) => Ok(known.grant),
            (None, None) if oauth2.device_url.is_some() => Ok(GrantWord::Device),
            (None, None) if oauth2.authorize_url.is_some() => Ok(GrantWord::Code),
            // One of the two URLs is given, but wrong.
            (None, None)
                if ["device_url", "authorize_url"]
                    .iter()
                    .any(|url| self.sources.is_wrong(&path.replace("grant", url))) =>
            {
                Err(Noted)
            }
            (None, None) => Err(self.missing(path, GrantWord::KIND.expected().1)),
        }
    }

    fn tenant(
        &mut self,
        path: &str,
        tenant: Option<Tenant>,
        word: GrantWord,
        known: Option<&PresetOAuth2>,
    ) -> Checked<Option<String>> {
        match (tenant, known.and_then(|known| known.tenant.clone())) {
            (Some(_), None) => {
                let help = "it is a part of Microsoft's URLs: write preset = \"microsoft365\", or put it into the URLs";
                Err(self.wrong(path, "has no meaning here", help))
            }
            (None, Some(_)) if word == GrantWord::ClientCredentials => {
                let help = "client credentials need it: give the tenant's id, or one of its domains";
                Err(self.missing(path, help))
            }
            (Some(tenant), Some(_)) => Ok(Some(tenant.0)),
            (None, default) => Ok(default),
        }
    }

    fn key_file(&mut self, path: &str, file: &FileName, oauth2: &keys::OAuth2) -> Checked<KeyFile> {
        let file_path = format!("{path}.private_key_file");
        let octets = Zeroizing::new(self.read(&file_path, file)?);
        self.warn_if_world_readable(&file_path, file);
        let google = serde_json::from_slice::<GoogleKey>(&octets).ok();
        let pem = google
            .as_ref()
            .map_or(&octets[..], |google| google.private_key.as_bytes());
        let Ok(private) = PrivateKeyDer::from_pem_slice(pem) else {
            let help = "a private key in PEM without a passphrase (-----BEGIN PRIVATE KEY-----), or the JSON file that Google gives for a service account";
            let what = match memchr::memmem::find(pem, b"ENCRYPTED") {
                Some(_) => "the key is encrypted with a passphrase, which nobody could type in",
                None => "holds no private key",
            };
            return Err(self.wrong(&file_path, format!("{}: {what}", file.0), help));
        };
        let Some(signing) = SigningKey::of(&private) else {
            let help = "make another: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem";
            let what = format!("{}: the key is neither RSA of at least 2048 bits nor EC P-256", file.0);
            return Err(self.wrong(&file_path, what, help));
        };
        let certificate = match &oauth2.certificate_file {
            Some(file) => Some(self.client_certificate(&format!("{path}.certificate_file"), file, &signing)?),
            None => None,
        };
        let (google_id, client_id, token_url) = match google {
            Some(google) => (google.private_key_id, Some(google.client_email), google.token_uri),
            None => (None, None, None),
        };
        // The key file says where to send assertions.
        if let Some(url) = &token_url
            && let Err(wrong) = SecureUrl::read(&Raw::Text(url))
        {
            return Err(self.wrong(&file_path, format!("{}: token_uri: {}", file.0, wrong.what), ""));
        }
        Ok(KeyFile {
            key: ClientKey {
                pem: signing.pem,
                key_id: oauth2.key_id.clone().or(google_id),
                thumbprint: certificate.as_ref().map(|der| thumbprint(&SHA256, der)),
                old_thumbprint: certificate
                    .as_ref()
                    .map(|der| thumbprint(&SHA1_FOR_LEGACY_USE_ONLY, der)),
                form: oauth2.certificate_form.unwrap_or(CertificateForm::Ps256),
            },
            client_id,
            token_url,
        })
    }

    fn client_certificate(
        &mut self,
        path: &str,
        file: &FileName,
        key: &SigningKey,
    ) -> Checked<CertificateDer<'static>> {
        let octets = self.read(path, file)?;
        let Ok(certificate) = CertificateDer::from_pem_slice(&octets) else {
            let help = "the certificate that was uploaded to the provider, in PEM (-----BEGIN CERTIFICATE-----)";
            return Err(self.wrong(path, format!("{}: holds no certificate", file.0), help));
        };
        if !key.is_certified_by(&certificate) {
            let help =
                "name the certificate that was made with this key; only the first certificate in the file counts";
            return Err(self.wrong(
                path,
                format!("{}: does not belong to the key in private_key_file", file.0),
                help,
            ));
        }
        Ok(certificate)
    }
}

/// The digest of a certificate. `N` must be the length of the algorithm's digests.
fn thumbprint<const N: usize>(algorithm: &'static Algorithm, der: &[u8]) -> [u8; N] {
    let mut thumbprint = [0; N];
    thumbprint.copy_from_slice(digest(algorithm, der).as_ref());
    thumbprint
}
