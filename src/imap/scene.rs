//! For unit tests: a mailbox, or a connection on which nobody has logged in, with a server that answers as the test
//! wants.

use std::{sync::Arc, time::Duration};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};

use super::{
    async_imap::Front,
    capability::Capabilities,
    link::Link,
    mailbox::{Attributes, Mailbox, Selected},
    namespace::Namespaces,
    quirks::Quirks,
    utf7::NameEncoding,
};
use crate::types::UidValidity;

/// How long the server may say nothing.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

/// Runs `work` on a mailbox of `exists` messages, whose server has `capabilities`. `answer` is given a command without
/// its tag and returns the whole answer, in which `{tag}` is replaced. The server never closes the connection. Returns
/// the commands too.
pub(crate) async fn play<T>(
    capabilities: &str,
    exists: u32,
    answer: impl FnMut(&str) -> String,
    work: impl AsyncFnOnce(&mut Mailbox) -> T,
) -> (Vec<String>, T) {
    let work = async |mut mailbox: Mailbox| work(&mut mailbox).await;
    play_with(capabilities, exists, answer, work).await
}

/// The same for work that takes the mailbox by value.
pub(crate) async fn play_with<T>(
    capabilities: &str,
    exists: u32,
    answer: impl FnMut(&str) -> String,
    work: impl AsyncFnOnce(Mailbox) -> T,
) -> (Vec<String>, T) {
    let (near, far) = duplex(1 << 20);
    let mut link = Link::new(Box::new(near), SILENCE);
    link.news().exists = exists;
    let mailbox = Mailbox {
        link,
        capabilities: Capabilities::parse(capabilities.as_bytes()),
        quirks: Arc::new(Quirks::new(true)),
        encoding: NameEncoding::ModifiedUtf7,
        namespaces: Namespaces::new(Arc::default(), "eva"),
        selected: Selected {
            uid_validity: UidValidity::of_server(7),
            read_only: false,
            uid_not_sticky: false,
            modseq: None,
        },
        folder: "INBOX".to_owned(),
        attributes: Attributes::default(),
    };
    tokio::join!(serve(far, answer), work(mailbox))
}

/// Runs `work` on a connection that the server has greeted.
pub(super) async fn before_login<T>(
    answer: impl FnMut(&str) -> String,
    work: impl AsyncFnOnce(&mut Front) -> T,
) -> (Vec<String>, T) {
    let (near, mut far) = duplex(1 << 20);
    let work = async move {
        let mut front = Front::greet(Link::new(Box::new(near), SILENCE)).await.unwrap();
        work(&mut front).await
    };
    let serve = async move {
        far.write_all(b"* OK ready\r\n").await.unwrap();
        serve(far, answer).await
    };
    tokio::join!(serve, work)
}

async fn serve(stream: DuplexStream, mut answer: impl FnMut(&str) -> String) -> Vec<String> {
    let mut stream = BufReader::new(stream);
    let mut commands = Vec::new();
    let mut tag = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap() == 0 {
            return commands;
        }
        let line = line.trim_end();
        // The further lines of a login have no tag.
        let is_tagged = line.split_once(' ').filter(|(tag, _)| {
            tag.starts_with(['A', 'P', 'S']) && tag[1..].bytes().all(|octet| octet.is_ascii_digit())
        });
        let command = match is_tagged {
            Some((of, command)) => {
                tag = of.to_owned();
                command
            }
            None => line,
        };
        commands.push(command.to_owned());
        let reply = answer(command).replace("{tag}", &tag);
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return commands;
        }
    }
}

/// Whether `command` begins with one of these.
pub(crate) fn is(command: &str, starts: &[&str]) -> bool {
    starts.iter().any(|start| command.starts_with(start))
}
