//! The command line: init | serve | reload | sessions | trace | check | doctor | state | backup | restore | sign-in |
//! demo | health | hash-password | completions | man.

mod backup;
mod check;
mod demo;
mod doctor;
mod hash_password;
mod health;
mod init;
mod man;
mod password;
#[cfg(unix)]
mod reload;
mod serve;
#[cfg(unix)]
mod sessions;
mod sign_in;
mod state;
mod tokens;
#[cfg(unix)]
mod trace;

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use chrono::{DateTime, NaiveDate};
use clap::{Parser, Subcommand};

use crate::{
    config::{self, Config, Loaded},
    gateway,
    health::Door,
    sandbox,
};

/// Where `serve --upstream` and `demo` listen by default: a port that needs no privilege.
const LISTEN: &str = "127.0.0.1:1110";
/// The configuration file if neither `--config` nor `POPGATE_CONFIG` names one.
const CONFIG: &str = "gateway.toml";

/// A POP3 server whose maildrops live on an upstream IMAP account.
#[derive(Debug, Parser)]
#[command(name = "popgate", version = env!("POPGATE_VERSION"), arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// The configuration [default: $POPGATE_CONFIG, else gateway.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve POP3
    Serve {
        /// Forward every login to this IMAP server, without a configuration: imaps://HOST,
        /// imap+starttls://HOST or imap://HOST (plain text), with :PORT if it is not the usual one
        #[arg(long, value_name = "URL", conflicts_with = "config")]
        upstream: Option<String>,
        /// With --upstream: where to listen
        #[arg(long, value_name = "ADDR:PORT", requires = "upstream", default_value = LISTEN)]
        listen: SocketAddr,
    },
    #[command(flatten)]
    Other(OtherCommand),
}

