//! An OAuth2 provider for tests: real HTTP over TLS, strict about requests, and able to fail in every way.

mod grants;
mod server;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

pub use server::Tls;

use super::{PATIENCE, certificates::Certificates};

/// The id of the registered application.
pub const CLIENT: &str = "popgate-in-tests";
/// The secret of [`CLIENT`]. It must never show up in a log.
pub const CLIENT_SECRET: &str = "client-kestrel-7";
/// The start of every token. It must never show up in a log.
pub const TOKEN_MARK: &str = "token-kestrel-";

/// The running provider.
pub struct Provider {
    shared: Arc<Shared>,
    address: SocketAddr,
    certificates: Certificates,
    runtime: tokio::runtime::Runtime,
}

pub(super) struct Shared {
    book: Mutex<Book>,
    changed: Condvar,
    released: tokio::sync::Notify,
}

/// All data of the provider, and how it must behave.
pub struct Book {
    /// How long an access token is valid, in seconds.
    pub lifetime: u32,
    /// Whether responses give this lifetime.
    pub tells_lifetime: bool,
    /// Whether a refresh gives a new refresh token.
    pub rotates: bool,
    /// How long a rotated refresh token stays valid, whatever is used meanwhile; later use is reuse, which ends the
    /// consent. `None`: until its replacement is used.
    pub grace: Option<Duration>,
    /// How many of the next access tokens become invalid before anybody can use them.
    pub stillborn: usize,
    /// Fields of responses with a token that differ from what they should be; null removes a field.
    pub oddities: serde_json::Value,
    /// The same for responses with a device code.
    pub device_oddities: serde_json::Value,
    /// The content type of responses, if it is not that of JSON.
    pub content_type: Option<&'static str>,
    /// Whether the application must send its secret by HTTP Basic.
    pub basic_only: bool,
    /// The redirect URLs that are allowed, octet for octet; empty: any.
    pub redirects: Vec<String>,
    /// The parameter `iss` that browsers bring back (RFC 9207).
    pub issuer: Option<&'static str>,
    /// If set, assertions must be as Entra documents them, with this certificate.
    pub entra: Option<Entra>,
    /// Tokens that were revoked (RFC 7009).
    pub revoked: Vec<String>,
    /// The parameters of the last authorization request.
    pub authorized: HashMap<String, String>,
    /// The interval between requests with a device code, in seconds.
    pub interval: u64,
    /// What happens to the next token requests, instead of a proper response.
    pub troubles: VecDeque<Trouble>,
    /// Whether token requests wait before they are processed (`Before`), or before they are answered (`After`).
    pub hold: Hold,
    /// PEM of the public key that assertions are verified with.
    pub public_key: Option<String>,
    /// How many token requests there were, by grant type.
    pub asked: HashMap<String, usize>,
    /// How many requests wait now because of `hold`.
    held: usize,
    devices: Vec<Device>,
    codes: Vec<Code>,
    families: Vec<Family>,
    /// `jti` of the assertions that were accepted.
    assertions: HashSet<String>,
    counter: u32,
}

/// An application's certificate at Entra, and which of the two forms of assertions Entra accepts.
#[derive(Debug, Clone)]
pub struct Entra {
    /// The certificate in DER.
    pub certificate: Vec<u8>,
    /// Whether assertions have RS256 and x5t, instead of PS256 and x5t#S256.
    pub is_old_form: bool,
}

/// Where a token request is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    Never,
    Before,
    After,
}

