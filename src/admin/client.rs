//! The other end of the socket: a command.

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

/// Why the gateway has not done what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket can't be reached.
    #[error("no gateway answers at {}: {source}{}", .socket.display(), advice(.source))]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke, or what came is not an answer.
    #[error("the gateway has not answered: {0}; its log says more")]
    Broken(io::Error),
    /// The gateway's own words.
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

/// A request that the gateway is answering. Dropped, it ends the answers.
#[derive(Debug)]
pub struct Asked(BufReader<UnixStream>);

/// Asks the gateway that uses `dir`.
pub async fn ask(dir: &Path, verb: &Verb) -> Result<Asked, Error> {
    let socket = dir.join(SOCKET);
    let connected = local_socket::connect(&socket).await;
    let mut stream = connected.map_err(|source| Error::Unreachable { socket, source })?;
    stream.write_all(&line(verb)).await.map_err(Error::Broken)?;
    Ok(Asked(BufReader::new(stream)))
}

impl Asked {
    /// The next answer, when it comes; `None` after the last one.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        // From our own gateway: as long as it likes.
        match receive(&mut self.0, u64::MAX).await.map_err(Error::Broken)? {
            Some(Said::Answer(answer)) => Ok(Some(answer)),
            Some(Said::Error(error)) => Err(Error::Refused(error)),
            Some(Said::End) => Ok(None),
            None => Err(Error::Broken(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}
