//! A scripted upstream that sends exactly the octets it is told to, and keeps a record of what it was sent. It knows no
//! protocol but lines: what an answer is, [`super::answers`] or a script says.

use std::{
    collections::VecDeque,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use socket2::SockRef;
use tokio_rustls::rustls::ServerConfig;

use super::{
    PATIENCE,
    answers::Answers,
    stream::{Reader, Stream},
};

/// One thing that a peer does.
#[derive(Clone)]
pub enum Step {
    /// Sends octets; `{tag}` stands for the tag of the last command, `{tag-1}` to `{tag-4}` for those before it.
    Send(Vec<u8>),
    /// Sends octets, each by a write of its own.
    Trickle(Vec<u8>),
    /// Waits for a command that starts with this, after its tag; anything else fails the test.
    Expect(String),
    /// Waits for a line that is no command: the response to a continuation.
    Line,
    /// The TLS handshake, as server.
    Tls(Arc<ServerConfig>),
    /// Waits until the test opens the gate.
    Wait(Gate),
    /// Resets the connection.
    Reset,
    /// Closes the connection.
    Close,
    /// Says nothing more until the other side closes.
    Silence,
    /// Sends octets again and again until the other side closes, with such a pause after each time.
    Endless(Vec<u8>, Duration),
}

/// What a peer does: several steps, or the octets of one.
pub trait Steps {
    fn steps(self) -> Vec<Step>;
}

impl Steps for Vec<Step> {
    fn steps(self) -> Vec<Step> {
        self
    }
}

impl Steps for Step {
    fn steps(self) -> Vec<Step> {
        vec![self]
    }
}

impl Steps for Vec<u8> {
    fn steps(self) -> Vec<Step> {
        vec![Step::Send(self)]
    }
}

impl Steps for String {
    fn steps(self) -> Vec<Step> {
        self.into_bytes().steps()
    }
}

impl Steps for &str {
    fn steps(self) -> Vec<Step> {
        self.as_bytes().to_vec().steps()
    }
}

/// Octets to send.
pub fn send(octets: impl AsRef<[u8]>) -> Step {
    Step::Send(octets.as_ref().to_vec())
}

/// Octets that come often enough for nobody to call it silence, until the other side closes.
pub fn chatter(octets: &str) -> Step {
    Step::Endless(octets.as_bytes().to_vec(), Duration::from_millis(100))
}

/// Opened by a test once something has happened.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// An error where it stays shut: a test that waits for what comes behind it must not go on.
    fn wait(&self) -> io::Result<()> {
        let (open, changed) = &*self.0;
        let waited = changed.wait_timeout_while(open.lock().unwrap(), PATIENCE, |open| !*open);
        match waited.unwrap().1.timed_out() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(()),
        }
    }
}

/// What happened on a peer's connections.
#[derive(Default)]
struct Record {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    connections: usize,
    /// Connections that are over.
    ended: usize,
    /// Commands without their tags, in order.
    commands: Vec<String>,
    /// Both sides, for people.
    transcript: Vec<String>,
    /// Where a script was not followed.
    failures: Vec<String>,
}

impl Record {
    fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }
}

