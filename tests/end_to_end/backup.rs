//! `popgate backup` and `popgate restore`, as an operator uses them.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::{Command, Output, Stdio},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use popgate::state::FileStore;
use tempfile::TempDir;

use crate::support::{
    PATIENCE,
    answers::Answers,
    dovecot::Dovecot,
    gateway::{Gateway, Setup, account},
    mail,
    peer::Peer,
    pop::Pop,
    process::Process,
    signal,
};

/// Runs `popgate` with the configuration `config`.
pub fn popgate(config: &Path, arguments: &[&str], input: Stdio) -> Output {
    Command::new(env!("CARGO_BIN_EXE_popgate"))
        .args(arguments)
        .arg("--config")
        .arg(config)
        .stdin(input)
        .output()
        .unwrap()
}

/// Asserts success, and returns what was printed.
#[track_caller]
pub fn succeeds(output: Output) -> String {
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn fails(output: Output, code: i32) -> String {
    assert_eq!(
        (output.status.code(), &*String::from_utf8_lossy(&output.stdout)),
        (Some(code), "")
    );
    String::from_utf8(output.stderr).unwrap()
}

fn back_up(gateway: &Gateway, file: &Path) -> String {
    succeeds(popgate(
        &gateway.file(),
        &["backup", file.to_str().unwrap()],
        Stdio::null(),
    ))
}

/// A configuration with its state in `dir`, for commands without a gateway.
fn configuration(directory: &TempDir, dir: &Path) -> std::path::PathBuf {
    let file = directory.path().join("gateway.toml");
    let text = format!("[upstream.lab]\nhost = \"imap.example.org\"\nlogins = [\"*\"]\n[state]\ndir = {dir:?}\n");
    fs::write(&file, text).unwrap();
    file
}

fn setup(upstream: std::net::SocketAddr, dir: &Path) -> Setup {
    Setup::new(upstream)
        .maildrop("on_delete = \"hide\"")
        .table(&format!("[state]\ndir = {dir:?}"))
        .table(&account("pbx", "eva"))
        .table(&account("fax", "eva"))
}

fn uidls(gateway: &Gateway, login: &str) -> Vec<String> {
    let mut pop = Pop::log_in(gateway.address(), login);
    let lines = pop.list("UIDL");
    pop.quit();
    lines
        .iter()
        .map(|line| line.split(' ').nth(1).unwrap().to_owned())
        .collect()
}

/// Every QUIT that was answered before the backup began is in it, and none that began after it ended.
#[test]
fn a_backup_made_while_devices_delete_gives_back_what_they_were_told() {
    const MESSAGES: usize = 40;
    let Some(dovecot) = Dovecot::start() else { return };
    let messages: Vec<_> = (1..=MESSAGES).map(mail::simple).collect();
    dovecot.user_with("eva", &messages);
    let (kept, backups) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let gateway = setup(dovecot.address(), kept.path()).start();
    let all = uidls(&gateway, "fax");
    let begun = AtomicUsize::new(0);
    let (quit, quits) = mpsc::channel();
    let made: Vec<_> = std::thread::scope(|scope| {
        let (gateway, begun) = (&gateway, &begun);
        scope.spawn(move || {
            for number in 1..=MESSAGES {
                let mut pop = Pop::log_in(gateway.address(), "pbx");
                pop.ok("DELE 1");
                begun.fetch_add(1, Ordering::SeqCst);
                pop.quit();
                quit.send(number).unwrap();
            }
        });
        let backup = |number: usize| {
            let waited = quits.iter().find(|&ended| ended >= 5 * number).unwrap();
            let least = quits.try_iter().last().unwrap_or(waited);
            let file = backups.path().join(number.to_string());
            let said = back_up(gateway, &file);
            assert!(said.contains("1 record of what a login has done"), "{said}");
            (file, least, begun.load(Ordering::SeqCst))
        };
        [1, 3, 5].map(backup).into()
    });
    assert!(made.windows(2).all(|two| two[0].1 < two[1].1), "{made:?}");
    assert_eq!(
        fs::read_dir(backups.path()).unwrap().count(),
        3,
        "nothing else is left there"
    );
    gateway.stop();
    for (file, least, most) in made {
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let dir = TempDir::new().unwrap();
        let state = dir.path().join("state");
        let config = configuration(&dir, &state);
        let said = succeeds(popgate(&config, &["restore", file.to_str().unwrap()], Stdio::null()));
        assert!(said.contains("1 record of what a login has done"), "{said}");
        let gateway = setup(dovecot.address(), &state).start();
        let seen = uidls(&gateway, "pbx");
        let hidden = MESSAGES - seen.len();
        assert!(
            (least..=most).contains(&hidden),
            "{hidden} hidden, not {least} to {most}"
        );
        assert_eq!(seen, all[hidden..], "the rest is called what it was called");
        assert_eq!(uidls(&gateway, "fax"), all);
        gateway.stop();
    }
}

/// A peer with three messages, of which `pbx` has hidden the first.
fn with_one_hidden(dir: &Path) -> (Peer, Gateway) {
    let peer = Peer::start(Answers::of((1..=3).map(mail::simple)));
    let gateway = setup(peer.address(), dir).start();
    let mut pop = Pop::log_in(gateway.address(), "pbx");
    pop.ok("DELE 1");
    pop.quit();
    (peer, gateway)
}

#[test]
fn restoring_needs_the_gateway_stopped_and_sets_its_state_aside() {
    let (kept, backups) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (peer, gateway) = with_one_hidden(kept.path());
    let file = backups.path().join("state");
    back_up(&gateway, &file);
    let mut pop = Pop::log_in(gateway.address(), "pbx");
    pop.ok("DELE 1");
    pop.quit();
    let restore = |gateway: &Gateway| popgate(&gateway.file(), &["restore", file.to_str().unwrap()], Stdio::null());
    let said = fails(restore(&gateway), 1);
    assert!(
        said.contains(&format!(
            "a gateway is running with the state in {}: stop it",
            kept.path().display()
        )),
        "{said}"
    );
    assert_eq!(uidls(&gateway, "pbx").len(), 1);
    // The gateway's configuration file exists only while the gateway lives.
    let mut gateway = gateway;
    gateway.signal("TERM");
    gateway.wait();
    let said = succeeds(restore(&gateway));
    let aside = said
        .split("What was there before is now in ")
        .nth(1)
        .unwrap()
        .split(".\n")
        .next()
        .unwrap();
    assert!(Path::new(aside).is_file(), "{said}");
    let gateway = setup(peer.address(), kept.path()).start();
    assert_eq!(uidls(&gateway, "pbx").len(), 2);
}

#[test]
fn a_damaged_or_foreign_file_changes_nothing() {
    let (kept, backups) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (_peer, gateway) = with_one_hidden(kept.path());
    let file = backups.path().join("state");
    back_up(&gateway, &file);
    gateway.stop();
    let config = configuration(&backups, kept.path());
    let content = |dir: &Path| {
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.map(|file| (fs::read(&file).unwrap(), file)).collect();
        files.sort();
        files
    };
    let before = content(kept.path());
    let octets = fs::read(&file).unwrap();
    let mut damaged = octets.clone();
    damaged[octets.len() / 2] ^= 1;
    for (octets, why) in [
        (&octets[..octets.len() - 1], "is not whole: its end is missing"),
        (&damaged, "is damaged: line "),
        (b"a mere text\n", "is not a backup that popgate has made"),
        (&before[0].0, "is not a backup that popgate has made"),
    ] {
        fs::write(&file, octets).unwrap();
        let said = fails(popgate(&config, &["restore", file.to_str().unwrap()], Stdio::null()), 1);
        assert!(said.contains(why) && said.contains("nothing was changed"), "{said}");
    }
    let said = fails(popgate(&config, &["restore", "/nowhere/state"], Stdio::null()), 1);
    assert!(said.contains("/nowhere/state cannot be read: "), "{said}");
    assert_eq!(content(kept.path()), before);
}

#[test]
fn a_file_that_is_there_is_replaced_on_request_only() {
    let (kept, backups) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (_peer, gateway) = with_one_hidden(kept.path());
    let file = backups.path().join("state");
    back_up(&gateway, &file);
    let first = fs::read(&file).unwrap();
    let mut pop = Pop::log_in(gateway.address(), "pbx");
    pop.ok("DELE 1");
    pop.quit();
    let name = file.to_str().unwrap();
    let said = fails(popgate(&gateway.file(), &["backup", name], Stdio::null()), 2);
    assert!(said.contains("is there already") && said.contains("--force"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), first);
    succeeds(popgate(&gateway.file(), &["backup", name, "--force"], Stdio::null()));
    assert_ne!(fs::read(&file).unwrap(), first);
    let directory = backups.path().to_str().unwrap();
    for arguments in [&["backup", directory][..], &["backup", directory, "--force"]] {
        let said = fails(popgate(&gateway.file(), arguments, Stdio::null()), 2);
        assert!(said.contains("is not a file"), "{said}");
    }
    let said = fails(
        popgate(&gateway.file(), &["backup", "/nowhere/state"], Stdio::null()),
        1,
    );
    assert!(said.contains("cannot write /nowhere/state: "), "{said}");
    assert_eq!(fs::read_dir(backups.path()).unwrap().count(), 1);
}

/// For a container without a place for files: `docker exec GATEWAY popgate backup - > state`.
#[test]
fn a_backup_may_go_through_pipes_and_needs_no_gateway() {
    let (kept, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (peer, gateway) = with_one_hidden(kept.path());
    let beside = popgate(&gateway.file(), &["backup", "-"], Stdio::null());
    gateway.stop();
    let config = configuration(&other, kept.path());
    let alone = popgate(&config, &["backup", "-"], Stdio::null());
    for output in [&beside, &alone] {
        assert!(output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with("standard output: 1 index, 1 record of "), "{said}");
    }
    let records = |output: &Output| {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        text.lines()
            .filter(|line| line.contains("\"kind\""))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(records(&beside), records(&alone));
    let file = other.path().join("piped");
    fs::write(&file, &beside.stdout).unwrap();
    let state = other.path().join("state");
    let config = configuration(&other, &state);
    let input = fs::File::open(&file).unwrap();
    succeeds(popgate(&config, &["restore", "-"], input.into()));
    let gateway = setup(peer.address(), &state).start();
    assert_eq!(uidls(&gateway, "pbx").len(), 2);
}

#[test]
fn where_no_state_is_there_is_no_backup() {
    let directory = TempDir::new().unwrap();
    let config = configuration(&directory, &directory.path().join("state"));
    let file = directory.path().join("backup");
    let said = fails(popgate(&config, &["backup", file.to_str().unwrap()], Stdio::null()), 1);
    assert!(said.contains("holds no state"), "{said}");
    fs::write(
        &config,
        "[upstream.lab]\nhost = \"imap.example.org\"\nlogins = [\"*\"]\n",
    )
    .unwrap();
    for command in ["backup", "restore"] {
        let said = fails(popgate(&config, &[command, file.to_str().unwrap()], Stdio::null()), 2);
        assert!(said.contains("[state] has no `dir`"), "{said}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

/// Starts `popgate backup` beside a fake gateway. Returns the process, and the connection on which it has asked that
/// gateway.
fn under_way(kept: &Path, directory: &TempDir) -> (Process, UnixStream) {
    let config = configuration(directory, kept);
    let socket = UnixListener::bind(kept.join("state.sock")).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_popgate"))
        .args(["backup", "saved", "--config"])
        .arg(&config)
        .current_dir(directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (stream, _) = socket.accept().unwrap();
    let mut request = String::new();
    BufReader::new(&stream).read_line(&mut request).unwrap();
    assert_eq!(request, "\"Parts\"\n");
    fs::remove_file(kept.join("state.sock")).unwrap();
    (Process(child), stream)
}

#[test]
fn a_backup_that_is_cut_short_leaves_nothing() {
    let kept = TempDir::new().unwrap();
    let _gateway = FileStore::open(kept.path()).unwrap();
    let portion = "{\"Ok\":[{\"kind\":\"past\",\"upstream\":\"lab\",\"user\":\"eva\",\"octets\":\"\"}]}\n";
    for (interrupt, why) in [
        (true, "interrupted: no backup was made"),
        (false, "the state cannot be read or written, see the log"),
    ] {
        let directory = TempDir::new().unwrap();
        let (mut process, mut stream) = under_way(kept.path(), &directory);
        stream.write_all(portion.as_bytes()).unwrap();
        if interrupt {
            // Now the backup has begun to write.
            wait_for(|| fs::read_dir(&directory).unwrap().count() > 1);
            assert!(signal(process.0.id(), "INT"));
        } else {
            drop(stream);
        }
        assert_eq!(process.0.wait().unwrap().code(), Some(1));
        let said = std::io::read_to_string(process.0.stderr.take().unwrap()).unwrap();
        assert!(said.contains(why), "{said}");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "only the configuration");
    }
}

fn wait_for(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
}
