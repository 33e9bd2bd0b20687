//! The token endpoint: which requests get a token.

use std::time::{Duration, Instant};

use axum::{
    Json,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64URL},
};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde_json::{Value, json};

use super::{Book, CLIENT, CLIENT_SECRET, Entra, Fate, server::Fields};

const JWT_CLIENT: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// An error response (RFC 6749 §5.2).
pub fn refusal(error: &str, description: &str) -> Response {
    let body = Json(json!({ "error": error, "error_description": description }));
    (StatusCode::BAD_REQUEST, body).into_response()
}

pub fn token(book: &mut Book, headers: &HeaderMap, fields: &Fields) -> Response {
    let form = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    assert_eq!(form, Some(&b"application/x-www-form-urlencoded"[..]));
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let grant = field("grant_type");
    if grant != "urn:ietf:params:oauth:grant-type:jwt-bearer"
        && let Err(why) = client(book, grant, &field, basic(headers))
    {
        return refusal("invalid_client", &why);
    }
    let given = match grant {
        "urn:ietf:params:oauth:grant-type:device_code" => device(book, field("device_code")),
        "authorization_code" => code(book, &field),
        "refresh_token" => refresh(book, field("refresh_token")),
        "client_credentials" => Ok((book.family("*").0, None)),
        "urn:ietf:params:oauth:grant-type:jwt-bearer" => account(book, field("assertion")),
        _ => Err(("unsupported_grant_type", "no such grant".to_owned())),
    };
    match given {
        Ok((family, refresh)) => {
            let access = book.access(family);
            let mut answer = json!({ "access_token": access, "token_type": "Bearer" });
            if book.tells_lifetime {
                answer["expires_in"] = json!(book.lifetime);
            }
            if let Some(refresh) = refresh {
                answer["refresh_token"] = json!(refresh);
            }
            for (name, value) in book.oddities.as_object().into_iter().flatten() {
                answer[name] = value.clone();
            }
            answer.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            typed(book, answer)
        }
        Err((error, description)) => refusal(error, &description),
    }
}

/// A response with the content type that the test wants, else JSON.
pub fn typed(book: &Book, answer: Value) -> Response {
    match book.content_type {
        Some(content_type) => ([(header::CONTENT_TYPE, content_type)], answer.to_string()).into_response(),
        None => Json(answer).into_response(),
    }
}

/// The number of a family, and its refresh token if the response is to have it; or an error with its description.
type Given = Result<(usize, Option<String>), (&'static str, String)>;

/// Checks the application's proof: its secret, or an assertion that it has signed (RFC 7523 §3).
fn client<'a>(
    book: &mut Book,
    grant: &str,
    field: &impl Fn(&str) -> &'a str,
    basic: Option<String>,
) -> Result<(), String> {
    if let Some(basic) = basic {
        let is_right = basic == format!("{CLIENT}:{CLIENT_SECRET}") && field("client_secret").is_empty();
        return is_right
            .then_some(())
            .ok_or("another Authorization than expected".into());
    }
    if book.basic_only {
        return Err("only by the header Authorization".into());
    }
    if field("client_id") != CLIENT {
        return Err("no such application".into());
    }
    if !field("client_assertion").is_empty() {
        if field("client_assertion_type") != JWT_CLIENT {
            return Err("an assertion of which type?".into());
        }
        let claims = verified(book, field("client_assertion"))?;
        let is_own = claims["iss"] == CLIENT && claims["sub"] == CLIENT && claims["jti"].is_string();
        return is_own.then_some(()).ok_or("an assertion of somebody else".into());
    }
    match field("client_secret") {
        CLIENT_SECRET => Ok(()),
        "" if grant != "client_credentials" => Ok(()),
        _ => Err("the secret is wrong".into()),
    }
}

/// The content of HTTP Basic (RFC 6749 §2.3.1).
fn basic(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let octets = STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
    String::from_utf8(octets).ok()
}

