//! The gateway's end of the socket.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{SOCKET, Said, Verb};
use crate::local_socket::{self, line, receive};

/// The longest request, in octets.
const LONGEST: u64 = 64 * 1024;
/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// Carries out requests.
#[async_trait]
pub(crate) trait Verbs: Send + Sync + 'static {
    /// Carries out `verb`, and sends the answers. The error is a text for the command's user that says what to do. The
    /// future is dropped if the command closes the connection: work that must not be left half done runs in a task of
    /// its own.
    async fn carry_out(self: Arc<Self>, verb: Verb, answers: &mut Answers) -> Result<(), String>;
}

/// Sends answers to the command.
#[derive(Debug)]
pub(crate) struct Answers(OwnedWriteHalf);

impl Answers {
    /// Sends one answer. Waits while the command does not read; fails if the command is gone.
    pub(crate) async fn send<T: Serialize + Sync>(&mut self, answer: &T) -> Result<(), String> {
        self.write(&Said::Answer(answer)).await
    }

    async fn write<T: Serialize + Sync>(&mut self, value: &Said<T>) -> Result<(), String> {
        let written = self.0.write_all(&line(value)).await;
        written.map_err(|error| error.to_string())
    }
}

/// Carries out requests at the socket in `dir` until `shutdown`. If the socket cannot be made, this is logged, and only
/// the commands are missing.
pub(crate) async fn serve(verbs: Arc<impl Verbs>, dir: &Path, shutdown: CancellationToken) {
    let path = dir.join(SOCKET);
    let converse = |stream| converse(stream, verbs.clone(), shutdown.clone());
    if let Err(error) = local_socket::serve(&path, &shutdown, converse).await {
        tracing::warn!(path = %path.display(), %error, "commands such as popgate reload cannot reach this gateway");
    }
}

/// Receives one request and answers it.
async fn converse(stream: UnixStream, verbs: Arc<impl Verbs>, shutdown: CancellationToken) {
    let (input, output) = stream.into_split();
    let (mut input, mut answers) = (BufReader::new(input), Answers(output));
    let outcome = match timeout(PATIENCE, receive(&mut input, LONGEST)).await {
        Ok(Ok(Some(verb))) => {
            tokio::select! {
                outcome = verbs.clone().carry_out(verb, &mut answers) => outcome,
                () = closed(&mut input) => return,
                () = shutdown.cancelled() => Err("the gateway shuts down".to_owned()),
            }
        }
        Ok(Err(error)) => Err(format!("not a request that this version of popgate knows: {error}")),
        Ok(Ok(None)) | Err(_) => return,
    };
    let last = match outcome {
        Ok(()) => Said::<()>::End,
        Err(error) => Said::Error(error),
    };
    // If the command is gone, the last line makes no difference.
    let _ = answers.write(&last).await;
}

/// Returns when the command has closed the connection, or its sending half.
async fn closed(input: &mut BufReader<OwnedReadHalf>) {
    let mut further = [0; 256];
    while input.read(&mut further).await.is_ok_and(|octets| octets > 0) {}
}
