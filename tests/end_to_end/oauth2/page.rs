//! The sign-in page, as a browser without JavaScript uses it.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Instant,
};

use reqwest::{
    Client, RequestBuilder, StatusCode,
    header::{self, HeaderMap},
};
use tokio::runtime::Runtime;

use super::{Lab, XOAUTH2, account, lets_in, refuses};
use crate::support::{
    PATIENCE,
    gateway::{Gateway, Setup},
    process::free_port,
    provider::TOKEN_MARK,
};

const ADMIN: &str = "the page's own";

/// A gateway with a page, and with an account whose login contains HTML.
fn with_page(setup: Setup, keys: &str) -> Gateway {
    setup
        .table(&account("<b>&\\\"fax", "adam", ""))
        .table(&format!(
            "[web]\naddress = \"127.0.0.1:0\"\nadmin_password = \"{ADMIN}\"\n{keys}"
        ))
        .start()
}

/// A browser at the page.
struct Browser {
    runtime: Runtime,
    client: Client,
    url: String,
    cookie: Option<String>,
}

/// A response.
struct Page {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Page {
    /// Where the browser is redirected.
    #[track_caller]
    fn location(&self) -> &str {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.text);
        self.headers[header::LOCATION].to_str().unwrap()
    }
}

impl Browser {
    fn new(lab: &Lab, gateway: &Gateway, path: &str) -> Self {
        let event = &gateway.events("the sign-in page is served", 1)[0];
        Self {
            runtime: Runtime::new().unwrap(),
            client: lab.provider.client(),
            url: format!("http://{}{path}", event["address"].as_str().unwrap()),
            cookie: None,
        }
    }

    fn send(&self, mut request: RequestBuilder) -> Page {
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        self.runtime.block_on(async {
            let response = request.send().await.unwrap();
            Page {
                status: response.status(),
                headers: response.headers().clone(),
                text: response.text().await.unwrap(),
            }
        })
    }

    fn get(&self, path: &str) -> Page {
        self.send(self.client.get(format!("{}{path}", self.url)))
    }

    #[track_caller]
    fn text(&self, path: &str) -> String {
        let page = self.get(path);
        assert_eq!(page.status, 200);
        page.text
    }

    fn post(&self, path: &str, form: &[(&str, &str)]) -> Page {
        self.send(self.client.post(format!("{}{path}", self.url)).form(form))
    }

    fn enter(&mut self) -> String {
        let entered = self.post("/login", &[("password", ADMIN)]);
        assert_eq!(entered.status, StatusCode::SEE_OTHER);
        let set = entered.headers[header::SET_COOKIE].to_str().unwrap().to_owned();
        self.cookie = Some(set.split(';').next().unwrap().to_owned());
        set
    }

    /// The CSRF token in the forms of this session.
    fn csrf(&self) -> String {
        let page = self.text("/");
        let (_, rest) = page.split_once("name=\"csrf\" value=\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    }
}

#[test]
fn only_with_its_password_and_its_own_forms() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let gateway = with_page(lab.by_code(), "");
    let mut browser = Browser::new(&lab, &gateway, "");
    for path in ["/", "/code", "/callback/lab?code=x&state=y", "/forget?login=pbx"] {
        assert_eq!(browser.get(path).location(), "/login", "{path}");
    }
    for path in ["/sign-in", "/forget"] {
        let form = [("csrf", ""), ("login", "pbx")];
        assert_eq!(browser.post(path, &form).location(), "/login", "{path}");
    }
    let wrong = browser.post("/login", &[("password", "guess")]);
    assert_eq!(wrong.status, StatusCode::FORBIDDEN);
    assert!(wrong.text.contains("Wrong password."));

    let set = browser.enter();
    assert!(
        set.contains("; HttpOnly; SameSite=Lax") && !set.contains("Secure"),
        "{set}"
    );
    let page = browser.get("/");
    let headers = &page.headers;
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    let provider = lab.provider.url("");
    assert_eq!(
        policy,
        format!(
            "default-src 'none'; style-src 'self'; form-action 'self' {provider}; frame-ancestors 'none'; base-uri 'none'"
        )
    );
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
    let page = page.text;
    assert!(
        page.contains("<h2>&lt;b&gt;&amp;&quot;fax</h2>") && page.contains("not signed in yet"),
        "{page}"
    );
    assert!(
        !page.contains("<script") && !page.contains("http:") && !page.contains("https:"),
        "{page}"
    );

    let csrf = browser.csrf();
    for form in [[("csrf", "guess"), ("login", "pbx")], [("csrf", ""), ("login", "pbx")]] {
        for path in ["/sign-in", "/forget", "/logout"] {
            assert_eq!(browser.post(path, &form).status, StatusCode::FORBIDDEN, "{path}");
        }
    }
    let foreign = browser
        .client
        .post(format!("{}/sign-in", browser.url))
        .header("sec-fetch-site", "cross-site")
        .form(&[("csrf", csrf.as_str()), ("login", "pbx")]);
    assert_eq!(browser.send(foreign).status, StatusCode::FORBIDDEN);
    let unknown = browser.post("/sign-in", &[("csrf", &csrf), ("login", "nobody")]);
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);

