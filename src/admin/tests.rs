use std::{os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use async_trait::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use super::*;

/// Sends each text of `texts` as an answer until there are no more, and then fails with `failure`, if there is one.
struct Script {
    texts: tokio::sync::Mutex<mpsc::Receiver<&'static str>>,
    failure: Option<&'static str>,
    /// Gets a message when the answering of a request has ended or was dropped.
    ended: mpsc::UnboundedSender<()>,
}

struct End(mpsc::UnboundedSender<()>);

impl Drop for End {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[async_trait]
impl Verbs for Script {
    async fn carry_out(self: Arc<Self>, verb: Verb, answers: &mut Answers) -> Result<(), String> {
        assert_eq!(verb, Verb::Reload);
        let _end = End(self.ended.clone());
        while let Some(text) = self.texts.lock().await.recv().await {
            answers.send(&text).await?;
        }
        self.failure.map_or(Ok(()), |failure| Err(failure.to_owned()))
    }
}

/// Starts a gateway's end of the socket in `dir`. It answers with the texts that are sent to the returned sender.
fn start(dir: &Path, failure: Option<&'static str>) -> (mpsc::Sender<&'static str>, mpsc::UnboundedReceiver<()>) {
    let (say, texts) = mpsc::channel(10);
    let (ended, ends) = mpsc::unbounded_channel();
    let script = Arc::new(Script {
        texts: texts.into(),
        failure,
        ended,
    });
    let dir = dir.to_owned();
    tokio::spawn(async move { serve(script, &dir, CancellationToken::new()).await });
    (say, ends)
}

async fn asked(dir: &Path) -> client::Asked {
    ask(dir, &Verb::Reload).await.expect("the gateway answers")
}

#[tokio::test]
async fn answers_come_one_by_one_until_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let (say, _ends) = start(dir.path(), None);
    let mut asked = asked(dir.path()).await;
    let mode = dir.path().join(SOCKET).metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for text in ["a", "b\n"] {
        say.send(text).await.unwrap();
        assert_eq!(asked.next::<String>().await.unwrap().as_deref(), Some(text));
    }
    drop(say);
    assert_eq!(asked.next::<String>().await.unwrap(), None);
}

#[tokio::test]
async fn a_failure_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (say, _ends) = start(dir.path(), Some("no such thing"));
    drop(say);
    let error = asked(dir.path()).await.next::<String>().await.unwrap_err();
    assert_eq!(error.to_string(), "no such thing");
}

#[tokio::test]
async fn who_closes_the_connection_ends_the_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (say, mut ends) = start(dir.path(), None);
    let mut first = asked(dir.path()).await;
    say.send("a").await.unwrap();
    assert_eq!(first.next::<String>().await.unwrap().as_deref(), Some("a"));
    drop(first);
    ends.recv().await.unwrap();
    let mut second = asked(dir.path()).await;
    say.send("b").await.unwrap();
    assert_eq!(second.next::<String>().await.unwrap().as_deref(), Some("b"));
}

#[tokio::test]
async fn what_is_not_a_request_is_told_too() {
    let dir = tempfile::tempdir().unwrap();
    let (_say, _ends) = start(dir.path(), None);
    drop(asked(dir.path()).await);
    for (said, expected) in [
        (&b"{\"verb\":\"dance\"}\n"[..], "unknown variant `dance`"),
        (b"reload\n", "not a request that this version of popgate knows"),
    ] {
        let mut stream = UnixStream::connect(dir.path().join(SOCKET)).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("{\"error\":") && answer.contains(expected),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn without_a_gateway_the_error_says_what_to_look_at() {
    let dir = tempfile::tempdir().unwrap();
    let error = ask(dir.path(), &Verb::Reload).await.unwrap_err().to_string();
    assert!(
        error.contains("admin.sock") && error.contains("is the gateway running"),
        "{error}"
    );
}
