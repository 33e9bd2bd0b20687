//! What a scripted upstream answers to each command: by default it has a mailbox of fixed messages, and a test can give
//! answers of its own.

use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;

use super::script::{Step, Steps, send};

/// One message of the mailbox.
#[derive(Clone)]
pub struct Message {
    pub uid: u32,
    /// What RFC822.SIZE gives.
    pub size: usize,
    /// What FLAGS gives, if a command asks for it: `\\Seen \\Deleted`.
    pub flags: &'static str,
    pub octets: Arc<[u8]>,
    /// Sent instead of the response that lists this message.
    row: Option<Arc<str>>,
    /// Sent instead of the response that has this message's content, or a part of it.
    content: Option<Arc<[u8]>>,
}

impl Message {
    pub fn new(uid: u32, octets: impl Into<Arc<[u8]>>) -> Self {
        let octets = octets.into();
        Self {
            uid,
            size: octets.len(),
            flags: "",
            octets,
            row: None,
            content: None,
        }
    }

    /// Gives the message these flags.
    pub fn flags(mut self, flags: &'static str) -> Self {
        self.flags = flags;
        self
    }

    /// Lists the message by these octets.
    pub fn row(mut self, row: &str) -> Self {
        self.row = Some(row.into());
        self
    }

    /// Delivers the message by these octets, whichever part of it is asked for.
    pub fn content(mut self, content: impl AsRef<[u8]>) -> Self {
        self.content = Some(content.as_ref().into());
        self
    }
}

/// How each command is answered. Of all commands only removals change later answers; other changes are up to the test.
#[derive(Clone)]
pub struct Answers {
    messages: Arc<[Message]>,
    uid_validity: String,
    capabilities: &'static str,
    greeting: Option<Vec<Step>>,
    tls: Option<Arc<ServerConfig>>,
    rules: Vec<Rule>,
    /// Sets of UIDs that have `\\Deleted` (`doomed`), and sets of UIDs that were removed.
    doomed: Vec<String>,
    removed: Vec<String>,
    pipelined: Option<Vec<Step>>,
    permutation: Option<usize>,
    most_rows: usize,
    trickle: bool,
}

#[derive(Clone)]
struct Rule {
    once: bool,
    answer: Arc<Answer>,
}

/// The steps of a rule for a command; `None` if the rule is not for that command.
type Answer = dyn Fn(&str) -> Option<Vec<Step>> + Send + Sync;

/// The capabilities of the upstream, unless a test gives others.
pub const CAPABILITIES: &str = "IMAP4rev1 SASL-IR AUTH=PLAIN ID UIDPLUS";

impl Answers {
    /// A mailbox of these messages, in ascending order of their UIDs.
    pub fn new(messages: impl IntoIterator<Item = Message>) -> Self {
        Self {
            messages: messages.into_iter().collect(),
            uid_validity: "* OK [UIDVALIDITY 1000] it is\r\n".into(),
            capabilities: CAPABILITIES,
            greeting: None,
            tls: None,
            rules: Vec::new(),
            doomed: Vec::new(),
            removed: Vec::new(),
            pipelined: None,
            permutation: None,
            most_rows: usize::MAX,
            trickle: false,
        }
    }

    /// A mailbox of messages with these octets; UIDs count from 1.
    pub fn of(octets: impl IntoIterator<Item = impl Into<Arc<[u8]>>>) -> Self {
        Self::new((1..).zip(octets).map(|(uid, octets)| Message::new(uid, octets)))
    }

    /// Answers commands that start with `prefix` by these steps. Later rules take precedence over earlier ones.
    pub fn on(self, prefix: &str, steps: impl Steps) -> Self {
        let prefix = prefix.to_owned();
        self.when(move |command| command.starts_with(&prefix), steps)
    }

    /// The same for commands for which `is_meant` is true.
    pub fn when(self, is_meant: impl Fn(&str) -> bool + Send + Sync + 'static, steps: impl Steps) -> Self {
        let steps = steps.steps();
        self.answer(move |command| is_meant(command).then(|| steps.clone()))
    }

    /// Answers every command for which `answer` returns steps.
    pub fn answer(mut self, answer: impl Fn(&str) -> Option<Vec<Step>> + Send + Sync + 'static) -> Self {
        self.rules.push(Rule {
            once: false,
            answer: Arc::new(answer),
        });
        self
    }

    /// The same as [`Self::on`], but for the first such command only.
    pub fn once(mut self, prefix: &str, steps: impl Steps) -> Self {
        self = self.on(prefix, steps);
        if let Some(rule) = self.rules.last_mut() {
            rule.once = true;
        }
        self
    }

    /// Greets by these steps.
    pub fn greet(mut self, steps: impl Steps) -> Self {
        self.greeting = Some(steps.steps());
        self
    }

