//! What a scripted upstream says to which command: a mailbox of fixed messages by default, and a test's own words where it
//! has some.

use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;

use super::peer::{Step, Steps, send};

/// One message of the mailbox.
#[derive(Clone)]
pub struct Message {
    pub uid: u32,
    /// What RFC822.SIZE says.
    pub size: usize,
    pub octets: Arc<[u8]>,
}

impl Message {
    pub fn new(uid: u32, octets: impl Into<Arc<[u8]>>) -> Self {
        let octets = octets.into();
        Self {
            uid,
            size: octets.len(),
            octets,
        }
    }
}

/// Which command is answered how. Nothing that is said changes anything: what a test wants to be different later, it says.
#[derive(Clone)]
pub struct Answers {
    messages: Arc<[Message]>,
    uid_validity: u32,
    capabilities: &'static str,
    greeting: Option<Vec<Step>>,
    tls: Option<Arc<ServerConfig>>,
    rules: Vec<Rule>,
    trickle: bool,
}

#[derive(Clone)]
struct Rule {
    prefix: String,
    once: bool,
    steps: Vec<Step>,
}

/// What the upstream can do unless a test says otherwise.
pub const CAPABILITIES: &str = "IMAP4rev1 SASL-IR AUTH=PLAIN ID UIDPLUS";

impl Answers {
    /// A mailbox of these messages, ascending by UID.
    pub fn new(messages: impl IntoIterator<Item = Message>) -> Self {
        Self {
            messages: messages.into_iter().collect(),
            uid_validity: 1000,
            capabilities: CAPABILITIES,
            greeting: None,
            tls: None,
            rules: Vec::new(),
            trickle: false,
        }
    }

    /// A mailbox of `octets`, UIDs from 1.
    pub fn of(octets: impl IntoIterator<Item = impl Into<Arc<[u8]>>>) -> Self {
        Self::new((1..).zip(octets).map(|(uid, octets)| Message::new(uid, octets)))
    }

    /// Answers a command that starts with `prefix` like this. What is said later goes before what was said earlier.
    pub fn on(mut self, prefix: &str, steps: impl Steps) -> Self {
        self.rules.push(Rule {
            prefix: prefix.into(),
            once: false,
            steps: steps.steps(),
        });
        self
    }

    /// The same for the first such command only.
    pub fn once(mut self, prefix: &str, steps: impl Steps) -> Self {
        self = self.on(prefix, steps);
        if let Some(rule) = self.rules.last_mut() {
            rule.once = true;
        }
        self
    }

    /// Greets like this.
    pub fn greet(mut self, steps: impl Steps) -> Self {
        self.greeting = Some(steps.steps());
        self
    }

    /// Speaks TLS from the start.
    pub fn tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Says that it can do this.
    pub fn capabilities(mut self, capabilities: &'static str) -> Self {
        self.capabilities = capabilities;
        self
    }

    pub fn uid_validity(mut self, uid_validity: u32) -> Self {
        self.uid_validity = uid_validity;
        self
    }

    /// Sends every octet by a write of its own.
    pub fn trickle(mut self) -> Self {
        self.trickle = true;
        self
    }

    /// What is sent before any command.
    pub fn greeting(&self) -> Vec<Step> {
        let mut steps: Vec<_> = self.tls.clone().map(Step::Tls).into_iter().collect();
        steps.extend(match &self.greeting {
            Some(greeting) => greeting.clone(),
            None => "* OK [ALERT] ready\r\n".steps(),
        });
        self.paced(steps)
    }

    /// What is done about `command`.
    pub fn to(&mut self, command: &str) -> Vec<Step> {
        let found = self.rules.iter().rposition(|rule| command.starts_with(&rule.prefix));
        let steps = match found {
            Some(at) if self.rules[at].once => self.rules.remove(at).steps,
            Some(at) => self.rules[at].steps.clone(),
            None => self.usual(command),
        };
        self.paced(steps)
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
                "* FLAGS (\\Seen \\Deleted)\r\n* {} EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY {}] it is\r\n",
                self.messages.len(),
                self.uid_validity
            )
            .into_bytes(),
            "UID" => match (words.next(), words.next()) {
                (Some("FETCH"), Some(set)) => self.fetched(set, command),
                (Some("SEARCH"), _) => b"* SEARCH\r\n".to_vec(),
                _ => Vec::new(),
            },
            "LOGOUT" => b"* BYE see you\r\n".to_vec(),
            _ => Vec::new(),
        };
        vec![Step::Send(data), send("{tag} OK done\r\n")]
    }

    fn fetched(&self, set: &str, command: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, message) in (1..).zip(&*self.messages) {
            if !contains(set, message.uid) {
                continue;
            }
            let uid = message.uid;
            out.extend_from_slice(format!("* {number} FETCH (UID {uid}").as_bytes());
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
        out
    }
}

/// The whole answer to a fetch of bodies for one message: data as the test wants it, and OK.
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

/// Header with its empty line, and text.
fn split(message: &[u8]) -> (&[u8], &[u8]) {
    let end = message.windows(4).position(|window| window == b"\r\n\r\n");
    message.split_at(end.map_or(message.len(), |at| at + 4))
}

/// Whether a UID set such as `1,4:6,9:*` names `uid`.
fn contains(set: &str, uid: u32) -> bool {
    set.split(',').any(|range| {
        let (first, last) = range.split_once(':').unwrap_or((range, range));
        let number = |word: &str| word.parse().unwrap_or(u32::MAX);
        (number(first)..=number(last)).contains(&uid)
    })
}
