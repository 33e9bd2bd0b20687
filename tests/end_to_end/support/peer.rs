//! A scripted upstream that sends exactly the octets it is told to, and records what it receives. It knows no protocol
//! except lines: [`super::answers`] or a script has the answers.

use std::{
    collections::VecDeque,
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use socket2::SockRef;

pub use super::script::{Gate, Step, Steps, chatter, flood, send};
use super::{
    PATIENCE,
    answers::Answers,
    listener::Listener,
    record::{Command, Record, State, shown},
    script::CHATTER,
    stream::Reader,
};

/// The listening upstream.
pub struct Peer {
    listener: Listener,
    record: Arc<Record>,
}

impl Peer {
    /// Answers every connection in the same way.
    pub fn start(answers: Answers) -> Self {
        Self::start_each(vec![answers])
    }

    /// Answers the first connection by the first of `answers`, and so on; all later connections by the last.
    pub fn start_each(answers: Vec<Answers>) -> Self {
        Self::serve(move |index, conversation| {
            let mut answers = answers[index.min(answers.len() - 1)].clone();
            conversation.perform(&answers.greeting())?;
            loop {
                let command = conversation.command()?;
                if let Some(permutation) = answers.permutation()
                    && conversation.is_followed
                {
                    conversation.answer_packet(&mut answers, command, permutation)?;
                    continue;
                }
                let steps = match answers.to_pipelined() {
                    Some(steps) if conversation.is_pipelined => steps,
                    _ => answers.to(&command),
                };
                conversation.perform(&steps)?;
            }
        })
    }

    /// Plays the same script on each connection, and then closes it.
    pub fn play(script: impl Steps) -> Self {
        let script = script.steps();
        Self::serve(move |_, conversation| conversation.perform(&script))
    }

    fn serve(converse: impl Fn(usize, &mut Conversation) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let record = Arc::new(Record::default());
        let noted = record.clone();
        let converse = Arc::new(converse);
        let listener = Listener::start(move |index, stream| {
            let (record, converse) = (noted.clone(), converse.clone());
            record.note(|state| state.connections += 1);
            std::thread::spawn(move || {
                let mut conversation = Conversation {
                    index,
                    reader: Some(Reader::new(stream)),
                    tags: VecDeque::new(),
                    is_pipelined: false,
                    is_followed: false,
                    record: record.clone(),
                };
                let end = converse(index, &mut conversation);
                conversation.log(&format!("end: {end:?}"));
                drop(conversation);
                record.note(|state| state.ended += 1);
            });
        });
        Self { listener, record }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.record.state.lock().unwrap().connections
    }

    /// How many connections have not ended.
    pub fn open_connections(&self) -> usize {
        let state = self.record.state.lock().unwrap();
        state.connections - state.ended
    }

    /// The commands of all connections so far, in order, without their tags.
    pub fn commands(&self) -> Vec<String> {
        let state = self.record.state.lock().unwrap();
        state.commands.iter().map(|command| command.text.clone()).collect()
    }

    /// The commands of one connection; connections count from 0.
    pub fn commands_of(&self, connection: usize) -> Vec<String> {
        let state = self.record.state.lock().unwrap();
        let commands = state.commands.iter();
        let those = commands.filter(|command| command.connection == connection);
        those.map(|command| command.text.clone()).collect()
    }

    /// How many commands of a connection (from 0) came in one packet with the command before them.
    pub fn pipelined(&self, connection: usize) -> usize {
        let state = self.record.state.lock().unwrap();
        let commands = state.commands.iter();
        commands
            .filter(|command| command.connection == connection && command.is_pipelined)
            .count()
    }

    /// The client's answers to continuation requests so far.
    pub fn lines(&self) -> Vec<String> {
        self.record.state.lock().unwrap().lines.clone()
    }

    /// How many commands so far start with `prefix`.
    pub fn count(&self, prefix: &str) -> usize {
        self.commands()
            .iter()
            .filter(|command| command.starts_with(prefix))
            .count()
    }

    /// Asserts that no message was marked as deleted or expunged.
    #[track_caller]
    pub fn assert_nothing_removed(&self) {
        assert_eq!(
            self.count("UID STORE") + self.count("UID EXPUNGE"),
            0,
            "{:?}",
            self.commands()
        );
    }

    /// Waits for a command that starts with `prefix`.
    pub fn wait_for(&self, prefix: &str) {
        self.wait_for_count(prefix, 1);
    }

    /// Waits for `count` commands that start with `prefix`, on all connections together.
    pub fn wait_for_count(&self, prefix: &str, count: usize) {
        self.wait_until(prefix, |state| {
            let commands = state.commands.iter();
            commands.filter(|command| command.text.starts_with(prefix)).count() >= count
        });
    }

    /// Waits until there have been `count` connections.
    pub fn wait_for_connections(&self, count: usize) {
        self.wait_until("a connection", |state| state.connections >= count);
    }

    /// Waits until `count` connections have ended.
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

/// How many octets of an endless answer are sent as fast as the client reads them.
const FLOOD: usize = 32 << 20;

/// How many tags are remembered: more than the gateway sends commands at once.
const TAGS: usize = 12;

/// One connection of a peer.
struct Conversation {
    index: usize,
    reader: Option<Reader>,
    /// The tags of the last commands, the newest first.
    tags: VecDeque<String>,
    /// Whether the last command came in one packet with the command before it.
    is_pipelined: bool,
    /// Whether more octets had arrived already when the last command was read.
    is_followed: bool,
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

    /// Reads the next line without its line end, and adds it to the transcript.
    fn line(&mut self) -> io::Result<String> {
        let line = self.reader()?.line()?;
        if !line.ends_with(b"\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        self.log(&format!("< {line}"));
        Ok(line)
    }

    /// Reads the next command, without its tag. Sends continuation requests for its literals, unless they come without
    /// (RFC 7888).
    fn command(&mut self) -> io::Result<String> {
        let mut line = self.line()?;
        while let Some((octets, is_asked_for)) = literal_head(&line) {
            if is_asked_for {
                if !self.reader()?.pending().is_empty() {
                    let failure = format!("a literal that was not asked for: {line}");
                    self.record.note(|state| state.failures.push(failure));
                }
                self.step(&Step::Send(b"+ go ahead\r\n".to_vec()))?;
            }
            let literal = self.reader()?.take(octets)?;
            line = format!("{line}\r\n{}{}", String::from_utf8_lossy(&literal), self.line()?);
        }
        let (tag, command) = line.split_once(' ').unwrap_or((&line, ""));
        self.tags.push_front(tag.to_owned());
        self.tags.truncate(TAGS);
        let is_followed = !self.reader()?.pending().is_empty();
        self.is_pipelined = std::mem::replace(&mut self.is_followed, is_followed);
        let noted = Command {
            connection: self.index,
            text: command.to_owned(),
            is_pipelined: self.is_pipelined,
        };
        self.record.note(|state| state.commands.push(noted));
        Ok(command.to_owned())
    }

    /// Answers `command` and the commands that came with it: data in their order, completions in that of a permutation.
    fn answer_packet(&mut self, answers: &mut Answers, command: String, permutation: usize) -> io::Result<()> {
        let mut commands = vec![command];
        while self.is_followed {
            commands.push(self.command()?);
        }
        let mut completions = Vec::new();
        // The tag of the last command is the newest, so it has age 0.
        for (command, age) in commands.iter().zip((0..commands.len()).rev()) {
            let mut steps = answers.to(command);
            if let Some(Step::Send(completion)) = steps.pop() {
                let tag = format!("{{tag-{age}}}").replace("{tag-0}", "{tag}");
                completions.push(replace(completion, b"{tag}", tag.as_bytes()));
            }
            self.perform(&steps)?;
        }
        let mut left = permutation;
        while !completions.is_empty() {
            let at = left % completions.len();
            left /= completions.len();
            let completion = completions.remove(at);
            self.step(&Step::Send(completion))?;
        }
        Ok(())
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
            Step::Line => {
                let line = self.line()?;
                // Octets after this line were sent before the command that the line belongs to was answered.
                self.is_followed = !self.reader()?.pending().is_empty();
                self.record.note(|state| state.lines.push(line));
                Ok(())
            }
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
                // With a linger time of zero, closing resets the connection.
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
                let mut sent = 0;
                loop {
                    stream.write_all(&octets)?;
                    stream.flush()?;
                    sent += octets.len();
                    // A reader that takes a whole flood must fail its test, but not exhaust the machine.
                    let pause = if sent > FLOOD { CHATTER } else { *pause };
                    std::thread::sleep(pause);
                }
            }
        }
    }

    fn tagged(&self, octets: &[u8]) -> Vec<u8> {
        let mut out = octets.to_vec();
        // Most long octets are messages, which have no placeholder.
        if memchr::memmem::find(octets, b"{tag").is_none() {
            return out;
        }
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

/// The head of a literal at the end of `line`: how many octets follow, and whether the client waits for a continuation
/// request.
fn literal_head(line: &str) -> Option<(usize, bool)> {
    let (_, digits) = line.strip_suffix('}')?.rsplit_once('{')?;
    let unasked = digits.strip_suffix('+');
    Some((unasked.unwrap_or(digits).parse().ok()?, unasked.is_none()))
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
