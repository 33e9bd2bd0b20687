//! Connections to the page: so many at once, of them so many from one address, and none for long. What a browser leaves open
//! must not take the files that POP3 sessions need.

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
use crate::types::Places;

/// Connections at once; who comes further waits for one that ends.
const MOST: usize = 64;
/// From one address; further ones are closed at once, so that they keep nobody else waiting. A proxy is one address.
const MOST_OF_ONE: usize = 32;
/// Until the head of a request is here, the next one's too.
const PATIENCE: Duration = Duration::from_secs(30);
/// Until a connection is closed whatever goes on: some pages, and many times what a form that is sent slowly takes.
const LONGEST: Duration = Duration::from_secs(600);
/// Before the next try to accept, where the system has failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves until `shutdown`, and then until what was asked is answered.
pub(super) async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let connections = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(MOST));
    let places = Places::new(MOST_OF_ONE);
    let accepting = async {
        // It is never closed.
        while let Ok(permit) = permits.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let address = peer.ip().to_canonical();
                    let Some(place) = places.take(address) else {
                        continue;
                    };
                    let router = router.clone().layer(Extension(Peer(address)));
                    let service = TowerToHyperService::new(router);
                    let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
                    tokio::spawn(async move {
                        // How it ended concerns the browser.
                        let _ = timeout(LONGEST, connection).await;
                        drop((permit, place));
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the sign-in page");
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
