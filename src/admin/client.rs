//! The command's end of the socket.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::UnixStream,
};

use super::{SOCKET, Said, Verb};
use crate::local_socket::{self, line, receive};

/// Why the gateway has not carried out a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket cannot be reached.
    #[error("no gateway answers at {}: {source}{}", .socket.display(), advice(.source))]
    Unreachable { socket: PathBuf, source: io::Error },
    /// The connection broke, or what the gateway sent is not an answer.
    #[error("the gateway has not answered: {0}; its log says more")]
    Broken(io::Error),
    /// The gateway's own explanation.
    #[error("{0}")]
    Refused(String),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "\nhelp: is the gateway running, with this [state] dir and in this version?"
        }
        io::ErrorKind::PermissionDenied => "\nhelp: only the gateway's own user and root may ask it",
        _ => "",
    }
}

/// A request that the gateway is answering. Dropping it ends the answers.
#[derive(Debug)]
pub(crate) struct Asked(BufReader<UnixStream>);

/// Sends `verb` to the gateway whose `[state] dir` is `dir`.
pub(crate) async fn ask(dir: &Path, verb: &Verb) -> Result<Asked, Error> {
    let socket = dir.join(SOCKET);
    let connected = local_socket::connect(&socket).await;
    let mut stream = connected.map_err(|source| Error::Unreachable { socket, source })?;
    stream.write_all(&line(verb)).await.map_err(Error::Broken)?;
    Ok(Asked(BufReader::new(stream)))
}

impl Asked {
    /// Waits for the next answer; `None` after the last one.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        // The gateway is trusted, so its answer may have any length.
        match receive(&mut self.0, u64::MAX).await.map_err(Error::Broken)? {
            Some(Said::Answer(answer)) => Ok(Some(answer)),
            Some(Said::Error(error)) => Err(Error::Refused(error)),
            Some(Said::End) => Ok(None),
            None => Err(Error::Broken(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}
