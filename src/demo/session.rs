//! The protocol of one connection: turns a command into a reply. No I/O.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{
    command::{Command, StatusItem},
    flags::Flags,
    list,
    reply::{CommandError, Done, Reply, done},
    selected,
    store::{FolderName, Store},
    syntax::{Words, without_end},
    view::MailboxView,
};

const CAPABILITIES: &str = "IMAP4rev1 LITERAL+ SASL-IR AUTH=PLAIN ID NAMESPACE UIDPLUS MOVE UNSELECT SPECIAL-USE";
/// Both the name and the password of the only user.
const USER: &[u8] = b"demo";

/// The state of a connection (RFC 3501 §3).
#[derive(Debug)]
enum SessionState {
    NotAuthenticated,
    /// AUTHENTICATE has asked for the client's response. Holds the tag of the command.
    Authenticating(String),
    Authenticated,
    Selected(MailboxView),
    Logout,
}

/// The session of one connection.
#[derive(Debug)]
pub(super) struct Session {
    store: Arc<Mutex<Store>>,
    state: SessionState,
}

impl Session {
    pub(super) fn new(store: Arc<Mutex<Store>>) -> Self {
        Self {
            store,
            state: SessionState::NotAuthenticated,
        }
    }

    pub(super) fn greeting(&self) -> Reply {
        let mut reply = Reply::default();
        reply.line(format_args!("* OK [CAPABILITY {CAPABILITIES}] popgate demo is here"));
        reply
    }

    /// Whether the connection must be closed.
    pub(super) fn over(&self) -> bool {
        matches!(self.state, SessionState::Logout)
    }

    /// Answers `input`: a command with its literals and its line end, or the response that AUTHENTICATE waits for.
    pub(super) fn answer(&mut self, input: &[u8]) -> Reply {
        let mut reply = Reply::default();
        let input = without_end(input);
        if let SessionState::Authenticating(tag) = &mut self.state {
            let tag = std::mem::take(tag);
            self.state = SessionState::NotAuthenticated;
            let done = self.plain(input);
            conclude(&tag, done, &mut reply);
            return reply;
        }
        let mut words = Words::new(input);
        let Some(tag) = words.tag() else {
            reply.line(format_args!("* BAD a command begins with its tag"));
            return reply;
        };
        match Command::parse(&mut words) {
            Ok(Command::Authenticate { mechanism, initial }) => {
                self.authenticate(tag, &mechanism, initial.as_deref(), &mut reply);
            }
            Ok(command) => {
                let keep_numbers = command.keeps_numbers();
                let done = self.execute(command, &mut reply);
                self.catch_up(keep_numbers, &mut reply);
                conclude(tag, done, &mut reply);
            }
            Err(refusal) => conclude(tag, Err(refusal), &mut reply),
        }
        reply
    }

    /// Carries out AUTHENTICATE. No other command may have its tagged reply later: without an `initial` response, the
    /// client is asked for its response first.
    fn authenticate(&mut self, tag: &str, mechanism: &str, initial: Option<&[u8]>, reply: &mut Reply) {
        let done = match (self.may_authenticate(mechanism), initial) {
            (Err(refusal), _) => Err(refusal),
            (Ok(()), None) => {
                self.state = SessionState::Authenticating(tag.to_owned());
                reply.line(format_args!("+ "));
                return;
            }
            // A lone "=" stands for an empty response (RFC 4959 §3).
            (Ok(()), Some(b"=")) => self.plain(b""),
            (Ok(()), Some(response)) => self.plain(response),
        };
        conclude(tag, done, reply);
    }

    fn catch_up(&mut self, keep_numbers: bool, reply: &mut Reply) {
        let store = lock(&self.store);
        if let SessionState::Selected(view) = &mut self.state {
            view.catch_up(&store, keep_numbers, reply);
        }
    }

