//! Unix sockets in the gateway's directory, for other processes of the same user. Both sides send lines with one JSON
//! value each.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt},
    net::{UnixListener, UnixStream},
};
use tokio_util::sync::CancellationToken;

/// How often to try again if nobody listens at the socket, and the pause before each try: one second in all.
const CONNECTS: u32 = 20;
const BETWEEN_CONNECTS: Duration = Duration::from_millis(50);
/// The most connections that wait to be accepted.
const BACKLOG: i32 = 16;
/// The pause after the system has failed to accept a connection.
const PAUSE: Duration = Duration::from_secs(1);

/// Passes each connection at the socket `path` to `converse`, until `shutdown`; then removes the socket. Fails if the
/// socket cannot be made.
pub(crate) async fn serve<F>(
    path: &Path,
    shutdown: &CancellationToken,
    converse: impl Fn(UnixStream) -> F,
) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = bind(path)?;
    tracing::debug!(path = %path.display(), "other processes can ask");
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(converse(stream))),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "can't accept connections of other processes, waiting");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    shutdown.run_until_cancelled(accepting).await;
    let _ = fs::remove_file(path);
    Ok(())
}

/// Makes the socket for the gateway's user only, even in a directory that other users may enter: nobody can connect
/// before the socket listens, and by then its mode is set.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        // A gateway that was killed has left its socket behind.
        _ => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket.into())
}

/// Connects to the socket `path`. If it is missing or nobody listens there, tries again for a second, because a process
/// that is just starting may not have made it yet.
pub(crate) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let mut tries = 0;
    loop {
        match UnixStream::connect(path).await {
            Err(error)
                if tries < CONNECTS
                    && matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                tries += 1;
                tokio::time::sleep(BETWEEN_CONNECTS).await;
            }
            connected => return connected,
        }
    }
}

/// `value` as a line of JSON.
pub(crate) fn line<T: Serialize>(value: &T) -> Vec<u8> {
    // Writing to memory, with strings as keys, cannot fail.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Reads a line as JSON; `None` at the end of the stream. Fails if the line, with its line end, has more than `longest`
/// octets.
pub(crate) async fn receive<T: DeserializeOwned>(
    stream: &mut (impl AsyncBufRead + Unpin),
    longest: u64,
) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    if stream.take(longest).read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    match line.pop() {
        Some(b'\n') => Ok(Some(serde_json::from_slice(&line)?)),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
