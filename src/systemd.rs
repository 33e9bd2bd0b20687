//! Tells systemd that popgate is ready, reloads, stops, or is alive (sd_notify(3)). Takes sockets that systemd has
//! already opened (sd_listen_fds(3)). Without systemd all of this does nothing.

use std::net::TcpListener;

#[cfg(target_os = "linux")]
use sd_notify::NotifyState;

/// Takes the TCP sockets that systemd has opened for this process. Call it once, before the first thread starts.
#[cfg(target_os = "linux")]
pub(crate) fn sockets() -> Vec<TcpListener> {
    let mut passed = listenfd::ListenFd::from_env();
    let sockets = (0..passed.len()).filter_map(|index| match passed.take_tcp_listener(index) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, "systemd passed a socket that popgate cannot use");
            None
        }
    });
    sockets.collect()
}

/// Tells systemd that devices are served. `status` is a sentence for `systemctl status`.
pub(crate) fn ready(status: &str) {
    #[cfg(target_os = "linux")]
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    #[cfg(not(target_os = "linux"))]
    let _ = status;
}

/// Tells systemd that the configuration is being read again. [`ready`] must follow.
pub(crate) fn reloading() {
    // Without the time, systemd would consider the reload failed (Type=notify-reload).
    #[cfg(target_os = "linux")]
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[
            NotifyState::Reloading,
            now,
            NotifyState::Status("reading the configuration"),
        ]);
    }
}

/// Tells systemd that new devices are no longer served.
pub(crate) fn stopping() {
    #[cfg(target_os = "linux")]
    notify(&[
        NotifyState::Stopping,
        NotifyState::Status("draining: sessions under way go on until drain_seconds are over"),
    ]);
}

/// Sends signals to systemd's watchdog for as long as this future is polled, if systemd wants them (WatchdogSec=). If
/// the runtime no longer runs its tasks, the signals stop and systemd restarts the process.
pub(crate) async fn live() {
    #[cfg(target_os = "linux")]
    if let Some(patience) = sd_notify::watchdog_enabled() {
        let mut clock = tokio::time::interval(patience / 2);
        loop {
            clock.tick().await;
            // The tick proves that one worker of the runtime is alive. A spawned task may run on another worker.
            if tokio::spawn(async {}).await.is_ok() {
                notify(&[NotifyState::Watchdog]);
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "popgate cannot report its state to systemd");
    }
}

/// Other systems have no systemd.
#[cfg(not(target_os = "linux"))]
pub fn sockets() -> Vec<TcpListener> {
    Vec::new()
}
