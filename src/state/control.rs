//! Access to state for other processes while a gateway has the file open: by a socket beside the file. A request is one
//! line of JSON, and so is an answer. Only the parts of all records come in several lines.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::UnixStream,
};
use tokio_util::sync::CancellationToken;

use super::{
    Consent, Index, Kept, MailboxName, Marked, Renewer, Replacement, StateStore, Unavailable, Whose,
    part::{Part, Parts},
};
use crate::local_socket::{self, line, receive};

/// The socket's name under `[state] dir`.
const SOCKET: &str = "state.sock";
/// The longest request in octets, which is enough for the index of a large mailbox.
const LONGEST: u64 = 64 * 1024 * 1024;
/// How long an answer may take. This is short, so that a gateway that hangs is reported soon.
const ANSWER: Duration = Duration::from_secs(10);
/// How long an answer may take if a provider has to be asked.
const RENEWAL: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize, Deserialize)]
enum Request {
    Index(MailboxName),
    SetIndex(MailboxName, Index),
    Kept(MailboxName, Asked),
    Replace(MailboxName, Replacement),
    AllMarks,
    ClearMarks(String, Option<String>),
    Parts,
    Token(Consent),
    SetToken(Consent, Option<Vec<u8>>, Option<Vec<u8>>),
    TokensUnwritableSince,
    Renew(Consent, bool),
}

/// [`Whose`], but with an owned login.
#[derive(Debug, Serialize, Deserialize)]
enum Asked {
    Nobody,
    Login(String),
    All,
}

impl Asked {
    fn whose(&self) -> Whose<'_> {
        match self {
            Self::Nobody => Whose::Nobody,
            Self::Login(login) => Whose::Login(login),
            Self::All => Whose::All,
        }
    }
}

impl From<Whose<'_>> for Asked {
    fn from(whose: Whose<'_>) -> Self {
        match whose {
            Whose::Nobody => Self::Nobody,
            Whose::Login(login) => Self::Login(login.to_owned()),
            Whose::All => Self::All,
        }
    }
}

/// Answers requests for `store` and `renewer` at the socket in `dir` until `shutdown`. No other process may listen
/// there. If the socket cannot be made, this logs it and returns: only other processes need the socket.
pub async fn serve(store: Arc<dyn StateStore>, renewer: Arc<dyn Renewer>, dir: PathBuf, shutdown: CancellationToken) {
    let path = dir.join(SOCKET);
    let converse = |stream| converse(stream, store.clone(), renewer.clone(), shutdown.clone());
    if let Err(error) = local_socket::serve(&path, &shutdown, converse).await {
        tracing::warn!(path = %path.display(), %error, "popgate state cannot ask this gateway");
    }
}

/// Serves one connection: request, answer, request, answer. A request that has arrived completely is answered even
/// after `shutdown`.
async fn converse(
    stream: UnixStream,
    store: Arc<dyn StateStore>,
    renewer: Arc<dyn Renewer>,
    shutdown: CancellationToken,
) {
    let mut stream = BufReader::new(stream);
    loop {
        let request = tokio::select! {
            biased;
            request = receive(&mut stream, LONGEST) => request,
            () = shutdown.cancelled() => return,
        };
        match request {
            Ok(Some(request)) => {
                let answered = match answer(request, &*store, &*renewer).await {
                    Some(line) => stream.get_mut().write_all(&line).await,
                    // Sending all parts may take long, so the shutdown does not wait for it. The other process can ask
                    // again.
                    None => tokio::select! {
                        sent = send_parts(&*store, stream.get_mut()) => sent,
                        () = shutdown.cancelled() => return,
                    },
                };
                if answered.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "a command has sent a request that this gateway does not know: is it of another version?");
                return;
            }
        }
    }
}

/// The answer in one line; `None` if the request is for parts, which [`send_parts`] sends.
async fn answer(request: Request, store: &dyn StateStore, renewer: &dyn Renewer) -> Option<Vec<u8>> {
    Some(match request {
        Request::Parts => return None,
        Request::Index(mailbox) => line(&store.index(&mailbox).await.as_deref()),
        Request::SetIndex(mailbox, index) => {
            store.set_index(&mailbox, Arc::new(index)).await;
            line(&())
        }
        Request::Kept(mailbox, asked) => line(&store.kept(&mailbox, asked.whose()).await),
        Request::Replace(mailbox, replacement) => line(&store.replace(&mailbox, replacement).await),
        Request::ClearMarks(login, folder) => {
            let cleared = store.clear_marks(&login, folder.as_deref()).await;
            if let Ok(mailboxes) = cleared {
                tracing::info!(
                    login,
                    folder,
                    mailboxes,
                    "reset: what was kept of this login is forgotten"
                );
            }
            line(&cleared)
        }
        Request::AllMarks => line(&store.all_marks().await),
        Request::Token(consent) => line(&store.token(&consent).await),
        Request::SetToken(consent, followed, token) => {
            line(&store.set_token(&consent, followed.as_deref(), token.as_deref()).await)
        }
        Request::TokensUnwritableSince => line(&store.tokens_unwritable_since().await),
        Request::Renew(consent, is_refused) => line(&renewer.renew(&consent, is_refused).await),
    })
}