    /// Uses TLS from the first octet.
    pub fn tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Offers STARTTLS without any login; after the handshake, offers the login.
    pub fn starttls(self, config: Arc<ServerConfig>) -> Self {
        self.on(
            "CAPABILITY",
            "* CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS\r\n{tag} OK\r\n",
        )
        .once(
            "CAPABILITY",
            "* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\n{tag} OK\r\n",
        )
        .on("STARTTLS", vec![send("{tag} OK begin\r\n"), Step::Tls(config)])
    }

    /// Offers these capabilities.
    pub fn capabilities(mut self, capabilities: &'static str) -> Self {
        self.capabilities = capabilities;
        self
    }

    pub fn uid_validity(self, uid_validity: u32) -> Self {
        self.validity(&format!("* OK [UIDVALIDITY {uid_validity}] it is\r\n"))
    }

    /// Sends this line after SELECT instead of a UIDVALIDITY.
    pub fn validity(mut self, line: &str) -> Self {
        self.uid_validity = line.into();
        self
    }

    /// Answers a command that came in one packet with the command before it by these steps, whatever the command asks
    /// for.
    pub fn one_at_a_time(mut self, steps: impl Steps) -> Self {
        self.pipelined = Some(steps.steps());
        self
    }

    /// Completes the commands of one packet in another order: this permutation, of which n commands have n!. The data
    /// that the commands ask for stay in the order of the commands.
    pub fn permuted(mut self, permutation: usize) -> Self {
        self.permutation = Some(permutation);
        self
    }

    /// In which order the commands of one packet are completed; `None`: as they came.
    pub fn permutation(&self) -> Option<usize> {
        self.permutation
    }

    /// Closes the connection within the response that follows this number of responses to one FETCH.
    pub fn most_rows(mut self, most_rows: usize) -> Self {
        self.most_rows = most_rows;
        self
    }

    /// Sends every octet by a write of its own.
    pub fn trickle(mut self) -> Self {
        self.trickle = true;
        self
    }

    /// The steps before any command.
    pub fn greeting(&self) -> Vec<Step> {
        let mut steps: Vec<_> = self.tls.clone().map(Step::Tls).into_iter().collect();
        steps.extend(match &self.greeting {
            Some(greeting) => greeting.clone(),
            None => "* OK [ALERT] ready\r\n".steps(),
        });
        self.paced(steps)
    }

    /// The steps for `command`.
    pub fn to(&mut self, command: &str) -> Vec<Step> {
        let mut rules = self.rules.iter().enumerate().rev();
        let steps = match rules.find_map(|(at, rule)| Some((at, (rule.answer)(command)?))) {
            Some((at, steps)) => {
                if self.rules[at].once {
                    self.rules.remove(at);
                }
                steps
            }
            None => self.usual(command),
        };
        self.note_removal(command, &steps);
        self.paced(steps)
    }

    /// Remembers removed messages, which are then no longer found. Nothing else that a command does changes later
    /// answers.
    fn note_removal(&mut self, command: &str, steps: &[Step]) {
        let is_ok = |step: &Step| matches!(step, Step::Send(octets) if octets.starts_with(b"{tag} OK"));
        if !steps.iter().any(is_ok) {
            return;
        }
        let words: Vec<&str> = command.split(' ').collect();
        match words[..] {
            ["UID", "EXPUNGE" | "MOVE", set, ..] => self.removed.push(set.to_owned()),
            ["UID", "STORE", set, "+FLAGS.SILENT", "(\\Deleted)"] => self.doomed.push(set.to_owned()),
            ["UID", "STORE", set, "-FLAGS.SILENT", "(\\Deleted)"] => self.doomed.retain(|doomed| doomed != set),
            ["EXPUNGE"] => self.removed.append(&mut self.doomed),
            _ => {}
        }
    }

    /// The steps for a command that came together with the one before, if the test gave special ones.
    pub fn to_pipelined(&self) -> Option<Vec<Step>> {
        self.pipelined.clone()
    }

    fn paced(&self, steps: Vec<Step>) -> Vec<Step> {
        let pace = |step| match step {
            Step::Send(octets) if self.trickle => Step::Trickle(octets),
            step => step,
        };
        steps.into_iter().map(pace).collect()
    }

    fn usual(&self, command: &str) -> Vec<Step> {
        let mut words = command.split(' ');
        let verb = words.next().unwrap_or_default();
        let data = match verb {
            "CAPABILITY" => format!("* CAPABILITY {}\r\n", self.capabilities).into_bytes(),
            "AUTHENTICATE" if words.nth(1).is_none() => {
                return vec![send("+ \r\n"), Step::Line, send("{tag} OK logged in\r\n")];
            }
            "SELECT" => format!(
                "* FLAGS (\\Seen \\Deleted)\r\n* {} EXISTS\r\n* 0 RECENT\r\n{}",
                self.messages.len(),
                self.uid_validity
            )
            .into_bytes(),
            "UID" => match (words.next(), words.next()) {
                (Some("FETCH"), Some(set)) => {
                    let (data, is_whole) = self.fetched(set, command);
                    if !is_whole {
                        return vec![Step::Send(data), Step::Close];
                    }
                    data
                }
                (Some("SEARCH"), Some(key)) => self.found(key, words.next()).into_bytes(),
                _ => Vec::new(),
            },
            "LOGOUT" => b"* BYE see you\r\n".to_vec(),
            _ => Vec::new(),
        };
        vec![Step::Send(data), send("{tag} OK done\r\n")]
    }