#[derive(Debug, Subcommand)]
enum OtherCommand {
    /// Make a running gateway read its configuration again, as SIGHUP does; if that fails, say why
    #[cfg(unix)]
    Reload,
    /// Show the sessions of a running gateway
    #[cfg(unix)]
    Sessions {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print what both sides of a login's sessions say, as it is said, until Ctrl-C
    ///
    /// Passwords, tokens and mail are replaced by their length. Nothing is written to any file.
    #[cfg(unix)]
    Trace {
        /// The login, as the device gives it
        login: String,
    },
    /// Read the configuration and say what it does, and what is wrong or risky
    Check {
        /// Connect to every upstream too; log in for each `[[account]]` and try its folders
        #[arg(long)]
        connect: bool,
        /// List what `retain_days` would remove now, by account; removes nothing
        #[arg(long)]
        retention: bool,
        /// List all keys with their values, defaults and meanings; reads no configuration
        #[arg(long, conflicts_with_all = ["connect", "retention", "config"])]
        keys: bool,
        /// With --keys: as JSON
        #[arg(long, requires = "keys")]
        json: bool,
    },
    /// Try one login end to end, step by step, and say what to do if one fails; beside a running gateway too
    Doctor {
        /// The login of a device; its password is asked for if the upstream needs it (at the terminal, or from standard input)
        login: String,
    },
    /// Show what logins have hidden and retrieved, or forget it; beside a running gateway too
    State {
        /// Only of this login
        login: Option<String>,
        /// Forget what this login has done: it sees all messages again
        #[arg(long, value_name = "LOGIN", conflicts_with = "login")]
        reset: Option<String>,
        /// With --reset: only in this folder
        #[arg(long, requires = "reset")]
        folder: Option<String>,
    },
    /// Save what `[state] dir` holds at this moment; beside a running gateway too
    ///
    /// The backup has what popgate knows of mailboxes, what logins have hidden and retrieved, removals under way, and consents;
    /// it has no mail. It does not have the key that opens the consents: keep a copy of the key in another place. FILE gets its
    /// name once it is complete, and only your user can read it.
    Backup {
        /// Where to write it; `-` is standard output
        file: PathBuf,
        /// Replace FILE if it exists
        #[arg(long)]
        force: bool,
    },
    /// Replace the records in `[state] dir` with those of a backup; only while no gateway runs
    ///
    /// The backup is read to its end and verified before anything is changed. The files that were in the directory stay there,
    /// under names that are printed. Logins see again what they have hidden since the backup.
    Restore {
        /// What `popgate backup` wrote; `-` is standard input
        file: PathBuf,
    },
    /// Let the gateway read mail at a provider that takes no passwords (OAuth2); beside a running gateway too
    #[command(group = clap::ArgGroup::new("what").required(true).args(["account", "list", "forget"]))]
    SignIn {
        /// The login of an `[[account]]`
        account: Option<String>,
        /// Sign in with a browser, even if a code would do
        #[arg(long, requires = "account")]
        browser: bool,
        /// Show the consent of every account
        #[arg(long)]
        list: bool,
        /// With --list: as JSON, with exit status 1 if a consent has ended or tokens cannot be written
        #[arg(long, requires = "list")]
        json: bool,
        /// Forget the consent of this account
        #[arg(long, value_name = "ACCOUNT")]
        forget: Option<String>,
    },
    /// Serve sample mail, to try popgate and mail programs with
    Demo {
        /// Where to listen
        #[arg(long, value_name = "ADDR:PORT", default_value = LISTEN)]
        listen: SocketAddr,
    },
    /// Ask a running gateway whether its listeners answer; for a container's health check
    Health {
        /// The listener to ask, without TLS [default: those of the configuration]
        #[arg(long, value_name = "ADDR:PORT", conflicts_with = "config")]
        address: Option<SocketAddr>,
        /// Fail too if a consent has ended (popgate sign-in --list) or tokens cannot be written
        #[arg(long, conflicts_with = "address")]
        strict: bool,
    },
    /// Ask for a password (at the terminal, or from standard input) and print its hash for `password_hash`
    HashPassword,
    /// Write a first configuration: asks whose mail, which provider, which device, which port and what a delete does
    ///
    /// Passwords go to files of their own beside the configuration, which only your user can read. An empty answer takes what is
    /// suggested. The answers may come from a pipe, one a line. No file that exists is replaced.
    Init,
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page, or write all of them
    Man {
        /// The command, without `popgate` [default: popgate itself]
        #[arg(conflicts_with = "dir")]
        command: Option<String>,
        /// Write the pages of all commands to this directory
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

impl Cli {
    /// Runs the command until it is done; `serve` and `demo` until SIGTERM or SIGINT. Call it before any thread starts:
    /// `serve` gives up rights for this thread and for those that it starts later. `give_back` returns free memory to
    /// the system: `serve` calls it after bursts of sessions.
    pub fn run(self, give_back: fn()) -> Result<(), Failure> {
        sandbox::hide_memory();
        let Self { command, config } = self;
        match command {
            Command::Serve {
                upstream: Some(url),
                listen,
            } => serve::run(move || Config::forward(&url, listen), give_back),
            Command::Serve { upstream: None, .. } => serve::run(move || load(config.clone()), give_back),
            Command::Other(command) => command.run(config),
        }
    }
}

impl OtherCommand {
    /// Runs the command. The compiler must not make this function a part of [`Cli::run`]. If it did, the stack of
    /// [`Cli::run`] would have 120 KB for these commands, and `serve` would keep that memory as long as it runs.
    #[inline(never)]
    fn run(self, config: Option<PathBuf>) -> Result<(), Failure> {
        match self {
            #[cfg(unix)]
            Self::Reload => {
                let loaded = load(config).map_err(reload::unread)?;
                block_on(async { reload::run(&loaded.config).await })
            }
            #[cfg(unix)]
            Self::Sessions { json } => block_on(async { sessions::run(&load(config)?.config, json).await }),
            #[cfg(unix)]
            Self::Trace { login } => block_on(async { trace::run(&load(config)?.config, login).await }),
            Self::Check { keys: true, json, .. } => check::keys(json),
            Self::Check { connect, retention, .. } => block_on(check::run(load(config)?, connect, retention)),
            Self::Doctor { login } => {
                let config = load(config)?.config;
                block_on(doctor::run(&config, &login))
            }
            Self::State { login, reset, folder } => {
                let config = load(config)?.config;
                block_on(state::run(
                    &config,
                    login.as_deref(),
                    reset.as_deref(),
                    folder.as_deref(),
                ))
            }
            Self::Backup { file, force } => block_on(backup::save(&load(config)?.config, &file, force)),
            Self::Restore { file } => block_on(backup::restore(&load(config)?.config, &file)),
            Self::SignIn {
                account,
                browser,
                list: _,
                json,
                forget,
            } => {
                let action = match (&account, &forget) {
                    (Some(login), _) => sign_in::Action::SignIn { login, browser },
                    (None, Some(login)) => sign_in::Action::Forget { login },
                    (None, None) => sign_in::Action::List { json },
                };
                block_on(sign_in::run(&load(config)?.config, action))
            }
            Self::Demo { listen } => block_on(demo::run(listen)),
            Self::Health {
                address: Some(address), ..
            } => {
                let door = Door {
                    address,
                    implicit_tls: false,
                    balancers: &[],
                };
                block_on(health::run([door]))
            }
            Self::Health { address: None, strict } => {
                let config = load(config)?.config;
                block_on(async {
                    health::run(config.listeners.iter().map(Door::from)).await?;
                    if strict {
                        sign_in::list::watch(&config).await
                    } else {
                        Ok(())
                    }
                })
            }
            Self::HashPassword => hash_password::run(),
            Self::Init => init::run(&named(config).unwrap_or_else(|| CONFIG.into())),
            Self::Completions { shell } => man::completions(shell),
            Self::Man { dir: Some(dir), .. } => man::write_all(&dir),
            Self::Man { command, dir: None } => man::print(command.as_deref()),
        }
    }
}

/// Runs `work` on a runtime with several threads.
fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // In a box. Without the box, each function that gets `work` would keep a copy of `work` on the stack until the work
    // is done. (Tokio makes such a box only if `work` takes more than 16 KB.)
    let result = runtime.block_on(Box::pin(work));
    // Tasks that still run are not waited for: after the drain, no device depends on them.
    runtime.shutdown_background();
    result
}

/// Loads the configuration file that the command line or the environment names, or else `gateway.toml`. If neither
/// names a file and there is no `gateway.toml`, `POPGATE__…` variables alone may make the configuration.
fn load(option: Option<PathBuf>) -> Result<Loaded, config::Error> {
    if let Some(file) = named(option) {
        return Config::load(&file);
    }
    let file = Path::new(CONFIG);
    let alone = if file.exists() {
        None
    } else {
        Config::from_environment()
    };
    alone.unwrap_or_else(|| Config::load(file))
}

/// The configuration file from `--config`, or else from `POPGATE_CONFIG`.
fn named(option: Option<PathBuf>) -> Option<PathBuf> {
    option.or_else(|| {
        std::env::var_os("POPGATE_CONFIG")
            .filter(|file| !file.is_empty())
            .map(PathBuf::from)
    })
}

/// The directory of `file`; `.` if the name has none.
fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The day (UTC) of a time in state, in seconds since 1970.
fn day(seconds: u32) -> NaiveDate {
    DateTime::from_timestamp(seconds.into(), 0)
        .unwrap_or_default()
        .date_naive()
}

/// Why a command failed: a message for the user, and the exit status.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The command failed, but another try may succeed: exit status 1.
    fn failed(message: impl fmt::Display) -> Self {
        Self {
            code: 1,
            message: message.to_string(),
        }
    }

    /// The command line or the configuration is wrong: exit status 2.
    fn wrong(message: impl fmt::Display) -> Self {
        Self {
            code: 2,
            message: message.to_string(),
        }
    }

    /// 1 for a failure, 2 for a wrong command line or configuration.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::failed(error)
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::wrong(error)
    }
}

