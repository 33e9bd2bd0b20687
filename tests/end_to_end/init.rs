//! `popgate init`: from the questions to a device that gets its mail.

use std::{
    fs,
    io::Write,
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

const DEVICE_PASSWORD: &str = "wren-7-Sundew";

/// `popgate` in `directory`. It trusts `authority` like a root of the system.
fn command(directory: &Path, authority: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_popgate"));
    command.args(arguments).current_dir(directory).env_clear();
    command.env("SSL_CERT_FILE", authority);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs `popgate init` with these answers.
fn init(directory: &Path, answers: &str) -> Output {
    let mut child = command(directory, Path::new("/nowhere"), &["init"]).spawn().unwrap();
    // An error is ignored: the program may end before it has read all answers.
    let _ = child.stdin.take().unwrap().write_all(answers.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(octets: &[u8]) -> &str {
    std::str::from_utf8(octets).unwrap()
}

#[test]
fn five_answers_and_two_passwords_serve_a_device() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.user_with("eva@example.org", &[mail::simple(1), mail::simple(2)]);
    let directory = TempDir::new().unwrap();
    let authority = dovecot.certificates().authority_file();
    let (upstream, port) = (dovecot.tls_address(), free_port());
    let answers = format!("eva@example.org\n{upstream}\nticket\n{port}\nhide\n{PASSWORD}\n{DEVICE_PASSWORD}\n");
    let output = init(directory.path(), &answers);
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{printed}{}", text(&output.stderr));
    assert!(
        printed.ends_with("Next:\n  popgate check --connect\n  popgate serve\n"),
        "{printed}"
    );
    assert!(
        !printed.contains(PASSWORD) && !printed.contains(DEVICE_PASSWORD),
        "{printed}"
    );
    let configuration = fs::read_to_string(directory.path().join("gateway.toml")).unwrap();
    assert!(
        !configuration.contains(PASSWORD) && !configuration.contains(DEVICE_PASSWORD),
        "{configuration}"
    );

    let checked = command(directory.path(), &authority, &["check", "--connect"])
        .output()
        .unwrap();
    let said = format!("{}{}", text(&checked.stdout), text(&checked.stderr));
    assert!(checked.status.success() && !said.contains("warning"), "{said}");

    let mut serve = command(directory.path(), &authority, &["serve"]);
    let mut serving = Process(serve.stderr(Stdio::null()).spawn().unwrap());
    let address = ([127, 0, 0, 1], port).into();
    assert!(greets(address, &mut serving.0), "the gateway does not start");
    let mut pop = Pop::connect(address);
    let reply = pop.try_log_in("eva@example.org", DEVICE_PASSWORD);
    assert!(reply.starts_with("+OK 2 "), "{reply}");
    pop.ok("DELE 1");
    pop.quit();
    let mut pop = Pop::connect(address);
    assert!(pop.try_log_in("eva@example.org", DEVICE_PASSWORD).starts_with("+OK 1 "));
    pop.quit();
    assert_eq!(dovecot.imap("eva@example.org").uids().len(), 2, "hidden, not removed");
}

#[test]
fn what_is_there_is_not_replaced_and_nobody_is_asked() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("gateway.toml");
    fs::write(&file, "# mine\n").unwrap();
    let output = init(directory.path(), "");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""));
    assert!(
        text(&output.stderr).contains("gateway.toml is there already"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "# mine\n");
}

#[test]
fn answers_that_end_too_soon_write_nothing() {
    let directory = TempDir::new().unwrap();
    let output = init(directory.path(), "eva@example.org\ngmail\nscanner\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stdout).contains("\"scanner\" is not in the list"),
        "{}",
        text(&output.stdout)
    );
    let said = text(&output.stderr);
    assert!(
        said.contains("the answers end before this question: 3. What fetches it?"),
        "{said}"
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// Types each answer when its question is shown, and a password only when the terminal hides what is typed.
const TERMINAL: &str = r#"
import os, pty, sys, termios, time
answers = [(b"Whose", b"eva@gmail.com"), (b"Where", b""), (b"fetches", b"pbx"), (b"port", b"1110"), (b"delete", b""),
           (b"The password of", b"kestrel-secret"), (b"that the device gives", b"wren-secret")]
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], [sys.argv[1], "init"])
shown = b""
def read():
    global shown
    try:
        octets = os.read(terminal, 4096)
    except OSError:
        octets = b""
    shown += octets
    return octets
for question, answer in answers:
    seen = len(shown)
    while question not in shown[seen:] or not shown.endswith(b"> "):
        if not read():
            sys.exit(shown.decode())
    while answer.endswith(b"secret") and termios.tcgetattr(terminal)[3] & termios.ECHO:
        time.sleep(0.01)
    os.write(terminal, answer + b"\n")
while read():
    pass
sys.stdout.write(shown.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn passwords_do_not_show_at_a_terminal() {
    let Some(python) = require_program("python3") else {
        return;
    };
    let directory = TempDir::new().unwrap();
    let output = Command::new(python)
        .args(["-c", TERMINAL, env!("CARGO_BIN_EXE_popgate")])
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{shown}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(shown.contains("It does not show while you type"), "{shown}");
    assert!(shown.contains("eva@gmail.com") && !shown.contains("secret"), "{shown}");
    let password = fs::read_to_string(directory.path().join("upstream-password")).unwrap();
    assert_eq!(password, "kestrel-secret\n");
}