    /// The response to a UID SEARCH for `UID set`, `DELETED` or `UNSEEN`.
    fn found(&self, key: &str, set: Option<&str>) -> String {
        let last = self.messages.last().map_or(0, |message| message.uid);
        let is_meant = |message: &Message| match (key, set) {
            ("UID", Some(set)) => contains(set, message.uid, last) && !self.is_removed(message.uid),
            ("DELETED", None) => message.flags.contains("\\Deleted"),
            ("UNSEEN", None) => !message.flags.contains("\\Seen"),
            _ => false,
        };
        let meant = self.messages.iter().filter(|&message| is_meant(message));
        let uids: String = meant.map(|message| format!(" {}", message.uid)).collect();
        format!("* SEARCH{uids}\r\n")
    }

    fn is_removed(&self, uid: u32) -> bool {
        self.removed.iter().any(|set| contains(set, uid, u32::MAX))
    }

    /// The responses to a FETCH, and whether they are complete.
    fn fetched(&self, set: &str, command: &str) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        let last = self.messages.last().map_or(0, |message| message.uid);
        let meant = (1..)
            .zip(&*self.messages)
            .filter(|(_, message)| contains(set, message.uid, last));
        for (count, (number, message)) in meant.enumerate() {
            if count == self.most_rows {
                out.extend_from_slice(format!("* {number} FETCH (UI").as_bytes());
                return (out, false);
            }
            let instead = match command.contains("BODY") {
                true => message.content.as_deref(),
                false if is_listing(command) => message.row.as_deref().map(str::as_bytes),
                false => None,
            };
            if let Some(octets) = instead {
                out.extend_from_slice(octets);
                continue;
            }
            let uid = message.uid;
            out.extend_from_slice(format!("* {number} FETCH (UID {uid}").as_bytes());
            if command.contains("FLAGS") {
                out.extend_from_slice(format!(" FLAGS ({})", message.flags).as_bytes());
            }
            if command.contains("RFC822.SIZE") {
                out.extend_from_slice(format!(" RFC822.SIZE {}", message.size).as_bytes());
            }
            let (header, text) = split(&message.octets);
            if command.contains("BODY.PEEK[]") {
                literal(&mut out, "BODY[]", &message.octets);
            }
            if command.contains("BODY.PEEK[HEADER]") {
                literal(&mut out, "BODY[HEADER]", header);
            }
            if let Some((_, partial)) = command.split_once("BODY.PEEK[TEXT]<") {
                let numbers: Vec<usize> = partial.split(['.', '>']).map_while(|word| word.parse().ok()).collect();
                let from = numbers[0].min(text.len());
                let until = (from + numbers[1]).min(text.len());
                literal(&mut out, &format!("BODY[TEXT]<{}>", numbers[0]), &text[from..until]);
            }
            out.extend_from_slice(b")\r\n");
        }
        (out, true)
    }
}

/// The complete answer to a fetch of one message's body: the octets that the test wants, and the tagged OK.
pub fn body_of(uid: u32, octets: &[u8]) -> Vec<u8> {
    let mut out = format!("* 1 FETCH (UID {uid}").into_bytes();
    literal(&mut out, "BODY[]", octets);
    out.extend_from_slice(b")\r\n{tag} OK fetched\r\n");
    out
}

fn literal(out: &mut Vec<u8>, item: &str, octets: &[u8]) {
    out.extend_from_slice(format!(" {item} {{{}}}\r\n", octets.len()).as_bytes());
    out.extend_from_slice(octets);
}

/// Splits a message into the header with its empty line, and the text.
fn split(message: &[u8]) -> (&[u8], &[u8]) {
    let end = message.windows(4).position(|window| window == b"\r\n\r\n");
    message.split_at(end.map_or(message.len(), |at| at + 4))
}

/// Whether a command asks for sizes, but for no content of messages.
pub fn is_listing(command: &str) -> bool {
    command.starts_with("UID FETCH") && command.contains("RFC822.SIZE") && !command.contains("BODY")
}

/// Whether a UID set such as `1,4:6,9:*` contains `uid`. `last` is the highest UID (RFC 3501 §9: the ends of a range
/// may be in any order, and `*` is always a message).
pub fn contains(set: &str, uid: u32, last: u32) -> bool {
    set.split(',').any(|range| {
        let (first, until) = range.split_once(':').unwrap_or((range, range));
        let number = |word: &str| word.parse().unwrap_or(last);
        let (first, until) = (number(first), number(until));
        (first.min(until)..=first.max(until)).contains(&uid)
    })
}