/// What happens instead of a proper response.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// This HTTP status with a page for people.
    Status(u16),
    /// `error` and `error_description`.
    Refusal(&'static str, &'static str),
    /// `error`; its description repeats what the request had in these fields.
    Echo(&'static str, &'static [&'static str]),
    /// 200 with a body that is not JSON.
    Garbage,
    /// An answer of many megabytes.
    Huge,
    /// The connection is closed.
    Closed,
    /// The request is granted, but the response is lost: the client gets this instead.
    Lost(Box<Trouble>),
    /// 200 with `error` and `error_description`.
    ErrorIn200(&'static str, &'static str),
}

struct Device {
    code: String,
    user_code: String,
    fate: Fate,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Pending,
    SlowDown,
    Approved(String),
    Denied,
    Expired,
}

struct Code {
    code: String,
    user: String,
    challenge: String,
    redirect: String,
}

/// The tokens of one consent.
struct Family {
    user: String,
    refresh: String,
    rotated: Option<Instant>,
    /// The refresh token before the current one, which is valid until the current one is used.
    previous: Option<String>,
    retired: Vec<String>,
    revoked: bool,
    access: Vec<(String, Instant)>,
}

impl Provider {
    /// Starts the provider with TLS on a free port.
    pub fn start() -> Self {
        let certificates = Certificates::new();
        let shared = Arc::new(Shared {
            book: Mutex::new(Book {
                lifetime: 3600,
                tells_lifetime: true,
                rotates: true,
                grace: None,
                stillborn: 0,
                oddities: serde_json::json!({}),
                device_oddities: serde_json::json!({}),
                content_type: None,
                basic_only: false,
                redirects: Vec::new(),
                issuer: None,
                entra: None,
                revoked: Vec::new(),
                authorized: HashMap::new(),
                interval: 1,
                troubles: VecDeque::new(),
                hold: Hold::Never,
                public_key: None,
                asked: HashMap::new(),
                held: 0,
                devices: Vec::new(),
                codes: Vec::new(),
                families: Vec::new(),
                assertions: HashSet::new(),
                counter: 0,
            }),
            changed: Condvar::new(),
            released: tokio::sync::Notify::new(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let address = runtime.block_on(server::start(shared.clone(), certificates.server()));
        Self {
            shared,
            address,
            certificates,
            runtime,
        }
    }

    /// The URL of one of its pages: `/token`, `/device`, `/authorize`.
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// The file of the authority that clients have to trust.
    pub fn authority_file(&self) -> PathBuf {
        self.certificates.authority_file()
    }

    /// The registry for the IMAP server that checks tokens.
    pub fn registry(&self) -> Registry {
        Registry(self.shared.clone())
    }

    /// An HTTP client for its pages.
    pub fn client(&self) -> reqwest::Client {
        reqwest::Client::builder()
            .tls_backend_preconfigured(rustls_config(&self.certificates))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .unwrap()
    }

    /// Sends a browser's request; returns the status, where the browser is sent on to, and the page.
    pub fn browse(&self, request: reqwest::RequestBuilder) -> (u16, Option<String>, String) {
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let location = answer.headers().get("location");
            let location = location.map(|location| location.to_str().unwrap().to_owned());
            (answer.status().as_u16(), location, answer.text().await.unwrap())
        })
    }

    /// Acts as a browser that was sent to the page at `url`: consents as `user`, or declines. Returns the URL that the
    /// browser is sent back to.
    pub fn consent(&self, url: &str, user: &str, allows: bool) -> String {
        let client = self.client();
        let (status, _, page) = self.browse(client.get(url));
        assert_eq!(status, 200, "{url}");
        let field = |name: &str| {
            let (_, rest) = page.split_once(&format!("name={name} value=\"")).unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        };
        let form = [
            ("state", field("state")),
            ("code_challenge", field("code_challenge")),
            ("redirect_uri", field("redirect_uri")),
            ("user", user.to_owned()),
            ("answer", if allows { "allow" } else { "deny" }.to_owned()),
        ];
        let (status, location, _) = self.browse(client.post(self.url("/consent")).form(&form));
        assert_eq!(status, 303);
        location.expect("the way back")
    }

    /// The data of the provider, to be read or changed.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().unwrap()
    }

    /// How many token requests with this grant type there were.
    pub fn asked(&self, grant: &str) -> usize {
        self.book().asked.get(grant).copied().unwrap_or_default()
    }

    /// Waits until there were `count` token requests with this grant type.
    pub fn wait_asked(&self, grant: &str, count: usize) {
        let has_come = |book: &Book| book.asked.get(grant).is_some_and(|asked| *asked >= count);
        self.wait_while(self.book(), |book| !has_come(book), "nobody asks for a token");
    }

    /// Waits until `count` token requests are held.
    pub fn wait_held(&self, count: usize) {
        self.wait_while(self.book(), |book| book.held < count, "nobody asks for a token");
    }

    /// Releases all requests that are held, and holds no more.
    pub fn release(&self) {
        let mut book = self.book();
        book.hold = Hold::Never;
        self.shared.released.notify_waiters();
        // Requests whose client has gone end too.
        self.wait_while(book, |book| book.held > 0, "what is held does not end");
    }

    /// Waits as long as `is_so`; `complaint` is the failure if that lasts too long.
    fn wait_while(&self, book: MutexGuard<'_, Book>, is_so: impl Fn(&Book) -> bool, complaint: &str) {
        let changed = &self.shared.changed;
        let waited = changed.wait_timeout_while(book, PATIENCE, |book| is_so(book));
        assert!(!waited.unwrap().1.timed_out(), "{complaint}");
    }

    /// A person has typed in this code, and consents as `user`.
    pub fn approve(&self, user_code: &str, user: &str) {
        self.decide(user_code, Fate::Approved(user.into()));
    }

    /// The person declines.
    pub fn deny(&self, user_code: &str) {
        self.decide(user_code, Fate::Denied);
    }

    /// The code expires, because nobody has typed it in.
    pub fn expire(&self, user_code: &str) {
        self.decide(user_code, Fate::Expired);
    }

    /// The next request with this code counts as too early.
    pub fn slow_down(&self, user_code: &str) {
        self.decide(user_code, Fate::SlowDown);
    }

    fn decide(&self, user_code: &str, fate: Fate) {
        let mut book = self.book();
        let device = book.devices.iter_mut().find(|device| device.user_code == user_code);
        device.expect("a code that was given").fate = fate;
    }

    /// Withdraws all consents of `user`.
    pub fn revoke(&self, user: &str) {
        for family in self.book().families.iter_mut().filter(|family| family.user == user) {
            family.revoked = true;
        }
    }

    /// Ends all access tokens of `user` early; the consents stay valid.
    pub fn end_access(&self, user: &str) {
        for family in self.book().families.iter_mut().filter(|family| family.user == user) {
            family.access.clear();
        }
    }
}

impl Book {
    fn unique(&mut self, what: &str) -> String {
        self.counter += 1;
        format!("{TOKEN_MARK}{what}-{}-{:016x}", self.counter, rand_u64())
    }

    /// Creates a family; returns its number and refresh token.
    fn family(&mut self, user: &str) -> (usize, String) {
        let refresh = self.unique("refresh");
        self.families.push(Family {
            user: user.into(),
            refresh: refresh.clone(),
            rotated: None,
            previous: None,
            retired: Vec::new(),
            revoked: false,
            access: Vec::new(),
        });
        (self.families.len() - 1, refresh)
    }

    fn access(&mut self, family: usize) -> String {
        let access = self.unique("access");
        let until = Instant::now() + Duration::from_secs(self.lifetime.into());
        if self.stillborn > 0 {
            self.stillborn -= 1;
        } else {
            self.families[family].access.push((access.clone(), until));
        }
        access
    }
}

/// The tokens of the provider, as an IMAP server knows them.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

impl Registry {
    /// The user whose mail the token opens. Its use retires the refresh token before the one that came with it.
    pub fn user_of(&self, token: &str) -> Option<String> {
        let mut book = self.0.book.lock().unwrap();
        let now = Instant::now();
        let book_has_no_grace = book.grace.is_none();
        let opens = |family: &&mut Family| {
            !family.revoked
                && family
                    .access
                    .iter()
                    .any(|(access, until)| access == token && *until > now)
        };
        let family = book.families.iter_mut().find(opens)?;
        if book_has_no_grace && family.access.last().is_some_and(|(access, _)| access == token) {
            family.retired.extend(family.previous.take());
        }
        Some(family.user.clone())
    }
}

fn rustls_config(certificates: &Certificates) -> tokio_rustls::rustls::ClientConfig {
    Arc::unwrap_or_clone(certificates.client())
}

/// Random enough for a test.
fn rand_u64() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
