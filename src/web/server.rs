//! Accepts connections to the page. Their number, their number from one address and their duration are limited:
//! connections that browsers leave open must not take the file descriptors that POP3 sessions need.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;

use super::guesses::Peer;
use crate::types::AddressLimiter;

/// The most connections at once. A further one waits until one of them ends.
const MOST: usize = 64;
/// The most connections at once from one address (of IPv6: one /64). Further ones are closed immediately, so that no
/// other address waits for them. It is a quarter of [`MOST`], so that three of these leave room for probes, and enough
/// for a proxy, which is one address.
const MOST_OF_ONE: usize = 16;
/// How long a client may take to send the head of a request, the first one and each further one.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection may last in all: enough for some pages, and for a form that is sent very slowly.
const LONGEST: Duration = Duration::from_secs(600);
/// The pause after the system has failed to accept a connection.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves until `shutdown`; requests that came before it are still answered.
pub(super) async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let connections = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(MOST));
    let limiter = AddressLimiter::new(MOST_OF_ONE);
    let accepting = async {
        // The semaphore is never closed.
        while let Ok(permit) = permits.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let address = peer.ip().to_canonical();
                    let Some(address_permit) = limiter.acquire(address) else {
                        continue;
                    };
                    let router = router.clone().layer(Extension(Peer(address)));
                    let service = TowerToHyperService::new(router);
                    let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
                    tokio::spawn(async move {
                        // Errors of the connection concern only the browser.
                        let _ = timeout(LONGEST, connection).await;
                        drop((permit, address_permit));
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the sign-in page cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = accepting => {}
    }
    connections.shutdown().await;
}