    assert_eq!(browser.post("/logout", &[("csrf", &csrf)]).location(), "/login");
    assert_eq!(browser.get("/").location(), "/login");
}

#[test]
fn by_a_browser_behind_a_proxy() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let gateway = with_page(lab.by_code(), "public_url = \"https://mail.example.org/pop/\"");
    refuses(&gateway, "pbx", "SYS/PERM");
    // Here the proxy does not remove its path from requests.
    let mut browser = Browser::new(&lab, &gateway, "/pop");
    let set = browser.enter();
    assert!(set.contains("; Path=/pop/; HttpOnly; SameSite=Lax; Secure"), "{set}");
    assert_eq!(browser.get("").location(), "/pop/");
    let csrf = browser.csrf();
    let form = [("csrf", csrf.as_str()), ("login", "pbx")];
    let sent = browser.post("/sign-in", &form);
    let url = sent.location();
    assert!(url.starts_with(&lab.provider.url("/authorize?")), "{url}");
    let back = lab.provider.consent(url, "eva", true);
    let back = back.strip_prefix("https://mail.example.org/pop").unwrap();
    assert!(back.starts_with("/callback/lab?"), "{back}");

    // The redirect is of no use in another browser, or with another `state`.
    let mut other = Browser::new(&lab, &gateway, "/pop");
    other.enter();
    assert_eq!(other.get(back).location(), "/pop/");
    assert!(other.text("/").contains("begin again"));
    browser.get(&back.replace("state=", "state=x"));
    assert!(browser.text("/").contains("begin again"));

    assert_eq!(browser.get(back).location(), "/pop/");
    let page = browser.text("/");
    assert!(page.contains("pbx is signed in: 3 messages of "), "{page}");
    assert!(
        page.contains("signed in on ") && page.contains("Sign in again"),
        "{page}"
    );
    assert!(!page.contains(TOKEN_MARK));
    // The sign-in works, once.
    browser.get(back);
    assert!(browser.text("/").contains("begin again"));
    lets_in(&gateway, "pbx");

    let question = browser.text("/forget?login=pbx");
    assert!(
        question.contains("Forget the consent for pbx?") && question.contains("Cancel"),
        "{question}"
    );
    lets_in(&gateway, "pbx");
    let forgotten = browser.post("/forget", &form);
    assert_eq!(forgotten.location(), "/pop/");
    assert!(browser.text("/").contains("pbx is forgotten"));
    refuses(&gateway, "pbx", "SYS/PERM");
}

#[test]
fn a_request_that_does_not_end_holds_no_shutdown_up() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let gateway = with_page(lab.by_code().limit("drain_seconds = 1"), "");
    let address = gateway.events("the sign-in page is served", 1)[0]["address"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut browser = TcpStream::connect(address).unwrap();
    browser
        .write_all(b"GET /style.css HTTP/1.1\r\nHost: x\r\n\r\nGET /style")
        .unwrap();
    // Since the first request was answered, the beginning of the second has arrived.
    browser.read_exact(&mut [0; 64]).unwrap();
    gateway.stop();
}

