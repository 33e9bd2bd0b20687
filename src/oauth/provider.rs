//! The OAuth2 provider of an upstream: the requests that lead to a token.

use std::{borrow::Cow, fmt::Display, pin::Pin, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use oauth2::{
    AsyncHttpClient, AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, DeviceAuthorizationUrl,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, ErrorResponseType, HttpRequest, HttpResponse, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError, Scope, StandardDeviceAuthorizationResponse,
    StandardErrorResponse, StandardRevocableToken, TokenUrl,
    basic::{BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse},
    http::{Method, header},
    url::{Origin, Url, form_urlencoded},
};
use zeroize::Zeroizing;

use super::{
    Error, TokenRefusal,
    answer::TokenAnswer,
    assertion::assertion,
    http::{Failure, Http},
    token::Issued,
};
use crate::{
    config::{ClientAuthentication, ClientProof, Grant, OAuth2, Secret},
    tls,
    types::RandomUnavailable,
};

type Client = oauth2::Client<
    BasicErrorResponse,
    TokenAnswer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointMaybeSet,
    EndpointMaybeSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// The shortest pause between two polls for the token of a device code.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
/// The type of the assertion that a client with a key signs instead of sending a secret (RFC 7523 §2.2).
const CLIENT_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The grant type of a device code (RFC 8628 §3.4).
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// The grant type of the assertion that a service account signs instead of a person's consent (RFC 7523 §2.1).
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// A provider, as the configuration of an upstream names it.
#[derive(Debug, Clone)]
pub(super) struct Provider {
    pub(super) config: Arc<OAuth2>,
    client: Client,
    http: Http,
}

/// Why a provider could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The provider's `ca_file` cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// One of the provider's URLs is not valid.
    #[error("{0}")]
    Url(String),
    /// The HTTP client cannot be made.
    #[error("{0}")]
    Http(String),
    /// The system gives no random numbers.
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
}

impl Provider {
    pub(super) fn new(config: &Arc<OAuth2>) -> Result<Self, SetupError> {
        let url = |error: oauth2::url::ParseError, url: &str| SetupError::Url(format!("{url:?} is no URL: {error}"));
        let device = match &config.grant {
            Grant::Device { device_url, .. } => Some(device_url),
            Grant::Code { .. } | Grant::ClientCredentials | Grant::ServiceAccount => None,
        };
        let device = device.map(|text| DeviceAuthorizationUrl::new(text.clone()).map_err(|error| url(error, text)));
        let authorize = authorize_url(&config.grant);
        let authorize = authorize.map(|text| AuthUrl::new(text.to_owned()).map_err(|error| url(error, text)));
        let token = TokenUrl::new(config.token_url.clone()).map_err(|error| url(error, &config.token_url))?;
        let client = oauth2::Client::new(ClientId::new(config.client_id.clone()))
            // Most providers send the secret in the body in their own examples.
            .set_auth_type(AuthType::RequestBody)
            .set_auth_uri_option(authorize.transpose()?)
            .set_device_authorization_url_option(device.transpose()?)
            .set_token_uri(token);
        let (client, secret) = match &config.proof {
            ClientProof::Secret(secret, place) => {
                let client = match place {
                    ClientAuthentication::Post => client,
                    ClientAuthentication::Basic => client.set_auth_type(AuthType::BasicAuth),
                };
                let text = String::from_utf8_lossy(secret.expose()).into_owned();
                (client.set_client_secret(ClientSecret::new(text)), Some(secret.clone()))
            }
            ClientProof::Public | ClientProof::Key(_) => (client, None),
        };
        let http = Http::new(&tls::Connector::new(config.ca_file.as_deref())?, secret);
        Ok(Self {
            config: config.clone(),
            client,
            http: http.map_err(|error| SetupError::Http(error.to_string()))?,
        })
    }

    fn scopes(&self) -> impl Iterator<Item = Scope> {
        self.config.scopes.iter().cloned().map(Scope::new)
    }

