//! The pages of the provider.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Form, Json, Router,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use oauth2::url::form_urlencoded;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

use super::{CLIENT, Code, Device, Fate, Hold, Shared, Trouble, grants};

pub type Fields = std::collections::HashMap<String, String>;

/// Accepts connections with TLS.
pub struct Tls {
    pub tcp: TcpListener,
    pub acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if let Ok((tcp, address)) = self.tcp.accept().await
                && let Ok(stream) = self.acceptor.accept(tcp).await
            {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

pub async fn start(shared: Arc<Shared>, config: Arc<ServerConfig>) -> SocketAddr {
    let tcp = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = tcp.local_addr().unwrap();
    let router = Router::new()
        .route("/device", post(device))
        .route("/token", post(token))
        .route("/authorize", get(authorize))
        .route("/consent", post(consent))
        .route("/revoke", post(revoke))
        .with_state(shared);
    let acceptor = TlsAcceptor::from(config);
    tokio::spawn(async move { axum::serve(Tls { tcp, acceptor }, router).await });
    address
}

/// The device authorization endpoint (RFC 8628 §3.2).
async fn device(State(shared): State<Arc<Shared>>, Form(fields): Form<Fields>) -> Response {
    if fields.get("client_id").map(String::as_str) != Some(CLIENT) || !fields.contains_key("scope") {
        return grants::refusal("invalid_client", "no such application");
    }
    let mut book = shared.book.lock().unwrap();
    let code = book.unique("device");
    let user_code = format!("WXYZ-{:04}", book.counter);
    book.devices.push(Device {
        code: code.clone(),
        user_code: user_code.clone(),
        fate: Fate::Pending,
    });
    let mut answer = json!({
        "device_code": code, "user_code": user_code, "verification_uri": "https://provider.test/device",
        "verification_uri_complete": format!("https://provider.test/device?code={user_code}"), "expires_in": 900,
        "interval": book.interval,
    });
    for (name, value) in book.device_oddities.as_object().into_iter().flatten() {
        answer[name] = value.clone();
    }
    answer.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    grants::typed(&book, answer)
}

/// The revocation endpoint (RFC 7009 §2.1).
async fn revoke(State(shared): State<Arc<Shared>>, Form(fields): Form<Fields>) -> Response {
    shared.book.lock().unwrap().revoked.push(fields["token"].clone());
    StatusCode::OK.into_response()
}

async fn token(State(shared): State<Arc<Shared>>, headers: HeaderMap, Form(fields): Form<Fields>) -> Response {
    let grant = fields.get("grant_type").cloned().unwrap_or_default();
    let trouble = {
        let mut book = shared.book.lock().unwrap();
        *book.asked.entry(grant).or_default() += 1;
        shared.changed.notify_all();
        book.troubles.pop_front()
    };
    held(&shared, Hold::Before).await;
    let answer = match trouble {
        Some(Trouble::Lost(instead)) => {
            drop(grants::token(&mut shared.book.lock().unwrap(), &headers, &fields));
            troubled(*instead, &fields)
        }
        Some(trouble) => troubled(trouble, &fields),
        None => grants::token(&mut shared.book.lock().unwrap(), &headers, &fields),
    };
    held(&shared, Hold::After).await;
    answer
}

async fn held(shared: &Shared, place: Hold) {
    let released = shared.released.notified();
    tokio::pin!(released);
    // From here on, no release is missed.
    released.as_mut().enable();
    {
        let mut book = shared.book.lock().unwrap();
        if book.hold != place {
            return;
        }
        book.held += 1;
        shared.changed.notify_all();
    }
    let _held = Held(shared);
    released.await;
}

/// Counts a request as held until it is released, or its client has gone.
struct Held<'a>(&'a Shared);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.book.lock().unwrap().held -= 1;
        self.0.changed.notify_all();
    }
}

fn troubled(trouble: Trouble, fields: &Fields) -> Response {
    match trouble {
        Trouble::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap();
            (status, Html("<h1>Something went wrong on our side</h1>")).into_response()
        }
        Trouble::Refusal(error, description) => grants::refusal(error, description),
        Trouble::Echo(error, names) => {
            let sent: Vec<_> = names
                .iter()
                .map(|name| format!("invalid {name}: {}", fields[*name]))
                .collect();
            grants::refusal(error, &sent.join(", "))
        }
        Trouble::Garbage => ([(header::CONTENT_TYPE, "application/json")], "{\"access_token\": ").into_response(),
        Trouble::Huge => vec![b' '; 8 * 1024 * 1024].into_response(),
        Trouble::Closed | Trouble::Lost(_) => panic!("a handler that ends so closes its connection"),
        Trouble::ErrorIn200(error, description) => {
            Json(json!({ "error": error, "error_description": description })).into_response()
        }
    }
}

/// The authorization endpoint (RFC 6749 §4.1.1, with RFC 7636 §4.3): a page to consent at.
async fn authorize(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    let fields: Fields = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .into_owned()
        .collect();
    let is = |name: &str, value: &str| fields.get(name).is_some_and(|found| found == value);
    let has = |name: &str| fields.get(name).is_some_and(|found| found.len() >= 16);
    if !is("response_type", "code") || !is("client_id", CLIENT) || !is("code_challenge_method", "S256") {
        return (StatusCode::BAD_REQUEST, "what is this?").into_response();
    }
    if !has("state") || !has("code_challenge") || !has("redirect_uri") || !fields.contains_key("scope") {
        return (StatusCode::BAD_REQUEST, "something is missing").into_response();
    }
    {
        let mut book = shared.book.lock().unwrap();
        if !book.redirects.is_empty() && !book.redirects.contains(&fields["redirect_uri"]) {
            return (StatusCode::BAD_REQUEST, "redirect_uri does not match").into_response();
        }
        book.authorized = fields.clone();
    }
    let hidden: String = ["state", "code_challenge", "redirect_uri"]
        .map(|name| format!("<input type=hidden name={name} value=\"{}\">", fields[name]))
        .concat();
    Html(format!(
        "<!doctype html><title>Provider</title><form method=post action=/consent>{hidden}\
         <input name=user value=\"\"><button name=answer value=allow>Allow</button>\
         <button name=answer value=deny>Deny</button></form>"
    ))
    .into_response()
}

/// Sends the browser back with the answer (RFC 6749 §4.1.2).
async fn consent(State(shared): State<Arc<Shared>>, Form(fields): Form<Fields>) -> Response {
    let mut back = oauth2::url::Url::parse(&fields["redirect_uri"]).unwrap();
    back.query_pairs_mut().append_pair("state", &fields["state"]);
    if let Some(issuer) = shared.book.lock().unwrap().issuer {
        back.query_pairs_mut().append_pair("iss", issuer);
    }
    if fields["answer"] == "allow" {
        let mut book = shared.book.lock().unwrap();
        let code = book.unique("code");
        back.query_pairs_mut().append_pair("code", &code);
        book.codes.push(Code {
            code,
            user: fields["user"].clone(),
            challenge: fields["code_challenge"].clone(),
            redirect: fields["redirect_uri"].clone(),
        });
    } else {
        back.query_pairs_mut().append_pair("error", "access_denied");
    }
    Redirect::to(back.as_str()).into_response()
}
