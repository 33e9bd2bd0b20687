//! Writes that replicas must confirm. WAIT blocks its connection, so all writes that arrive during one WAIT are sent
//! together, and share the next WAIT.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redis::{Cmd, RedisError, Value, aio::MultiplexedConnection};
use tokio::sync::oneshot;

use super::{
    failure::{Failure, Remedy},
    scripts::answer,
};
use crate::config::StateServer;

/// How long replicas may take to confirm, in milliseconds.
const WAIT: u32 = 1_000;

/// The writes to one server.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Writes that have not been sent yet.
    jobs: Mutex<Vec<Job>>,
    /// Held while writes are under way.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// A write that a caller waits for.
#[derive(Debug)]
struct Job {
    /// The commands of its request.
    commands: Vec<Cmd>,
    done: oneshot::Sender<Result<Value, Unconfirmed>>,
}

/// Why a write has not been confirmed. The server may have made it nevertheless.
#[derive(Debug, Clone)]
pub(super) enum Unconfirmed {
    /// The server has refused the write, or cannot be reached.
    Failed(RedisError),
    /// Too few replicas have confirmed the write.
    Replicas { confirmed: usize, wanted: usize },
    /// The task that was to send the write has ended.
    Dropped,
}

impl Unconfirmed {
    pub(super) fn told_of(&self, server: &StateServer) -> Failure {
        match self {
            Self::Failed(error) => Failure::of(server, error),
            Self::Replicas { confirmed, wanted } => Failure::wrong(format!(
                "{server}: {confirmed} of {wanted} replicas have confirmed a write within a second (see `replicas` in [state])"
            )),
            Self::Dropped => Failure::passing(format!("{server}: the connection was closed"), Remedy::Reconnect),
        }
    }
}

impl Waiting {
    /// Sends the `commands` of a request on `connection`, and waits until this many `replicas` have confirmed the write.
    /// If this future is dropped, the writes that are under way go on, but `commands` are not sent any more.
    pub(super) async fn send(
        &self,
        connection: MultiplexedConnection,
        commands: Vec<Cmd>,
        replicas: usize,
    ) -> Result<Value, Unconfirmed> {
        let (done, result) = oneshot::channel();
        self.jobs().push(Job { commands, done });
        let turn = self.turn.clone().lock_owned().await;
        // If there are no jobs, the call that had the turn before has sent this one too.
        let mut jobs = mem::take(&mut *self.jobs());
        // A caller that has gone away was told that its write failed. It must not be made now, perhaps hours later.
        jobs.retain(|job| !job.done.is_closed());
        if jobs.is_empty() {
            drop(turn);
        } else {
            tokio::spawn(async move {
                send(connection, jobs, replicas).await;
                drop(turn);
            });
        }
        result.await.unwrap_or(Err(Unconfirmed::Dropped))
    }

    fn jobs(&self) -> MutexGuard<'_, Vec<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends all of `jobs`, followed by one WAIT.
async fn send(mut connection: MultiplexedConnection, jobs: Vec<Job>, replicas: usize) {
    let mut pipeline = redis::pipe();
    let mut waiting = Vec::with_capacity(jobs.len());
    for Job { commands, done } in jobs {
        waiting.push((commands.len(), done));
        for command in commands {
            pipeline.add_command(command);
        }
    }
    pipeline.cmd("WAIT").arg(replicas).arg(WAIT);
    let answers = connection.send_packed_commands(&pipeline, 0, pipeline.len()).await;
    let (answers, confirmed) = match answers {
        Ok(mut answers) => {
            let confirmed = answers.pop().unwrap_or_default();
            (answers, confirmed.extract_error())
        }
        Err(error) => {
            for (_, done) in waiting {
                // If the caller is gone, it does not need the error.
                let _ = done.send(Err(Unconfirmed::Failed(error.clone())));
            }
            return;
        }
    };
    let mut answers = answers.into_iter();
    for (count, done) in waiting {
        // If the server has sent too few answers, the drop of `done` tells the remaining callers.
        if answers.len() < count {
            return;
        }
        let result = match (answer(answers.by_ref().take(count)), &confirmed) {
            (Ok(answer), Ok(Value::Int(count))) if usize::try_from(*count).is_ok_and(|count| count >= replicas) => {
                Ok(answer)
            }
            (Ok(_), Ok(Value::Int(count))) => Err(Unconfirmed::Replicas {
                confirmed: usize::try_from(*count).unwrap_or_default(),
                wanted: replicas,
            }),
            (Ok(_), Ok(_)) => Err(Unconfirmed::Dropped),
            (Err(error), _) => Err(Unconfirmed::Failed(error)),
            (Ok(_), Err(error)) => Err(Unconfirmed::Failed(error.clone())),
        };
        let _ = done.send(result);
    }
}

#[cfg(test)]
mod tests {
    use redis::{AsyncConnectionConfig, RedisConnectionInfo};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_sent() {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let connected = MultiplexedConnection::new_with_config(&info, ours, AsyncConnectionConfig::new()).await;
        let (connection, driver) = connected.unwrap();
        tokio::spawn(driver);
        let set = |key: &str| {
            let mut command = redis::cmd("SET");
            command.arg(key).arg("1");
            vec![command]
        };
        let waiting = Waiting::default();
        let turn = waiting.turn.clone().lock_owned().await;
        tokio::select! {
            biased;
            _ = waiting.send(connection.clone(), set("first"), 0) => panic!("it has no turn"),
            () = std::future::ready(()) => {}
        }
        drop(turn);
        let server = async {
            let mut sent = Vec::new();
            while !sent.ends_with(b"WAIT\r\n$1\r\n0\r\n$4\r\n1000\r\n") {
                assert_ne!(theirs.read_buf(&mut sent).await.unwrap(), 0);
            }
            theirs.write_all(b"+OK\r\n:0\r\n").await.unwrap();
            let sent = String::from_utf8(sent).unwrap();
            assert!(sent.contains("second") && !sent.contains("first"), "{sent}");
        };
        let (answer, ()) = tokio::join!(waiting.send(connection, set("second"), 0), server);
        assert_eq!(answer.unwrap(), Value::Okay);
    }
}