    /// Exchanges the refresh token `token` for new tokens (RFC 6749 §6).
    pub(super) async fn refresh(&self, token: &str) -> Result<Issued, Error> {
        let token = RefreshToken::new(token.to_owned());
        let request = self.client.exchange_refresh_token(&token);
        request.request_async(self).await.map(Issued::from).map_err(failed)
    }

    /// Asks for an access token for the application itself (RFC 6749 §4.4).
    pub(super) async fn client_credentials(&self) -> Result<Issued, Error> {
        let request = self.client.exchange_client_credentials().add_scopes(self.scopes());
        request.request_async(self).await.map(Issued::from).map_err(failed)
    }

    /// Asks for an access token for `user`'s mail, by a signed assertion (RFC 7523 §2.1).
    pub(super) async fn service_account(&self, user: &str) -> Result<Issued, Error> {
        let OAuth2 {
            client_id,
            token_url,
            scopes,
            proof,
            ..
        } = &*self.config;
        let ClientProof::Key(key) = proof else {
            return Err(Error::Refused(TokenRefusal::ours(
                "a service account needs private_key_file",
            )));
        };
        let assertion = assertion(key, client_id, user, token_url, Some(scopes));
        let assertion = assertion.map_err(|error| unavailable(&error.into()))?;
        let form = [("grant_type", JWT_BEARER), ("assertion", &assertion)];
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let request = post(token_url, body)?;
        let answer = self.http.send(request).await.map_err(|error| unavailable(&error))?;
        if answer.status().is_success() {
            let token: TokenAnswer = serde_json::from_slice(answer.body()).map_err(|_| no_answer())?;
            return Ok(token.into());
        }
        let refusal: BasicErrorResponse = serde_json::from_slice(answer.body()).map_err(|_| no_answer())?;
        Err(refused(&refusal))
    }

