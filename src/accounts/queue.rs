//! The queue for the computation of hashes: a few run at once, and the addresses that wait take turns.
//!
//! Addresses without recent failures come before those with failures. Whether a login exists makes no difference: otherwise the
//! order of the answers would reveal which logins exist.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// Gives out a fixed number of places, and queues the sessions that wait for one.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// The queue of addresses without failures, then that of addresses with failures.
    queues: [RoundRobin; 2],
}

/// The addresses that wait, in the order of their turns, and the sessions that wait at each address.
#[derive(Debug, Default)]
struct RoundRobin {
    turns: VecDeque<IpAddr>,
    waiting: HashMap<IpAddr, VecDeque<oneshot::Sender<()>>>,
}

/// A place in use. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct QueuePermit(Arc<Queue>);

/// A session that waits for a place. Dropping it gives up its turn.
#[derive(Debug)]
struct QueuedSession {
    queue: Arc<Queue>,
    called: oneshot::Receiver<()>,
    is_done: bool,
}

impl Queue {
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                free: places,
                queues: Default::default(),
            }),
        })
    }

    /// Waits until it is the turn of `address`, and returns a place. If a login from this address has failed lately
    /// (`is_suspect`), addresses without failures go first.
    pub(super) async fn acquire(self: &Arc<Self>, address: IpAddr, is_suspect: bool) -> QueuePermit {
        let mut waiting = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return QueuePermit(self.clone());
            }
            QueuedSession {
                queue: self.clone(),
                called: state.queues[usize::from(is_suspect)].enter(address),
                is_done: false,
            }
        };
        // The queue drops the sender only after it has sent the call.
        let _ = (&mut waiting.called).await;
        waiting.is_done = true;
        QueuePermit(self.clone())
    }

    /// Gives a place that is no longer used to the next session, or frees it if no session waits.
    fn release(&self) {
        let mut state = self.lock();
        if !state.queues.iter_mut().any(RoundRobin::call) {
            state.free += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RoundRobin {
    fn enter(&mut self, address: IpAddr) -> oneshot::Receiver<()> {
        let (call, called) = oneshot::channel();
        let here = self.waiting.entry(address).or_default();
        if here.is_empty() {
            self.turns.push_back(address);
        }
        here.push_back(call);
        called
    }

    /// Calls the next session that still waits; `false` if none does.
    fn call(&mut self) -> bool {
        while let Some(address) = self.turns.pop_front() {
            let Some(mut here) = self.waiting.remove(&address) else {
                continue;
            };
            let mut is_called = false;
            while let Some(next) = here.pop_front() {
                if next.send(()).is_ok() {
                    is_called = true;
                    break;
                }
            }
            if !here.is_empty() {
                self.waiting.insert(address, here);
                self.turns.push_back(address);
            }
            if is_called {
                return true;
            }
        }
        false
    }
}

impl Drop for QueuePermit {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Drop for QueuedSession {
    fn drop(&mut self) {
        self.called.close();
        // The session was called, but was dropped before it was polled again: the next session gets its place.
        if !self.is_done && self.called.try_recv().is_ok() {
            self.queue.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::FutureExt;

    use super::*;

    type Wait = Pin<Box<dyn Future<Output = QueuePermit>>>;

    /// Enters the queue of `address`. All places must be in use.
    fn wait(queue: &Arc<Queue>, address: u8, is_suspect: bool) -> Wait {
        let queue = queue.clone();
        let mut wait: Wait = Box::pin(async move { queue.acquire([10, 0, 0, address].into(), is_suspect).await });
        assert!(wait.as_mut().now_or_never().is_none(), "there is no place");
        wait
    }

    /// Frees `first` and then each place that was given out; returns the addresses in the order in which they got a place.
    fn order(first: QueuePermit, mut waits: Vec<(u8, Wait)>) -> Vec<u8> {
        let (mut order, mut permit) = (Vec::new(), Some(first));
        while !waits.is_empty() {
            drop(permit.take());
            let at = waits
                .iter_mut()
                .position(|(_, wait)| match wait.as_mut().now_or_never() {
                    Some(next) => {
                        permit = Some(next);
                        true
                    }
                    None => false,
                });
            order.push(waits.remove(at.expect("somebody is called")).0);
        }
        order
    }

    #[tokio::test]
    async fn each_address_in_its_turn() {
        let queue = Queue::new(1);
        let permit = queue.acquire([10, 0, 0, 9].into(), false).await;
        let waits = [1, 1, 1, 1, 2, 3, 3].map(|address| (address, wait(&queue, address, false)));
        assert_eq!(order(permit, waits.into()), [1, 2, 3, 1, 3, 1, 1]);
        assert_eq!(queue.lock().free, 1);
        assert!(queue.lock().queues.iter().all(|queue| queue.waiting.is_empty()));
    }

    #[tokio::test]
    async fn addresses_with_failures_come_last() {
        let queue = Queue::new(1);
        let permit = queue.acquire([10, 0, 0, 9].into(), false).await;
        let waits = [(1, true), (1, true), (2, false), (1, true), (3, false)]
            .map(|(address, is_suspect)| (address, wait(&queue, address, is_suspect)));
        assert_eq!(order(permit, waits.into()), [2, 3, 1, 1, 1]);
    }

    #[tokio::test]
    async fn who_is_gone_has_no_turn() {
        let queue = Queue::new(2);
        let permits = [
            queue.acquire([10, 0, 0, 9].into(), false).await,
            queue.acquire([10, 0, 0, 9].into(), false).await,
        ];
        let mut waits = [1, 1, 2, 3].map(|address| Some(wait(&queue, address, false)));
        waits[0] = None;
        waits[3] = None;
        drop(permits);
        assert!(waits[1].take().unwrap().now_or_never().is_some());
        // This session was called, but is dropped before it is polled again.
        waits[2] = None;
        assert_eq!(queue.lock().free, 2);
        assert!(queue.lock().queues.iter().all(|queue| queue.turns.is_empty()));
    }
}
