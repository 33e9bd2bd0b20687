//! Entry points for the fuzzers in `fuzz/`: a whole session, the parsers of AUTH's responses, and the PROXY header.

use std::{net::SocketAddr, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Service,
    command::DeviceMechanism,
    newcomers::Newcomers,
    permits::Permits,
    proxy::{self, Parsed},
    sasl,
    scram::ClientFirst,
    session::{self, Endpoint, Stop},
    summary::Summary,
};
use crate::{
    accounts::{Response, Signature},
    config::{Listener, ListenerTls},
};

/// Runs one session of a device at 127.0.0.1. A TLS handshake fails, because there is no certificate.
pub async fn session<S>(stream: S, listener: &Listener, service: Arc<Service>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let endpoint = Arc::new(Endpoint {
        tls: listener.tls,
        require_tls: listener.require_tls && listener.tls != ListenerTls::Off,
        apop: listener.apop,
        acceptor: None,
    });
    let peer = SocketAddr::from(([127, 0, 0, 1], 4000));
    let permit = Permits::new(&service.limits)
        .acquire(peer.ip())
        .expect("there is no other session");
    let newcomer = Newcomers::new(&service.limits).enter(peer.ip());
    session::run(
        stream,
        Summary::new(peer, "fuzz".into()),
        permit,
        newcomer,
        endpoint,
        service,
        Stop::default(),
    )
    .await;
}

/// Reads a PROXY header at the start of `octets`: its length and the device's address, if it is whole and well-formed.
///
/// # Panics
/// If the result depends on how many octets come at once.
pub fn proxy_header(octets: &[u8]) -> Option<(usize, Option<SocketAddr>)> {
    let mut known = Parsed::Incomplete;
    for end in 1..=octets.len() {
        let parsed = proxy::parse(&octets[..end]);
        match known {
            Parsed::Incomplete => known = parsed,
            Parsed::Header { .. } | Parsed::Malformed => assert_eq!(parsed, known, "at {end}"),
        }
        if let Parsed::Header { octets, .. } = known {
            assert!(octets <= end, "{octets} of {end}");
        }
    }
    match known {
        Parsed::Header { octets, device } => Some((octets, device)),
        Parsed::Incomplete | Parsed::Malformed => None,
    }
}

/// Reads the responses of an exchange; returns the login if they are well-formed.
pub fn read_responses(
    mechanism: DeviceMechanism,
    first: &[u8],
    second: &[u8],
    signature: &Signature,
) -> Option<Vec<u8>> {
    let first = sasl::decode(first).ok()?;
    match mechanism {
        DeviceMechanism::Plain => sasl::plain(&first).ok().map(|(login, _)| login),
        DeviceMechanism::Login => sasl::login(&first, &sasl::decode(second).ok()?)
            .ok()
            .map(|(login, _)| login),
        DeviceMechanism::CramMd5 => sasl::cram_md5(&first).ok().map(|(login, _)| login),
        DeviceMechanism::XOAuth2 => sasl::xoauth2(&first).ok().map(|(login, _)| login),
        DeviceMechanism::OAuthBearer => sasl::oauth_bearer(&first).ok().map(|(login, _)| login),
        DeviceMechanism::ScramSha256 => {
            let first = ClientFirst::parse(&first).ok()?;
            let login = first.login.clone();
            let asked = first.challenge("fuzzer", &[7; 16]);
            let text = asked.text().to_owned();
            assert!(text.starts_with("r=") && text.ends_with(",i=4096"));
            let Response::ScramSha256 { signed, .. } = asked.response(&sasl::decode(second).ok()?).ok()? else {
                unreachable!("another mechanism");
            };
            assert!(signed.contains(&text));
            assert!(super::scram::server_final(signature).starts_with("v="));
            Some(login)
        }
    }
}