    /// Revokes `token` (RFC 7009 §2.1). Returns whether the provider has an endpoint for that.
    pub(super) async fn revoke(&self, token: &str) -> Result<bool, Error> {
        let Some(url) = &self.config.revoke_url else {
            return Ok(false);
        };
        let request = self.revocation(url, token)?;
        match self.call(request).await {
            // Redirects are not followed: one says nothing about the token.
            Ok(answer) if !answer.status().is_success() => Err(no_answer()),
            // Whatever the body of the answer is, the token has been revoked.
            Ok(_) | Err(Failure::Unreadable) => Ok(true),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// The request that revokes `token`. The client proves who it is as in a request for a token. [`Self::call`] adds
    /// the assertion of a client with a key.
    ///
    /// The crate `oauth2` has such requests too, but only to https URLs, not to a provider on this machine.
    fn revocation(&self, url: &str, token: &str) -> Result<HttpRequest, Error> {
        let client_id = &self.config.client_id;
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("token", token);
        let credentials = match &self.config.proof {
            ClientProof::Secret(secret, ClientAuthentication::Basic) => Some(basic(client_id, secret)?),
            ClientProof::Secret(secret, ClientAuthentication::Post) => {
                form.append_pair("client_id", client_id)
                    .append_pair("client_secret", &String::from_utf8_lossy(secret.expose()));
                None
            }
            ClientProof::Public | ClientProof::Key(_) => {
                form.append_pair("client_id", client_id);
                None
            }
        };
        let mut request = post(url, form.finish())?;
        if let Some(credentials) = credentials {
            request.headers_mut().insert(header::AUTHORIZATION, credentials);
        }
        Ok(request)
    }

    /// Asks for a device code (RFC 8628 §3.1).
    pub(super) async fn device_code(&self) -> Result<StandardDeviceAuthorizationResponse, Error> {
        let request = self.client.exchange_device_code().map_err(|_| not_for("device"))?;
        let request = request.add_scopes(self.scopes());
        request.request_async(self).await.map_err(failed)
    }

    /// Asks for the token of a device code until somebody has entered the code or declined, or until the code has
    /// expired (RFC 8628 §3.4).
    pub(super) async fn device_token(&self, code: &StandardDeviceAuthorizationResponse) -> Result<Issued, Error> {
        let request = self.client.exchange_device_access_token(code);
        let pause = |interval: Duration| tokio::time::sleep(interval.max(LEAST_INTERVAL));
        let polled = request.request_async(self, pause, None).await;
        polled.map(Issued::from).map_err(failed)
    }

    /// Returns the URL that the browser is sent to (RFC 6749 §4.1.1), the `state` that the browser brings back, and the
    /// code verifier, which proves that the code was issued to this gateway (RFC 7636).
    pub(super) fn authorize(&self, redirect: &str, person: &str) -> Result<(String, String, Zeroizing<String>), Error> {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let request = self
            .client
            .authorize_url(CsrfToken::new_random)
            .map_err(|_| not_for("code"))?;
        let redirect = redirect_url(redirect)?;
        let (url, state) = request
            .add_scopes(self.scopes())
            .set_pkce_challenge(challenge)
            .set_redirect_uri(Cow::Owned(redirect))
            // OpenID Connect Core §3.1.2.1. A provider that does not know this parameter ignores it.
            .add_extra_param("login_hint", person)
            .url();
        let verifier = Zeroizing::new(verifier.into_secret());
        Ok((url.into(), state.into_secret(), verifier))
    }

    /// Whether `issuer`, the `iss` of an answer, names this provider (RFC 9207 §2.4). It must be the configured issuer
    /// or, if none is configured, a URL at one of the provider's own servers.
    pub(super) fn is_issuer(&self, issuer: &str) -> bool {
        if let Some(known) = &self.config.issuer {
            return known == issuer;
        }
        let origin = |text: &str| Url::parse(text).ok().map(|url| url.origin());
        let Some(issuer) = origin(issuer).filter(Origin::is_tuple) else {
            return false;
        };
        let urls = authorize_url(&self.config.grant)
            .into_iter()
            .chain([self.config.token_url.as_str()]);
        urls.filter_map(origin).any(|origin| origin == issuer)
    }

    /// Exchanges an authorization code for tokens (RFC 6749 §4.1.3).
    pub(super) async fn exchange(&self, code: &str, redirect: &str, verifier: &str) -> Result<Issued, Error> {
        let request = self
            .client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(verifier.to_owned()))
            .set_redirect_uri(Cow::Owned(redirect_url(redirect)?));
        request.request_async(self).await.map(Issued::from).map_err(failed)
    }
}

impl<'c> AsyncHttpClient<'c> for Provider {
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, Failure>> + Send + 'c>>;