/// The listening peer.
pub struct Peer {
    address: SocketAddr,
    record: Arc<Record>,
    stopped: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Peer {
    /// Answers every connection alike.
    pub fn start(answers: Answers) -> Self {
        Self::start_each(vec![answers])
    }

    /// Answers the first connection by the first of `answers`, and so on; all later ones by the last.
    pub fn start_each(answers: Vec<Answers>) -> Self {
        Self::serve(move |index, conversation| {
            let mut answers = answers[index.min(answers.len() - 1)].clone();
            conversation.perform(&answers.greeting())?;
            loop {
                let command = conversation.command()?;
                let steps = answers.to(&command);
                conversation.perform(&steps)?;
            }
        })
    }

    /// Plays one script on each connection, and closes it at the end.
    pub fn play(script: impl Steps) -> Self {
        let script = script.steps();
        Self::serve(move |_, conversation| conversation.perform(&script))
    }

    fn serve(converse: impl Fn(usize, &mut Conversation) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Record::default());
        let stopped = Arc::new(AtomicBool::new(false));
        let converse = Arc::new(converse);
        let accepting = std::thread::spawn({
            let (record, stopped) = (record.clone(), stopped.clone());
            move || {
                for (index, tcp) in listener.incoming().enumerate() {
                    if stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    let (record, converse) = (record.clone(), converse.clone());
                    record.note(|state| state.connections += 1);
                    std::thread::spawn(move || {
                        let mut conversation = Conversation {
                            index,
                            reader: tcp.and_then(Stream::accept).ok().map(Reader::new),
                            tags: VecDeque::new(),
                            record: record.clone(),
                        };
                        let end = converse(index, &mut conversation);
                        conversation.log(&format!("end: {end:?}"));
                        drop(conversation);
                        record.note(|state| state.ended += 1);
                    });
                }
            }
        });
        Self {
            address,
            record,
            stopped,
            accepting: Some(accepting),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.record.state.lock().unwrap().connections
    }

    /// The commands so far, without their tags, of all connections in order.
    pub fn commands(&self) -> Vec<String> {
        self.record.state.lock().unwrap().commands.clone()
    }

    /// How many commands so far start with `prefix`.
    pub fn count(&self, prefix: &str) -> usize {
        self.commands()
            .iter()
            .filter(|command| command.starts_with(prefix))
            .count()
    }

    /// Waits for a command that starts with `prefix`.
    pub fn wait_for(&self, prefix: &str) {
        self.wait_for_count(prefix, 1);
    }

    /// Waits for so many commands that start with `prefix`, of all connections.
    pub fn wait_for_count(&self, prefix: &str, count: usize) {
        self.wait_until(prefix, |state| {
            let commands = state.commands.iter();
            commands.filter(|command| command.starts_with(prefix)).count() >= count
        });
    }

    /// Waits until so many connections have ended.
    pub fn wait_for_end(&self, count: usize) {
        self.wait_until("the end of a connection", |state| state.ended >= count);
    }

    fn wait_until(&self, what: &str, reached: impl Fn(&State) -> bool) {
        let state = self.record.state.lock().unwrap();
        let (state, _) = self
            .record
            .changed
            .wait_timeout_while(state, PATIENCE, |state| !reached(state))
            .unwrap();
        assert!(reached(&state), "upstream waited in vain for {what}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        drop(Stream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        let state = self
            .record
            .state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let transcript = state.transcript.join("\n");
        if std::thread::panicking() {
            eprintln!("transcript of the upstream:\n{transcript}");
        } else {
            assert!(state.failures.is_empty(), "{}\n{transcript}", state.failures.join("\n"));
        }
    }
}

/// One connection of a peer.
struct Conversation {
    index: usize,
    reader: Option<Reader>,
    /// Of the last commands, the newest first.
    tags: VecDeque<String>,
    record: Arc<Record>,
}

impl Conversation {
    fn reader(&mut self) -> io::Result<&mut Reader> {
        self.reader.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn log(&self, text: &str) {
        let line = format!("[{}] {text}", self.index);
        self.record.note(|state| state.transcript.push(line));
    }

    /// The next line without its line end, in the transcript too.
    fn line(&mut self) -> io::Result<String> {
        let line = self.reader()?.line()?;
        if !line.ends_with(b"\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        self.log(&format!("< {line}"));
        Ok(line)
    }

    /// The next command, without its tag.
    fn command(&mut self) -> io::Result<String> {
        let line = self.line()?;
        let (tag, command) = line.split_once(' ').unwrap_or((&line, ""));
        self.tags.push_front(tag.to_owned());
        self.tags.truncate(5);
        self.record.note(|state| state.commands.push(command.to_owned()));
        Ok(command.to_owned())
    }

    fn perform(&mut self, steps: &[Step]) -> io::Result<()> {
        steps.iter().try_for_each(|step| self.step(step))
    }

    fn step(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::Send(octets) => {
                let octets = self.tagged(octets);
                self.log(&format!("> {}", shown(&octets)));
                let stream = &mut self.reader()?.stream;
                stream.write_all(&octets)?;
                stream.flush()
            }
            Step::Trickle(octets) => {
                let octets = self.tagged(octets);
                self.log(&format!("> {} (one octet at a time)", shown(&octets)));
                let stream = &mut self.reader()?.stream;
                for octet in octets {
                    stream.write_all(&[octet])?;
                    stream.flush()?;
                }
                Ok(())
            }
            Step::Expect(prefix) => {
                let command = self.command()?;
                if command.starts_with(prefix) {
                    return Ok(());
                }
                let failure = format!("upstream expected {prefix}, got {command}");
                self.record.note(|state| state.failures.push(failure));
                Err(io::ErrorKind::InvalidData.into())
            }
            Step::Line => self.line().map(|_| ()),
            Step::Tls(config) => {
                let stream = self.reader.take().ok_or(io::ErrorKind::NotConnected)?.stream;
                let secured = stream.secure_server(config.clone());
                self.log(&format!("TLS handshake: {:?}", secured.as_ref().err()));
                self.reader = Some(Reader::new(secured?));
                Ok(())
            }
            Step::Wait(gate) => gate.wait(),
            Step::Reset => {
                let reader = self.reader.take().ok_or(io::ErrorKind::NotConnected)?;
                // Without lingering a close is a reset.
                SockRef::from(reader.stream.tcp()).set_linger(Some(Duration::ZERO))?;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Step::Close => {
                self.reader = None;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            Step::Silence => {
                while self.reader()?.fill()? > 0 {}
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Step::Endless(octets, pause) => {
                let octets = self.tagged(octets);
                self.log(&format!("> {} (again and again)", shown(&octets)));
                let stream = &mut self.reader()?.stream;
                loop {
                    stream.write_all(&octets)?;
                    stream.flush()?;
                    std::thread::sleep(*pause);
                }
            }
        }
    }

    fn tagged(&self, octets: &[u8]) -> Vec<u8> {
        let mut out = octets.to_vec();
        for (age, tag) in self.tags.iter().enumerate() {
            let placeholder = if age == 0 {
                "{tag}".to_owned()
            } else {
                format!("{{tag-{age}}}")
            };
            out = replace(out, placeholder.as_bytes(), tag.as_bytes());
        }
        out
    }
}

fn replace(octets: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut finds = memchr::memmem::find_iter(&octets, from).peekable();
    if finds.peek().is_none() {
        return octets;
    }
    let (mut out, mut used) = (Vec::with_capacity(octets.len()), 0);
    for at in finds {
        out.extend_from_slice(&octets[used..at]);
        out.extend_from_slice(to);
        used = at + from.len();
    }
    out.extend_from_slice(&octets[used..]);
    out
}

/// Octets for people: not too many.
fn shown(octets: &[u8]) -> String {
    const SHOWN: usize = 200;
    let text = octets[..octets.len().min(SHOWN)].escape_ascii();
    match octets.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{text}… {more} more"),
        _ => text.to_string(),
    }
}
