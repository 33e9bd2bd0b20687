//! What popgate tells systemd, and what it gets from it: that it is ready, reloads or ends (sd_notify(3)), signs of life for
//! the watchdog, and sockets that systemd has opened (sd_listen_fds(3)). Elsewhere all of this does nothing.

use std::net::TcpListener;

#[cfg(target_os = "linux")]
use sd_notify::NotifyState;

/// Takes the TCP sockets that systemd has opened for this process. Call it once, before the first thread is started.
#[cfg(target_os = "linux")]
pub fn sockets() -> Vec<TcpListener> {
    let mut passed = listenfd::ListenFd::from_env();
    let sockets = (0..passed.len()).filter_map(|index| match passed.take_tcp_listener(index) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, "systemd passed a socket that is no use");
            None
        }
    });
    sockets.collect()
}

/// Devices are served; `status` is a sentence for `systemctl status`.
pub fn ready(status: &str) {
    #[cfg(target_os = "linux")]
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    #[cfg(not(target_os = "linux"))]
    let _ = status;
}

/// The configuration is being read again. [`ready`] must follow.
pub fn reloading() {
    // Without the time systemd would take the reload for a failed one (Type=notify-reload).
    #[cfg(target_os = "linux")]
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[
            NotifyState::Reloading,
            now,
            NotifyState::Status("reading the configuration"),
        ]);
    }
}

/// No device that comes now is served.
pub fn stopping() {
    #[cfg(target_os = "linux")]
    notify(&[
        NotifyState::Stopping,
        NotifyState::Status("draining: sessions under way go on until drain_seconds are over"),
    ]);
}

/// Gives signs of life for as long as it is polled, if systemd wants some (WatchdogSec=): it gets none if the runtime no longer
/// runs its tasks, and restarts the process.
pub async fn live() {
    #[cfg(target_os = "linux")]
    if let Some(patience) = sd_notify::watchdog_enabled() {
        let mut clock = tokio::time::interval(patience / 2);
        loop {
            clock.tick().await;
            // By way of another worker, if there is one: that the clock ticks proves the life of one only.
            if tokio::spawn(async {}).await.is_ok() {
                notify(&[NotifyState::Watchdog]);
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told anything");
    }
}

/// There is no systemd here.
#[cfg(not(target_os = "linux"))]
pub fn sockets() -> Vec<TcpListener> {
    Vec::new()
}