    /// Sends `request`. If the client has a key, it signs a new assertion for each request: an assertion is valid for
    /// one use and for some minutes, and a person may take longer to type in a code.
    fn call(&'c self, mut request: HttpRequest) -> Self::Future {
        if self.config.short_device_grant {
            *request.body_mut() = with_short_device_grant(request.body());
        }
        Box::pin(async move {
            let OAuth2 {
                client_id, token_url, ..
            } = &*self.config;
            let ClientProof::Key(key) = &self.config.proof else {
                return self.http.send(request).await;
            };
            let assertion = assertion(key, client_id, client_id, token_url, None)?;
            let (head, form) = request.into_parts();
            let form = form_urlencoded::Serializer::new(String::from_utf8_lossy(&form).into_owned())
                .append_pair("client_assertion_type", CLIENT_ASSERTION)
                .append_pair("client_assertion", &assertion)
                .finish();
            self.http.send(HttpRequest::from_parts(head, form.into_bytes())).await
        })
    }
}

/// The URL of the provider's page that a browser is sent to, if the grant has such a page.
fn authorize_url(grant: &Grant) -> Option<&str> {
    match grant {
        Grant::Device { authorize_url, .. } => authorize_url.as_deref(),
        Grant::Code { authorize_url } => Some(authorize_url),
        Grant::ClientCredentials | Grant::ServiceAccount => None,
    }
}

/// Rewrites the request for the token of a device code as Yandex expects it:
/// <https://yandex.com/dev/id/doc/en/codes/screen-code-oauth>
fn with_short_device_grant(form: &[u8]) -> Vec<u8> {
    let fields = form_urlencoded::parse(form).map(|(name, value)| match (&*name, &*value) {
        ("grant_type", DEVICE_CODE) => (name, "device_code".into()),
        ("device_code", _) => ("code".into(), value),
        _ => (name, value),
    });
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
        .into_bytes()
}

fn post(url: &str, form: String) -> Result<HttpRequest, Error> {
    let mut request = HttpRequest::new(form.into_bytes());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.parse().map_err(|error| no_url(url, &error))?;
    let form = header::HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(header::CONTENT_TYPE, form);
    Ok(request)
}

/// The client's id and secret in the form of HTTP Basic. Both are encoded as in a form first (RFC 6749 §2.3.1).
fn basic(client_id: &str, secret: &Secret) -> Result<header::HeaderValue, Error> {
    let secret = String::from_utf8_lossy(secret.expose());
    let [id, secret] = [client_id, &*secret].map(|text| form_urlencoded::byte_serialize(text.as_bytes()));
    let pair = Zeroizing::new(id.chain([":"]).chain(secret).collect::<String>());
    let text = Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())));
    let mut value = header::HeaderValue::from_str(&text).map_err(|error| Error::unavailable(error.to_string()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn redirect_url(text: &str) -> Result<RedirectUrl, Error> {
    RedirectUrl::new(text.to_owned()).map_err(|error| no_url(text, &error))
}

fn no_url(text: &str, error: &dyn Display) -> Error {
    Error::Refused(TokenRefusal::ours(&format!("{text:?} is no URL: {error}")))
}

/// Turns the failure of a request into an [`Error`].
fn failed<T>(error: RequestTokenError<Failure, StandardErrorResponse<T>>) -> Error
where
    T: ErrorResponseType + Display + 'static,
{
    match error {
        RequestTokenError::ServerResponse(refusal) => refused(&refusal),
        RequestTokenError::Request(failure) => unavailable(&failure),
        // The answer may have a token in it, so it is not shown.
        RequestTokenError::Parse(..) => no_answer(),
        RequestTokenError::Other(what) => Error::unavailable(what),
    }
}

/// Turns the `error` and `error_description` of an answer into an [`Error`].
fn refused<T: ErrorResponseType>(answer: &StandardErrorResponse<T>) -> Error {
    // Display adds the description to the code; the serialised form is the code alone.
    let code = serde_json::to_value(answer.error()).ok();
    let code = code.as_ref().and_then(|code| code.as_str()).unwrap_or("error");
    match TokenRefusal::new(code, answer.error_description().map(String::as_str)) {
        refusal if refusal.will_pass() => Error::unavailable(refusal.to_string()),
        refusal if refusal.concerns_consent() => Error::SignIn(refusal),
        refusal => Error::Refused(refusal),
    }
}

fn unavailable(failure: &Failure) -> Error {
    let error = Error::Unavailable {
        reason: failure.to_string(),
        retry_after: match failure {
            Failure::Status { retry_after, .. } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        },
        is_lost: false,
    };
    if failure.is_lost() { error.lost() } else { error }
}

fn no_answer() -> Error {
    Error::unavailable("its answer is not valid in OAuth2")
}

fn not_for(grant: &str) -> Error {
    let what = format!("the configuration names no endpoint for grant = {grant:?}");
    Error::Refused(TokenRefusal::ours(&what))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        task::JoinHandle,
    };

    use super::*;
    use crate::config::{CertificateForm, ClientKey};

    const TOKEN: &str = "the+token";

    /// A provider whose revocation endpoint answers one request by `status`, without a body. The task returns the
    /// request.
    async fn revoking(proof: ClientProof, status: &'static str) -> (Provider, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/revoke", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !is_whole(&request) {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "half a request");
            }
            let answer = format!("HTTP/1.1 {status}\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        });
        let config = OAuth2 {
            grant: Grant::ClientCredentials,
            client_id: "an id".into(),
            proof,
            token_url: "https://login.example.org/token".into(),
            revoke_url: Some(url),
            redirect_url: None,
            short_device_grant: false,
            issuer: None,
            scopes: Vec::new(),
            ca_file: None,
        };
        (Provider::new(&Arc::new(config)).unwrap(), server)
    }

    fn is_whole(request: &[u8]) -> bool {
        let text = String::from_utf8_lossy(request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return false;
        };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        body.len() >= length.unwrap().parse::<usize>().unwrap()
    }

    #[tokio::test]
    async fn a_token_is_revoked_if_the_provider_says_so() {
        for (status, expected) in [
            ("200 OK", true),
            ("204 No Content", true),
            ("302 Found", false),
            ("307 Temporary Redirect", false),
            ("400 Bad Request", false),
            ("503 Service Unavailable", false),
        ] {
            let (provider, server) = revoking(ClientProof::Public, status).await;
            assert_eq!(provider.revoke(TOKEN).await.is_ok(), expected, "{status}");
            let request = server.await.unwrap();
            assert!(request.ends_with("token=the%2Btoken&client_id=an+id"), "{request}");
        }
    }

    /// The `authorization` and the form of a request for revocation by a client that has `proof`.
    async fn revocation(proof: ClientProof) -> (Option<String>, Vec<(String, String)>) {
        let (provider, server) = revoking(proof, "200 OK").await;
        assert!(provider.revoke(TOKEN).await.unwrap());
        let request = server.await.unwrap();
        let (head, form) = request.split_once("\r\n\r\n").unwrap();
        let authorization = head.lines().find_map(|line| line.strip_prefix("authorization: "));
        let form = form_urlencoded::parse(form.as_bytes()).into_owned();
        (authorization.map(str::to_owned), form.collect())
    }

    #[tokio::test]
    async fn a_client_revokes_as_it_asks_for_tokens() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let secret = || Secret::from("s/e:c");
        let (token, id) = (pair("token", TOKEN), pair("client_id", "an id"));
        assert_eq!(
            revocation(ClientProof::Secret(secret(), ClientAuthentication::Post)).await,
            (None, vec![token.clone(), id.clone(), pair("client_secret", "s/e:c")])
        );
        let credentials = BASE64.encode("an+id:s%2Fe%3Ac");
        assert_eq!(
            revocation(ClientProof::Secret(secret(), ClientAuthentication::Basic)).await,
            (Some(format!("Basic {credentials}")), vec![token.clone()])
        );
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let key = ClientKey {
            pem: Secret::from(&*key.serialize_pem()),
            key_id: None,
            thumbprint: None,
            old_thumbprint: None,
            form: CertificateForm::Ps256,
        };
        let (authorization, form) = revocation(ClientProof::Key(key)).await;
        assert_eq!(authorization, None);
        assert_eq!(form[..3], [token, id, pair("client_assertion_type", CLIENT_ASSERTION)]);
        let (name, assertion) = &form[3];
        assert_eq!((&**name, assertion.split('.').count()), ("client_assertion", 3));
    }

    #[test]
    fn a_device_code_as_yandex_takes_it() {
        let form = b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=a%2Bb&client_id=id";
        assert_eq!(
            with_short_device_grant(form),
            b"grant_type=device_code&code=a%2Bb&client_id=id"
        );
        let refresh = b"grant_type=refresh_token&refresh_token=r";
        assert_eq!(with_short_device_grant(refresh), refresh);
    }
}