#[test]
fn by_a_code() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    lab.provider.book().interval = 0;
    let gateway = with_page(lab.by_device(), "");
    let mut browser = Browser::new(&lab, &gateway, "");
    browser.enter();
    let csrf = browser.csrf();
    for (user, says) in [
        ("adam", "the mailbox does not open"),
        ("eva", "pbx is signed in: 3 messages of "),
    ] {
        let form = [("csrf", csrf.as_str()), ("login", "pbx")];
        assert_eq!(browser.post("/sign-in", &form).location(), "/code");
        let page = browser.text("/code");
        assert!(page.contains("http-equiv=\"refresh\""), "{page}");
        assert!(
            page.contains("as <strong>eva</strong>. The code is good until <time>"),
            "{page}"
        );
        let (_, code) = page.split_once("<p class=\"code\">").unwrap();
        lab.provider.approve(code.split_once('<').unwrap().0, user);
        let begun = Instant::now();
        while browser.get("/code").status != StatusCode::SEE_OTHER {
            assert!(begun.elapsed() < PATIENCE, "the code is never taken");
        }
        let page = browser.text("/");
        assert!(page.contains(says), "{page}");
    }
    lets_in(&gateway, "pbx");
}

#[test]
fn a_provider_that_is_down_is_told_of() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let nowhere = free_port();
    let setup = lab.setup(&format!("device_url = \"http://127.0.0.1:{nowhere}/device\""));
    let gateway = with_page(setup, "");
    let mut browser = Browser::new(&lab, &gateway, "");
    browser.enter();
    let csrf = browser.csrf();
    let form = [("csrf", csrf.as_str()), ("login", "pbx")];
    assert_eq!(browser.post("/sign-in", &form).location(), "/");
    let page = browser.text("/");
    assert!(page.contains("pbx: the provider is not available"), "{page}");
    let style = browser.get("/style.css");
    assert_eq!(style.headers[header::CONTENT_TYPE], "text/css; charset=utf-8");
}

/// Another site can point its name at this server, and its pages can send the page's forms. Both are refused.
#[test]
fn under_its_own_names_and_from_its_own_pages_only() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let gateway = with_page(lab.by_code(), "public_url = \"https://mail.example.org/pop\"");
    let browser = Browser::new(&lab, &gateway, "");
    let get = |host: &str| {
        let request = browser
            .client
            .get(format!("{}/login", browser.url))
            .header(header::HOST, host);
        browser.send(request).status.as_u16()
    };
    assert_eq!(
        ["mail.example.org", "localhost:1", "evil.example", "10.1.2.3"].map(get),
        [200, 200, 421, 421]
    );
    let log_in = |origin: &str| {
        let request = browser
            .client
            .post(format!("{}/login", browser.url))
            .form(&[("password", ADMIN)]);
        browser.send(request.header(header::ORIGIN, origin)).status.as_u16()
    };
    assert_eq!(
        ["https://mail.example.org", "https://evil.example", "null"].map(log_in),
        [303, 403, 403]
    );
}

/// The parameter `iss` (RFC 9207), and a redirect URL for each provider (RFC 9700 §4.4), reveal an answer of another
/// provider.
#[test]
fn the_answer_of_another_provider_is_not_taken() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let gateway = with_page(lab.by_code(), "");
    let mut browser = Browser::new(&lab, &gateway, "");
    browser.enter();
    let csrf = browser.csrf();
    let sign_in = |issuer: Option<&'static str>, from: &str| {
        lab.provider.book().issuer = issuer;
        let sent = browser.post("/sign-in", &[("csrf", csrf.as_str()), ("login", "pbx")]);
        let back = lab.provider.consent(sent.location(), "eva", true);
        let (_, query) = back.split_once('?').unwrap();
        browser.get(&format!("/callback/{from}?{query}"));
        browser.text("/")
    };
    let own: &'static str = lab.provider.url("").leak();
    let foreign = "not of the provider that was asked";
    assert!(sign_in(Some("https://evil.example"), "lab").contains(foreign));
    assert!(sign_in(Some("nonsense"), "lab").contains(foreign));
    assert!(sign_in(None, "other").contains(foreign));
    assert!(sign_in(Some(own), "lab").contains("pbx is signed in"));
    assert_eq!(lab.provider.book().authorized["login_hint"], "eva");
}
