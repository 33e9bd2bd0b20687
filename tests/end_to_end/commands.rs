//! What a person types besides `serve`: `init` from the first question to a message at a device, and what packages are made of.

use std::{
    fs,
    io::Write as _,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::support::{
    PASSWORD,
    dovecot::Dovecot,
    mail,
    pop::Pop,
    process::{Process, free_port, greets},
    require_program,
};

/// Runs popgate in `directory` with these lines on its standard input.
fn popgate(directory: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_popgate"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("POPGATE_") {
            command.env_remove(name);
        }
    }
    let mut child = command
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read all.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn printed(output: &Output) -> String {
    let octets = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&octets).into_owned()
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn init_leads_to_a_gateway_that_works() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = dovecot.imap("eva@example.org");
    imap.append(&[mail::simple(1)], "");
    let directory = TempDir::new().unwrap();
    let authority = dovecot.certificates().authority_file();
    // `init` trusts what the system trusts.
    let popgate = |arguments: &[&str], input: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_popgate"))
            .args(arguments)
            .current_dir(directory.path())
            .env("SSL_CERT_FILE", &authority)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    };
    let port = free_port();
    let host = format!("localhost:{}", dovecot.tls_address().port());
    let answers = format!("eva@example.org\n{host}\nhelpdesk\n{PASSWORD}\n{port}\nhide\n");
    let output = popgate(&["init"], &answers);
    let said = printed(&output);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
    for words in ["popgate check --connect", "popgate serve", "popgate doctor helpdesk"] {
        assert!(said.contains(words), "no {words:?}: {said}");
    }
    assert_eq!(
        files(directory.path()),
        ["gateway.toml", "popgate.key", "upstream.password"]
    );
    let password = said
        .split("with the password ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    let text = fs::read_to_string(directory.path().join("gateway.toml")).unwrap();
    assert!(!text.contains(password) && !text.contains(PASSWORD), "{text}");

    let check = popgate(&["check", "--connect"], "");
    assert!(
        check.status.success() && printed(&check).contains(": ok, 1 message of "),
        "{}",
        printed(&check)
    );
    let mut server = Process(
        Command::new(env!("CARGO_BIN_EXE_popgate"))
            .arg("serve")
            .current_dir(directory.path())
            .env("SSL_CERT_FILE", &authority)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let address = (Ipv4Addr::LOCALHOST, port).into();
    assert!(greets(address, &mut server.0));
    let mut pop = Pop::connect(address);
    assert!(pop.try_log_in("helpdesk", password).starts_with("+OK"));
    assert_eq!(pop.retr(1).1, mail::simple(1));
    pop.quit();
    let doctor = popgate(&["doctor", "helpdesk"], "");
    assert!(doctor.status.success(), "{}", printed(&doctor));

    let again = popgate(&["init"], &answers);
    assert_eq!(again.status.code(), Some(2), "{}", printed(&again));
    assert!(printed(&again).contains("is there already"), "{}", printed(&again));
    assert_eq!(fs::read_to_string(directory.path().join("gateway.toml")).unwrap(), text);
}

/// Runs a command at a terminal, types a line once the terminal shows no more what is typed, and prints what the terminal shows.
const AT_A_TERMINAL: &str = r"
import os, pty, sys, termios
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[1], sys.argv[1:])
shown = b''
while termios.tcgetattr(terminal)[3] & termios.ECHO:
    os.sched_yield()
os.write(terminal, b'hunter2\n')
try:
    while octets := os.read(terminal, 4096):
        shown += octets
except OSError:
    pass
os.write(1, shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";

#[test]
fn a_password_does_not_show_while_it_is_typed() {
    let Some(python) = require_program("python3") else {
        return;
    };
    let output = Command::new(python)
        .args(["-c", AT_A_TERMINAL, env!("CARGO_BIN_EXE_popgate"), "hash-password"])
        .output()
        .unwrap();
    let shown = printed(&output);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("Password: ") && shown.contains("$argon2id$"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn init_takes_defaults_and_asks_again() {
    let directory = TempDir::new().unwrap();
    let port = free_port();
    let answers = format!("office\noffice@gmail.com\ngmial\n\n\nmany\n{port}\nburn\n\n");
    let output = popgate(directory.path(), &["init"], &answers);
    let said = printed(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("[gmail]") && said.contains("app password"), "{said}");
    assert!(
        said.contains("logs in as office@gmail.com with the mailbox's own password"),
        "{said}"
    );
    let check = popgate(directory.path(), &["check"], "");
    let said = printed(&check);
    assert!(check.status.success(), "{said}");
    assert!(
        said.contains("office@gmail.com, each with its own password: sees INBOX"),
        "{said}"
    );
    assert!(said.contains("a delete moves to Trash"), "{said}");
}

#[test]
fn init_that_is_broken_off_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let output = popgate(directory.path(), &["init"], "office@example.org\n\n");
    assert_eq!(output.status.code(), Some(2), "{}", printed(&output));
    assert!(printed(&output).contains("nothing is written"), "{}", printed(&output));
    assert_eq!(files(directory.path()), Vec::<String>::new());
}

#[test]
fn shells_take_the_completions() {
    let directory = TempDir::new().unwrap();
    for (shell, test) in [
        ("bash", "source ./script && complete -p popgate"),
        (
            "zsh",
            "autoload -U compinit && compinit -u -D && source ./script && whence -w _popgate",
        ),
        ("fish", "source ./script; complete -C 'popgate doc'"),
    ] {
        let output = popgate(directory.path(), &["completions", shell], "");
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains("doctor"), "{script}");
        fs::write(directory.path().join("script"), script).unwrap();
        // One shell is enough for a test run; the others are tried if they are there.
        let found = match shell {
            "bash" => require_program("bash"),
            other => crate::support::find_program(other),
        };
        let Some(program) = found else { continue };
        let taken = Command::new(program)
            .args(["-c", test])
            .current_dir(directory.path())
            .output()
            .unwrap();
        assert!(taken.status.success(), "{shell}: {}", printed(&taken));
        assert!(
            printed(&taken).contains("popgate") || printed(&taken).contains("doctor"),
            "{shell}: {}",
            printed(&taken)
        );
    }
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let directory = TempDir::new().unwrap();
    let output = popgate(directory.path(), &["man", "pages"], "");
    assert!(output.status.success(), "{}", printed(&output));
    let pages = files(&directory.path().join("pages"));
    for page in [
        "popgate.1",
        "popgate-doctor.1",
        "popgate-serve.1",
        "popgate-check.1",
        "popgate-init.1",
    ] {
        assert!(pages.iter().any(|name| name == page), "no {page}: {pages:?}");
    }
    let page = fs::read_to_string(directory.path().join("pages/popgate-doctor.1")).unwrap();
    assert!(
        page.contains(".TH popgate-doctor 1") && page.contains("LOGIN"),
        "{page}"
    );
    let Some(groff) = crate::support::find_program("groff") else {
        return;
    };
    let checked = Command::new(groff)
        .args(["-man", "-Tutf8", "-ww", "pages/popgate.1"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(
        checked.status.success() && checked.stderr.is_empty(),
        "{}",
        printed(&checked)
    );
}