#[cfg(unix)]
impl From<crate::admin::Error> for Failure {
    fn from(error: crate::admin::Error) -> Self {
        Self::failed(error)
    }
}

impl From<crate::telemetry::Error> for Failure {
    fn from(error: crate::telemetry::Error) -> Self {
        Self::wrong(error)
    }
}

impl From<gateway::Error> for Failure {
    fn from(error: gateway::Error) -> Self {
        match &error {
            gateway::Error::Bind { address, source } | gateway::Error::BindSite { address, source } => {
                let help = bind_advice(source, *address);
                Self::failed(format!("{error}{help}"))
            }
            gateway::Error::BindBesideOurs { .. }
            | gateway::Error::Random(_)
            | gateway::Error::Draining
            | gateway::Error::Panicked(_) => Self::failed(error),
            gateway::Error::NoCertificate { .. }
            | gateway::Error::Tls(_)
            | gateway::Error::Maildrops(_)
            | gateway::Error::Notify(_)
            | gateway::Error::OAuth2(_)
            | gateway::Error::State(_) => Self::wrong(error),
        }
    }
}

/// What to do if popgate cannot listen at `address`; empty if there is no advice.
fn bind_advice(error: &io::Error, address: SocketAddr) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "\nhelp: ports below 1024 need a privilege: take a higher one, let systemd open it (packaging/popgate.socket), or \
             give popgate CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrInUse => "\nhelp: another program listens there: stop it, or take another port",
        io::ErrorKind::AddrNotAvailable => {
            "\nhelp: this machine has no such address: 0.0.0.0 or [::] stands for all that it has"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
