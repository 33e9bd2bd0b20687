//! Rules for every page: the host names under which it is served, the sites whose forms are accepted, and the headers
//! that restrict browsers.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use oauth2::url::Url;

use super::AppState;
use crate::{config::Grant, sign_in::SignIns};

pub(super) struct Guard {
    /// Name and port of `public_url`, as in a `Host` header.
    public_host: Option<String>,
    /// Scheme, name and port of `public_url`, as in an `Origin` header.
    public_origin: Option<String>,
    policy: HeaderValue,
}

impl Guard {
    pub(super) fn new(public_url: Option<&str>, sign_ins: &SignIns) -> Self {
        let url = public_url.and_then(|url| Url::parse(url).ok());
        let host = url.as_ref().and_then(|url| {
            let host = url.host_str()?;
            Some(url.port().map_or(host.to_owned(), |port| format!("{host}:{port}")))
        });
        Self {
            public_host: host,
            public_origin: url.map(|url| url.origin().ascii_serialization()),
            policy: content_security_policy(sign_ins),
        }
    }

    /// The same guard, with the content security policy for other sign-ins.
    pub(super) fn with(&self, sign_ins: &SignIns) -> Self {
        Self {
            public_host: self.public_host.clone(),
            public_origin: self.public_origin.clone(),
            policy: content_security_policy(sign_ins),
        }
    }

    /// Whether the `Host` header `host` is a name of this page. Another site can point its own name at the gateway's
    /// address, and then the other site's pages can read this one (DNS rebinding). An address in `Host` cannot be
    /// abused in this way; with a `public_url`, only loopback addresses are accepted nevertheless.
    fn is_our_name(&self, host: &str) -> bool {
        if self
            .public_host
            .as_deref()
            .is_some_and(|ours| ours.eq_ignore_ascii_case(host))
        {
            return true;
        }
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) => name,
            _ => host,
        };
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        address.is_ok_and(|address| self.public_host.is_none() || address.to_canonical().is_loopback())
    }

    /// Whether a browser sends this form for a page of another site.
    fn is_foreign(&self, headers: &HeaderMap, host: &str, is_login: bool) -> bool {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let site = text("sec-fetch-site");
        if site.is_some_and(|site| site != "same-origin" && site != "none") {
            return true;
        }
        match text("origin") {
            None => false,
            // Browsers send "null" for pages with "no-referrer", which all pages here have except the login page.
            Some("null") => is_login && site.is_none(),
            Some(origin) => {
                let is_public = self.public_origin.as_deref() == Some(origin);
                !is_public
                    && !origin
                        .strip_prefix("http://")
                        .is_some_and(|name| name.eq_ignore_ascii_case(host))
            }
        }
    }
}

/// The content security policy: it allows only the page's own style sheet. Forms may lead to the providers as well,
/// because Chromium also checks the redirects that answer a form.
fn content_security_policy(sign_ins: &SignIns) -> HeaderValue {
    let mut origins: Vec<String> = sign_ins
        .candidates()
        .filter_map(|candidate| match &candidate.oauth2.grant {
            Grant::Code { authorize_url } => Url::parse(authorize_url).ok(),
            _ => None,
        })
        .map(|url| url.origin().ascii_serialization())
        .collect();
    origins.sort();
    origins.dedup();
    let policy = format!(
        "default-src 'none'; style-src 'self'; form-action 'self' {}; frame-ancestors 'none'; base-uri 'none'",
        origins.join(" ")
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

pub(super) async fn guarded(State(app): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    let guard = &app.guard;
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.unwrap_or_default().to_owned();
    let is_login = request.uri().path().ends_with("/login");
    let mut response = if !guard.is_our_name(&host) {
        let text = "This page is not served under this name. Its own is public_url of [web] in the configuration.";
        (StatusCode::MISDIRECTED_REQUEST, text).into_response()
    } else if request.method() != Method::GET && guard.is_foreign(request.headers(), &host, is_login) {
        StatusCode::FORBIDDEN.into_response()
    } else {
        next.run(request).await
    };
    // On a page with "no-referrer", browsers do not send the origin of a form. The login form must send it, because it
    // is checked.
    let referrer = if is_login { "same-origin" } else { "no-referrer" };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, guard.policy.clone());
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, referrer),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn guard(public_url: Option<&str>) -> Guard {
        let text = "[upstream.home]\nhost = \"imap.example.org\"\nlogins = [\"*\"]\n";
        let config = Config::parse(text, Path::new("")).unwrap();
        Guard::new(public_url, &SignIns::new(&config))
    }

    #[test]
    fn only_our_own_names_are_answered() {
        let public = guard(Some("https://mail.example.org/pop"));
        for ours in [
            "mail.example.org",
            "MAIL.example.org",
            "localhost:8080",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:8080",
            "[::1]",
        ] {
            assert!(public.is_our_name(ours), "{ours}");
        }
        for other in [
            "",
            "evil.example",
            "mail.example.org:8080",
            "mail.example.org.evil.example",
            "10.0.0.1:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
        ] {
            assert!(!public.is_our_name(other), "{other}");
        }
        let private = guard(None);
        assert!(private.is_our_name("10.0.0.1:8080") && private.is_our_name("[2001:db8::1]:80"));
        assert!(!private.is_our_name("evil.example") && !private.is_our_name("evil.example:8080"));
        assert!(guard(Some("http://box.local:8080")).is_our_name("box.local:8080"));
    }

    #[test]
    fn forms_of_other_sites_are_refused() {
        let guard = guard(Some("https://mail.example.org/pop"));
        let is_foreign = |fields: &[(&'static str, &str)], is_login| {
            let field = |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().unwrap());
            guard.is_foreign(&fields.iter().map(field).collect(), "127.0.0.1:8080", is_login)
        };
        for (fields, expected) in [
            (&[][..], false),
            (&[("origin", "https://mail.example.org")], false),
            (&[("origin", "http://127.0.0.1:8080")], false),
            (&[("origin", "http://mail.example.org")], true),
            (&[("origin", "https://evil.example")], true),
            (&[("origin", "http://127.0.0.1:9090")], true),
            (&[("origin", "null")], true),
            (&[("origin", "null"), ("sec-fetch-site", "same-origin")], false),
            (&[("origin", "null"), ("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "none")], false),
        ] {
            assert_eq!(is_foreign(fields, true), expected, "{fields:?}");
        }
        assert!(
            !is_foreign(&[("origin", "null")], false),
            "our own pages tell no origin"
        );
    }
}
