//! Accepts the connections of a server that runs in the test itself.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use super::stream::Stream;

/// A listening socket on 127.0.0.1; closed when dropped.
pub struct Listener {
    address: SocketAddr,
    closed: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Listener {
    /// Calls `serve` with each connection and its number, from 0. The next connection is accepted when `serve` has
    /// returned.
    pub fn start(mut serve: impl FnMut(usize, Stream) + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let closed = Arc::new(AtomicBool::new(false));
        let accepting = std::thread::spawn({
            let closed = closed.clone();
            move || {
                for (index, tcp) in listener.incoming().enumerate() {
                    if closed.load(Ordering::SeqCst) {
                        return;
                    }
                    if let Ok(stream) = tcp.and_then(Stream::accept) {
                        serve(index, stream);
                    }
                }
            }
        });
        Self {
            address,
            closed,
            accepting: Some(accepting),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        drop(Stream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}