/// Sends the parts of all records, several in each line, and an empty list at the end.
async fn send_parts(store: &dyn StateStore, stream: &mut UnixStream) -> io::Result<()> {
    let mut parts = match store.parts().await {
        Ok(parts) => parts,
        Err(unavailable) => return stream.write_all(&line(&Err::<Vec<Part>, _>(unavailable))).await,
    };
    loop {
        let portion = parts.next().await;
        let is_last = portion.as_ref().map_or(true, Vec::is_empty);
        // The file cannot reuse its pages while they are being read, so a slow reader is cut off.
        tokio::time::timeout(ANSWER, stream.write_all(&line(&portion))).await??;
        if is_last {
            return Ok(());
        }
    }
}

/// The state of a running gateway, asked by its socket.
#[derive(Debug, Clone)]
pub struct RemoteStore {
    socket: PathBuf,
}

impl RemoteStore {
    /// The state of the gateway that uses `dir`.
    pub fn new(dir: &Path) -> Self {
        Self {
            socket: dir.join(SOCKET),
        }
    }

    async fn ask<T: DeserializeOwned>(&self, request: Request) -> Result<T, Unavailable> {
        let asking = async {
            let mut stream = BufReader::new(local_socket::connect(&self.socket).await?);
            stream.get_mut().write_all(&line(&request)).await?;
            // The marks of all logins may be long; the answer comes from popgate itself.
            let answer = receive(&mut stream, u64::MAX).await?;
            answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        };
        let patience = match request {
            Request::Renew(..) => RENEWAL,
            _ => ANSWER,
        };
        within(patience, asking).await.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Unavailable {
        let socket = self.socket.display();
        tracing::error!(%socket, %error, "the gateway that uses the state does not answer: is it of this version?");
        Unavailable::Failed
    }
}

/// The result of `asking`, or an error if that takes longer than `patience`.
async fn within<T>(patience: Duration, asking: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(patience, asking).await.unwrap_or_else(|_| {
        let late = format!("no answer for {} seconds", patience.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, late))
    })
}

#[async_trait]
impl StateStore for RemoteStore {
    fn is_remote(&self) -> bool {
        true
    }

    async fn index(&self, mailbox: &MailboxName) -> Option<Arc<Index>> {
        let index: Option<Index> = self.ask(Request::Index(mailbox.clone())).await.ok()?;
        index.map(Arc::new)
    }

    async fn set_index(&self, mailbox: &MailboxName, index: Arc<Index>) {
        let request = Request::SetIndex(mailbox.clone(), Arc::unwrap_or_clone(index));
        // A failure has been logged, and an index is a cache.
        let _: Result<(), _> = self.ask(request).await;
    }

    async fn kept(&self, mailbox: &MailboxName, whose: Whose<'_>) -> Result<Kept, Unavailable> {
        self.ask(Request::Kept(mailbox.clone(), whose.into())).await?
    }

    async fn replace(&self, mailbox: &MailboxName, replacement: Replacement) -> Result<(), Unavailable> {
        self.ask(Request::Replace(mailbox.clone(), replacement)).await?
    }

    async fn all_marks(&self) -> Result<Vec<Marked>, Unavailable> {
        self.ask(Request::AllMarks).await?
    }

    async fn clear_marks(&self, login: &str, folder: Option<&str>) -> Result<usize, Unavailable> {
        let request = Request::ClearMarks(login.to_owned(), folder.map(str::to_owned));
        self.ask(request).await?
    }

    async fn parts(&self) -> Result<Parts, Unavailable> {
        let mut stream = BufReader::new(
            local_socket::connect(&self.socket)
                .await
                .map_err(|error| self.failed(&error))?,
        );
        let asked = stream.get_mut().write_all(&line(&Request::Parts)).await;
        asked.map_err(|error| self.failed(&error))?;
        let (sender, parts) = Parts::channel();
        let store = self.clone();
        tokio::spawn(async move {
            let mut is_last = false;
            while !is_last {
                let received = within(ANSWER, receive(&mut stream, LONGEST)).await;
                let received = received.and_then(|answer| answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()));
                let portion: Result<Vec<Part>, _> = received.unwrap_or_else(|error| Err(store.failed(&error)));
                is_last = portion.as_ref().map_or(true, Vec::is_empty);
                if sender.send(portion).await.is_err() {
                    return;
                }
            }
        });
        Ok(parts)
    }

    async fn token(&self, consent: &Consent) -> Result<Option<Vec<u8>>, Unavailable> {
        self.ask(Request::Token(consent.clone())).await?
    }

    async fn set_token(
        &self,
        consent: &Consent,
        followed: Option<&[u8]>,
        token: Option<&[u8]>,
    ) -> Result<(), Unavailable> {
        let own = |octets: Option<&[u8]>| octets.map(<[u8]>::to_vec);
        self.ask(Request::SetToken(consent.clone(), own(followed), own(token)))
            .await?
    }

    async fn tokens_unwritable_since(&self) -> Result<Option<u32>, Unavailable> {
        self.ask(Request::TokensUnwritableSince).await?
    }

    async fn renew(&self, consent: &Consent, is_refused: bool) -> Result<String, Unavailable> {
        self.ask(Request::Renew(consent.clone(), is_refused)).await
    }
}