/// Checks header and thumbprint as learn.microsoft.com/entra/identity-platform/certificate-credentials documents them.
fn as_entra_has_it(entra: &Entra, header: &Header) -> Result<(), String> {
    let sha = |algorithm| BASE64URL.encode(aws_lc_rs::digest::digest(algorithm, &entra.certificate));
    let (algorithm, x5t, x5t_s256) = if entra.is_old_form {
        let sha1 = sha(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
        (Algorithm::RS256, Some(sha1), None)
    } else {
        (Algorithm::PS256, None, Some(sha(&aws_lc_rs::digest::SHA256)))
    };
    let is_right = header.alg == algorithm
        && header.typ.as_deref() == Some("JWT")
        && header.x5t == x5t
        && header.x5t_s256 == x5t_s256
        && header.kid.is_none();
    is_right.then_some(()).ok_or(format!("AADSTS700027: {header:?}"))
}

/// The claims of an assertion (RFC 7523 §3). Its signature, audience and time must be right, it must name its key or
/// certificate, and must not have been used before.
fn verified(book: &mut Book, assertion: &str) -> Result<Value, String> {
    let key = book.public_key.clone().ok_or("no key is registered")?;
    let header = decode_header(assertion).map_err(|error| error.to_string())?;
    if let Some(entra) = &book.entra {
        as_entra_has_it(entra, &header)?;
    }
    let key = match header.alg {
        Algorithm::RS256 | Algorithm::PS256 => DecodingKey::from_rsa_pem(key.as_bytes()),
        Algorithm::ES256 => DecodingKey::from_ec_pem(key.as_bytes()),
        other => return Err(format!("{other:?} is not taken")),
    };
    let key = key.map_err(|error| error.to_string())?;
    if header.kid.is_none() && header.x5t_s256.is_none() && header.x5t.is_none() {
        return Err("which key?".into());
    }
    let mut validation = Validation::new(header.alg);
    validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
    validation.validate_aud = false;
    let claims = decode::<Value>(assertion, &key, &validation)
        .map_err(|error| error.to_string())?
        .claims;
    if !book
        .assertions
        .insert(claims["jti"].as_str().unwrap_or_default().to_owned())
    {
        return Err("an assertion is good for one use".into());
    }
    let audience = claims["aud"].as_str().unwrap_or_default();
    if audience.starts_with("https://localhost:") && audience.ends_with("/token") {
        Ok(claims)
    } else {
        Err(format!("{audience} is not me"))
    }
}

/// The grant by device code (RFC 8628 §3.5).
fn device(book: &mut Book, code: &str) -> Given {
    let device = book.devices.iter_mut().find(|device| device.code == code);
    let device = device.ok_or(("invalid_grant", "no such code".to_owned()))?;
    match device.fate.clone() {
        Fate::Pending => Err(("authorization_pending", String::new())),
        Fate::SlowDown => {
            device.fate = Fate::Pending;
            Err(("slow_down", String::new()))
        }
        Fate::Denied => Err(("access_denied", "the user declined".into())),
        Fate::Expired => Err(("expired_token", String::new())),
        Fate::Approved(user) => {
            // A code can be used once.
            device.code.clear();
            let (family, refresh) = book.family(&user);
            Ok((family, Some(refresh)))
        }
    }
}

/// The grant by authorization code (RFC 6749 §4.1.3, RFC 7636 §4.6).
fn code<'a>(book: &mut Book, field: &impl Fn(&str) -> &'a str) -> Given {
    let refused = |why: &str| ("invalid_grant", why.to_owned());
    let at = book.codes.iter().position(|code| code.code == field("code"));
    let code = book.codes.remove(at.ok_or(refused("no such code, or used twice"))?);
    if code.redirect != field("redirect_uri") {
        return Err(refused("another redirect_uri"));
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, field("code_verifier").as_bytes());
    if BASE64URL.encode(digest) != code.challenge {
        return Err(refused("the code_verifier does not fit"));
    }
    let (family, refresh) = book.family(&code.user);
    Ok((family, Some(refresh)))
}

/// The grant by refresh token (RFC 6749 §6, RFC 9700 §4.14.2).
fn refresh(book: &mut Book, token: &str) -> Given {
    let refused = || ("invalid_grant", "Token has been expired or revoked.".to_owned());
    for number in 0..book.families.len() {
        let family = &mut book.families[number];
        if family.retired.iter().any(|retired| retired == token) {
            family.revoked = true;
            return Err(refused());
        }
        let is_current = family.refresh == token;
        if !is_current && family.previous.as_deref() != Some(token) {
            continue;
        }
        let is_late = |grace: Duration| family.rotated.is_some_and(|rotated| rotated.elapsed() > grace);
        if !is_current && book.grace.is_some_and(is_late) {
            family.revoked = true;
            return Err(refused());
        }
        if family.revoked {
            return Err(refused());
        }
        if !book.rotates {
            return Ok((number, None));
        }
        let next = book.unique("refresh");
        let family = &mut book.families[number];
        if is_current {
            family.rotated = Some(Instant::now());
            family.retired.extend(family.previous.take());
            family.previous = Some(std::mem::replace(&mut family.refresh, next.clone()));
        } else {
            // The token that replaced this one was never used, so it never reached the client.
            let lost = std::mem::replace(&mut family.refresh, next.clone());
            family.retired.push(lost);
        }
        return Ok((number, Some(next)));
    }
    Err(refused())
}

/// The grant by assertion of a service account (RFC 7523 §2.1).
fn account(book: &mut Book, assertion: &str) -> Given {
    let claims = verified(book, assertion).map_err(|why| ("invalid_grant", why))?;
    match (claims["sub"].as_str(), claims["scope"].as_str()) {
        (Some(user), Some(_)) => Ok((book.family(user).0, None)),
        _ => Err(("invalid_scope", "for whom, and for what?".into())),
    }
}