    /// Carries out any command but AUTHENTICATE.
    fn execute(&mut self, command: Command, reply: &mut Reply) -> Done {
        match command {
            Command::Capability => {
                reply.line(format_args!("* CAPABILITY {CAPABILITIES}"));
                done("that is all")
            }
            Command::Noop => done("here"),
            Command::Logout => {
                reply.line(format_args!("* BYE come back soon"));
                self.state = SessionState::Logout;
                done("goodbye")
            }
            Command::Id => {
                let version = env!("CARGO_PKG_VERSION");
                reply.line(format_args!(r#"* ID ("name" "popgate demo" "version" "{version}")"#));
                done("pleased to meet you")
            }
            Command::Login { user, password } => {
                self.not_authenticated()?;
                self.admit(&user, &password)
            }
            command => {
                if matches!(self.state, SessionState::NotAuthenticated) {
                    return Err(CommandError::Bad("log in first"));
                }
                self.execute_authenticated(command, reply)
            }
        }
    }

    fn not_authenticated(&self) -> Result<(), CommandError> {
        match self.state {
            SessionState::NotAuthenticated => Ok(()),
            _ => Err(CommandError::Bad("you are logged in")),
        }
    }

    fn may_authenticate(&self, mechanism: &str) -> Result<(), CommandError> {
        self.not_authenticated()?;
        match mechanism {
            "PLAIN" => Ok(()),
            _ => Err(CommandError::No("[CANNOT] the only mechanism here is PLAIN")),
        }
    }

    /// SASL PLAIN (RFC 4616): authorization identity, name, password, with NULs between.
    fn plain(&mut self, response: &[u8]) -> Done {
        if response == b"*" {
            return Err(CommandError::Bad("cancelled"));
        }
        let message = BASE64_STANDARD
            .decode(response)
            .map_err(|_| CommandError::Bad("not base64"))?;
        match message.split(|&octet| octet == 0).collect::<Vec<_>>()[..] {
            [identity, user, password] if identity.is_empty() || identity == user => self.admit(user, password),
            [_, _, _] => Err(CommandError::No("[AUTHORIZATIONFAILED] you are only yourself here")),
            _ => Err(CommandError::Bad("not a message of PLAIN")),
        }
    }

    fn admit(&mut self, user: &[u8], password: &[u8]) -> Done {
        if (user, password) != (USER, USER) {
            return Err(CommandError::No(
                "[AUTHENTICATIONFAILED] user and password are both \"demo\"",
            ));
        }
        self.state = SessionState::Authenticated;
        done(format!("[CAPABILITY {CAPABILITIES}] welcome"))
    }

    /// Carries out the commands that need a login, but no selected mailbox.
    fn execute_authenticated(&mut self, command: Command, reply: &mut Reply) -> Done {
        match command {
            Command::Namespace => {
                reply.line(format_args!(r#"* NAMESPACE (("" "/")) NIL NIL"#));
                done("one namespace")
            }
            Command::List {
                answer,
                reference,
                pattern,
            } => {
                list::write(reply, answer, &reference, &pattern);
                done("listed")
            }
            Command::Select { mailbox, read_only } => self.select(&mailbox, read_only, reply),
            Command::Status { mailbox, items } => self.status(&mailbox, &items, reply),
            command => self.execute_selected(command, reply),
        }
    }

    fn select(&mut self, mailbox: &[u8], read_only: bool, reply: &mut Reply) -> Done {
        // Even a SELECT that fails leaves the mailbox that was selected before (RFC 3501 §6.3.1).
        self.state = SessionState::Authenticated;
        let folder = FolderName::parse(mailbox).ok_or(NO_MAILBOX)?;
        let store = lock(&self.store);
        let view = MailboxView::new(&store, folder, read_only);
        view.describe(&store, reply);
        self.state = SessionState::Selected(view);
        done(if read_only {
            "[READ-ONLY] open"
        } else {
            "[READ-WRITE] open"
        })
    }

    fn status(&self, mailbox: &[u8], items: &[StatusItem], reply: &mut Reply) -> Done {
        let name = FolderName::parse(mailbox).ok_or(NO_MAILBOX)?;
        let store = lock(&self.store);
        let folder = store.folder(name);
        reply.text(format_args!("* STATUS {} (", name.as_str()));
        for (at, item) in items.iter().enumerate() {
            let unseen = || {
                folder
                    .messages()
                    .iter()
                    .filter(|m| !m.flags.contains(Flags::SEEN))
                    .count()
            };
            let space = if at == 0 { "" } else { " " };
            match item {
                StatusItem::Messages => reply.text(format_args!("{space}MESSAGES {}", folder.messages().len())),
                StatusItem::Recent => reply.text(format_args!("{space}RECENT 0")),
                StatusItem::UidNext => reply.text(format_args!("{space}UIDNEXT {}", folder.uid_next())),
                StatusItem::UidValidity => reply.text(format_args!("{space}UIDVALIDITY {}", store.uid_validity())),
                StatusItem::Unseen => reply.text(format_args!("{space}UNSEEN {}", unseen())),
            }
        }
        reply.line(format_args!(")"));
        done("counted")
    }

    /// Carries out the commands that need a selected mailbox.
    fn execute_selected(&mut self, command: Command, reply: &mut Reply) -> Done {
        let SessionState::Selected(view) = &mut self.state else {
            return Err(CommandError::Bad("select a mailbox first"));
        };
        let mut store = lock(&self.store);
        match command {
            Command::Check => done("checked"),
            Command::Unselect => {
                self.state = SessionState::Authenticated;
                done("left")
            }
            Command::Close => {
                if !view.read_only {
                    selected::expunge(view, &mut store, None)?;
                }
                self.state = SessionState::Authenticated;
                done("closed")
            }
            command => selected::execute(command, view, &mut store, reply),
        }
    }
}

/// The answer to SELECT and STATUS of any other mailbox.
const NO_MAILBOX: CommandError = CommandError::No("[NONEXISTENT] the mailboxes are INBOX and Trash");

/// Writes the tagged reply. No other function does.
fn conclude(tag: &str, done: Done, reply: &mut Reply) {
    match done {
        Ok(text) => reply.line(format_args!("{tag} OK {text}")),
        Err(CommandError::No(text)) => reply.line(format_args!("{tag} NO {text}")),
        Err(CommandError::Bad(text)) => reply.line(format_args!("{tag} BAD {text}")),
    }
}

/// Locks the store, even after a session has panicked: a change that was cut short leaves no message damaged.
fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}
