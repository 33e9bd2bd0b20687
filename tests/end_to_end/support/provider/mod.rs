//! An OAuth2 provider of the tests' own: real HTTP over TLS, strict about what it is asked, and able to fail in every way.

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

/// The application that is registered here, with its secret.
pub const CLIENT: &str = "popgate-in-tests";
/// The secret of [`CLIENT`]; no log may bear it.
pub const CLIENT_SECRET: &str = "client-kestrel-7";
/// How every token begins; no log may bear one.
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

/// All that the provider knows, and how it is to behave.
pub struct Book {
    /// Seconds that an access token lasts.
    pub lifetime: u32,
    /// Whether answers tell that.
    pub tells_lifetime: bool,
    /// Whether a refresh brings a new refresh token.
    pub rotates: bool,
    /// How long a rotated refresh token stays good, whatever is used meanwhile; after that it is reuse, which ends the consent.
    /// `None`: until what replaced it is used.
    pub grace: Option<Duration>,
    /// So many of the next access tokens are ended before anybody can use them.
    pub stillborn: usize,
    /// What stands in answers with a token otherwise than it should; null is left out.
    pub oddities: serde_json::Value,
    /// The same of answers with a device code.
    pub device_oddities: serde_json::Value,
    /// What answers say that they are, if not JSON.
    pub content_type: Option<&'static str>,
    /// How the application may prove itself by its secret: by HTTP Basic alone if set.
    pub basic_only: bool,
    /// Where browsers may be sent back to, octet for octet; empty: anywhere.
    pub redirects: Vec<String>,
    /// `iss` of what browsers bring back (RFC 9207).
    pub issuer: Option<&'static str>,
    /// Assertions must be as Entra documents them, with this certificate (DER).
    pub entra: Option<Entra>,
    /// Tokens that were revoked (RFC 7009).
    pub revoked: Vec<String>,
    /// What browsers were sent with, by parameter; the last one.
    pub authorized: HashMap<String, String>,
    /// Seconds between questions for a device code's token.
    pub interval: u64,
    /// What becomes of the next requests for a token, instead of an answer.
    pub troubles: VecDeque<Trouble>,
    /// Whether requests for a token wait before they are looked at (`Before`), or before they are answered (`After`).
    pub hold: Hold,
    /// PEM of the public key that assertions are verified with.
    pub public_key: Option<String>,
    /// Requests for a token, by grant type.
    pub asked: HashMap<String, usize>,
    /// How many wait by `hold` just now.
    held: usize,
    devices: Vec<Device>,
    codes: Vec<Code>,
    families: Vec<Family>,
    /// `jti` of the assertions that were taken.
    assertions: HashSet<String>,
    counter: u32,
}

/// What Entra knows of an application's certificate, and which of its two forms of assertions it takes.
#[derive(Debug, Clone)]
pub struct Entra {
    /// DER
    pub certificate: Vec<u8>,
    /// RS256 and x5t, instead of PS256 and x5t#S256.
    pub is_old_form: bool,
}

/// Where a request for a token is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    Never,
    Before,
    After,
}

/// Instead of an answer.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// This HTTP status with a page for people.
    Status(u16),
    /// `error` and `error_description`.
    Refusal(&'static str, &'static str),
    /// `error`, with what was sent in these fields as its description.
    Echo(&'static str, &'static [&'static str]),
    /// 200 with something that is no JSON.
    Garbage,
    /// An answer of many megabytes.
    Huge,
    /// The connection is closed.
    Closed,
    /// The request is granted, and the answer gets lost: this comes in its place.
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

/// The tokens that come of one consent.
struct Family {
    user: String,
    refresh: String,
    rotated: Option<Instant>,
    /// Rotated, and good until what replaced it is used.
    previous: Option<String>,
    retired: Vec<String>,
    revoked: bool,
    access: Vec<(String, Instant)>,
}

impl Provider {
    /// Starts it with TLS on a free port.
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

    /// The address of one of its pages: `/token`, `/device`, `/authorize`.
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// What its clients have to trust.
    pub fn authority_file(&self) -> PathBuf {
        self.certificates.authority_file()
    }

    /// For the IMAP server that asks about tokens.
    pub fn registry(&self) -> Registry {
        Registry(self.shared.clone())
    }

    /// A client of its pages.
    pub fn client(&self) -> reqwest::Client {
        reqwest::Client::builder()
            .tls_backend_preconfigured(rustls_config(&self.certificates))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .unwrap()
    }

    /// Sends a browser's request, and returns its status, where it is sent on to, and the page.
    pub fn browse(&self, request: reqwest::RequestBuilder) -> (u16, Option<String>, String) {
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let location = answer.headers().get("location");
            let location = location.map(|location| location.to_str().unwrap().to_owned());
            (answer.status().as_u16(), location, answer.text().await.unwrap())
        })
    }

    /// A browser that was sent to the page at `url` consents there as `user`, or declines; where it is sent back to.
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

    /// What it knows, to be looked at or changed.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().unwrap()
    }

    /// How often tokens were asked for by this grant type.
    pub fn asked(&self, grant: &str) -> usize {
        self.book().asked.get(grant).copied().unwrap_or_default()
    }

    /// Waits until tokens were asked for by this grant type so often.
    pub fn wait_asked(&self, grant: &str, count: usize) {
        let has_come = |book: &Book| book.asked.get(grant).is_some_and(|asked| *asked >= count);
        self.wait_while(self.book(), |book| !has_come(book), "nobody asks for a token");
    }

    /// Waits until so many requests for tokens are held.
    pub fn wait_held(&self, count: usize) {
        self.wait_while(self.book(), |book| book.held < count, "nobody asks for a token");
    }

    /// Lets go what is held, and holds no more.
    pub fn release(&self) {
        let mut book = self.book();
        book.hold = Hold::Never;
        self.shared.released.notify_waiters();
        // Whoever is gone is noticed too.
        self.wait_while(book, |book| book.held > 0, "what is held does not end");
    }

    /// `complaint`: of what does not change.
    fn wait_while(&self, book: MutexGuard<'_, Book>, is_so: impl Fn(&Book) -> bool, complaint: &str) {
        let changed = &self.shared.changed;
        let waited = changed.wait_timeout_while(book, PATIENCE, |book| is_so(book));
        assert!(!waited.unwrap().1.timed_out(), "{complaint}");
    }

    /// Somebody has typed in this code and consents as `user`.
    pub fn approve(&self, user_code: &str, user: &str) {
        self.decide(user_code, Fate::Approved(user.into()));
    }

    /// Somebody declines.
    pub fn deny(&self, user_code: &str) {
        self.decide(user_code, Fate::Denied);
    }

    /// Nobody has typed it in.
    pub fn expire(&self, user_code: &str) {
        self.decide(user_code, Fate::Expired);
    }

    /// The next question for this code's token came too soon.
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

    /// Ends all access tokens of `user` before their time; their consents go on.
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

    /// A new family: its number and refresh token.
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

/// What an IMAP server knows of the provider's tokens.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

impl Registry {
    /// Whose mail the token opens; to use it retires the refresh token before the one that came along with it.
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

/// Unguessable enough for a test.
fn rand_u64() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
