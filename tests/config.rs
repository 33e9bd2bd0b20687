//! The shipped example, and what a person sees of the configuration on the command line.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use popgate::config::{
    Config, Credential, Grant, ListenerTls, LocalSecret, OnDelete, OnRetrieve, Policy, Preset, Retention, View,
};
use rcgen::{CertificateParams, KeyPair};

#[path = "../src/free_port.rs"]
mod free_port;
use free_port::free_port;

const EXAMPLE: &str = include_str!("../gateway.toml.example");

/// The example with every commented key in force, and the files it names in `directory`.
fn whole_example(directory: &Path) -> String {
    let mut text = String::new();
    // A secret that a table gives by `…_file` can't be given by itself too.
    let mut by_file = Vec::new();
    for line in EXAMPLE.lines() {
        let line = match line.strip_prefix('#') {
            Some(key) if !key.is_empty() && !key.starts_with(' ') => key,
            _ => line,
        };
        let key = line.split(" = ").next().unwrap();
        match key.strip_suffix("_file") {
            _ if line.starts_with('[') => by_file.clear(),
            Some(secret) => by_file.push(secret),
            None if by_file.contains(&key) => continue,
            // Nor can state lie in a directory and in servers.
            None if key == "dir" => continue,
            None => {}
        }
        text.push_str(line);
        text.push('\n');
    }
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap();
    for file in text.split('"').filter_map(|part| part.strip_prefix("/run/secrets/")) {
        let content = match file {
            "office-key" => key.serialize_pem(),
            "office-certificate" => certificate.pem(),
            "state-key" => "0123456789abcdef".repeat(2),
            "devices" => "# no device yet\n".to_owned(),
            file => format!("secret of {file}\n"),
        };
        std::fs::write(directory.join(file), content).unwrap();
    }
    std::fs::write(
        directory.join("uidls.txt"),
        "1700000000.1\t<a@example.org>\n1700000000.2\t2\n",
    )
    .unwrap();
    text.replace("/run/secrets/", "")
}

/// Mend a difference by `cargo run --example reference`.
#[test]
fn example_and_chapter_are_made_of_the_declared_keys() {
    assert_eq!(popgate::config::example(), EXAMPLE);
    let chapter = include_str!("../docs/src/configuration.md");
    let table = popgate::config::keys_as_markdown();
    assert!(table.lines().count() > 80 && chapter.contains(&format!("\n{table}\n<!-- end of keys -->\n")));
}

#[test]
fn example_loads_as_shipped() {
    let config = Config::parse(EXAMPLE, Path::new("")).unwrap();
    assert_eq!(config.upstreams[0].host, "imap.example.org");
    assert_eq!(config.listeners.len(), 1);
    assert!(config.accounts.is_empty());
}

#[test]
fn example_loads_with_every_key_enabled() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::parse(&whole_example(directory.path()), directory.path()).unwrap();
    let modes: Vec<_> = config.listeners.iter().map(|listener| listener.tls).collect();
    assert_eq!(modes, [ListenerTls::Off, ListenerTls::StartTls, ListenerTls::Implicit]);
    assert!(config.listeners[1].require_tls);
    let [tickets, pbx, office, fax, rule] = &config.accounts[..] else {
        panic!("{:?}", config.accounts)
    };
    assert!(matches!(tickets.secret, LocalSecret::Hash(_)));
    assert_eq!(
        (tickets.maildrop.folders[0].as_str(), tickets.maildrop.on_retrieve),
        ("Tickets", OnRetrieve::Keep)
    );
    assert_eq!(
        (&tickets.maildrop.on_delete, tickets.maildrop.retention),
        (&OnDelete::Hide, Retention::Days(30))
    );
    assert_eq!(tickets.maildrop.view.newest, Some(500), "the upstream's");
    assert!(matches!(&tickets.credential, Credential::Password(password) if password.expose() == b"secret of office"));
    assert!(matches!(&pbx.secret, LocalSecret::Password(secret) if secret.expose() == b"secret of pbx"));
    assert_eq!(office.user, "office@example.org");
    assert!(rule.is_rule() && matches!(rule.secret, LocalSecret::File(_)));
    assert!(matches!(&fax.credential, Credential::OAuth2 { consent } if consent == "anna@example.com"));
    let grants = config.upstreams.iter().map(|upstream| {
        let grant = upstream.oauth2.as_ref().map(|oauth2| &oauth2.grant);
        let word = match grant {
            None => "none",
            Some(Grant::Device { .. }) => "device",
            Some(Grant::Code { .. }) => "code",
            Some(Grant::ClientCredentials) => "client-credentials",
            Some(Grant::ServiceAccount) => "service-account",
        };
        (upstream.name.as_str(), word)
    });
    assert_eq!(
        grants.collect::<Vec<_>>(),
        [
            ("gmail", "code"),
            ("home", "none"),
            ("office", "client-credentials"),
            ("own", "device")
        ]
    );
    assert!(config.state.key.is_some());
    let web = config.web.unwrap();
    assert_eq!(web.public_url.as_deref(), Some("https://mail.example.org/popgate"));
    assert_eq!(web.admin_password.expose(), b"secret of admin");
    let notify = config.notify;
    assert_eq!(notify.webhook.unwrap().host(), "alerts.example.org");
    assert_eq!(notify.webhook_secret.unwrap().expose(), b"secret of webhook");
    assert_eq!(notify.consent.as_secs(), 14 * 24 * 3600);
}

/// A key that the example comments out has the value that is in force without it, unless it says otherwise.
#[test]
fn example_shows_the_defaults() {
    let directory = tempfile::tempdir().unwrap();
    let shipped = Config::parse(EXAMPLE, Path::new("")).unwrap();
    let whole = Config::parse(&whole_example(directory.path()), directory.path()).unwrap();
    assert_eq!(format!("{:?}", shipped.limits), format!("{:?}", whole.limits));
    assert_eq!(format!("{:?}", shipped.log), format!("{:?}", whole.log));
    assert_eq!(
        format!("{:?}", shipped.listeners[0]),
        format!("{:?}", whole.listeners[0])
    );
    let [shipped, whole] =
        [&shipped, &whole].map(|config| config.upstreams.iter().find(|known| known.name == "home").unwrap());
    let policy = (*whole.maildrop).clone();
    assert!(policy.folder_separator.is_some() && policy.trash_folder.is_some() && policy.uidl_import.is_some());
    assert_eq!(policy.retention, Retention::Days(14));
    let View {
        within_days,
        newest,
        max_octets,
        ..
    } = policy.view;
    assert_eq!(
        (within_days, newest, max_octets),
        (Some(30), Some(500), Some(10_000_000))
    );
    let without_examples = Policy {
        folder_separator: None,
        trash_folder: None,
        retention: Retention::Keep,
        view: View {
            within_days: None,
            newest: None,
            max_octets: None,
            ..policy.view
        },
        uidl_import: None,
        ..policy
    };
    assert_eq!(*shipped.maildrop, without_examples);
    assert_eq!((shipped.port, shipped.tls), (whole.port, whole.tls));
    assert_eq!(shipped.connections_per_user, whole.connections_per_user);
}

/// The example says which presets there are.
#[test]
fn example_names_every_preset() {
    let words: Vec<_> = EXAMPLE.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    for preset in Preset::all() {
        assert!(words.contains(&preset.name.as_str()), "{}", preset.name);
    }
}

#[test]
fn without_a_listener_there_is_the_one_of_the_example() {
    let shipped = Config::parse(EXAMPLE, Path::new("")).unwrap();
    let text = "[upstream.home]\nhost = \"imap.example.org\"\nlogins = [\"*\"]\n";
    let none = Config::parse(text, Path::new("")).unwrap();
    assert_eq!(format!("{:?}", shipped.listeners), format!("{:?}", none.listeners));
}

/// Runs popgate in `directory` with nothing but `environment`.
fn popgate(directory: &Path, arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_popgate"))
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn check_tells_what_the_configuration_does() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), EXAMPLE).unwrap();
    let output = popgate(directory.path(), &["check"], &[], "");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("*@example.org, each with its own password: sees INBOX of the same user at"),
        "{}",
        stdout(&output)
    );
    assert!(!stdout(&output).contains("warning"), "{}", stdout(&output));
}

/// Without any configuration.
#[test]
fn check_lists_all_keys() {
    let directory = tempfile::tempdir().unwrap();
    let output = popgate(directory.path(), &["check", "--keys"], &[], "");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for line in [
        "[upstream.NAME.maildrop]",
        "  idle_seconds (seconds, 1 to 31536000; default: 600)",
        "  order (\"oldest-first\", \"newest-first\"; default: \"oldest-first\"; an account may differ)",
    ] {
        assert!(stdout(&output).lines().any(|known| known == line), "{line}");
    }
    let output = popgate(directory.path(), &["check", "--keys", "--json"], &[], "");
    let keys: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys = keys.as_array().unwrap();
    assert!(keys.len() > 70);
    let idle = keys.iter().find(|key| key["key"] == "limits.idle_seconds").unwrap();
    assert_eq!((&idle["default"], &idle["unit"]), (&"600".into(), &"seconds".into()));
    let password = keys.iter().find(|key| key["key"] == "account.password").unwrap();
    assert_eq!(password["secret"], true);
}

#[test]
fn check_warns_of_risks() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[limits]\nidle_seconds = 60\n\
                [[listener]]\naddress = \"0.0.0.0:110\"\nallow = [\"0.0.0.0/0\"]\n\
                [upstream.a]\nhost = \"mail.example\"\ntls = \"off\"\n\
                [upstream.unused]\nhost = \"localhost\"\ntls = \"off\"\n\
                [[account]]\nlogin = \"x\"\npassword = \"hunter2\"\nupstream = \"a\"\nupstream_password = \"hunter3\"\n";
    std::fs::write(directory.path().join("other.toml"), text).unwrap();
    let output = popgate(directory.path(), &["check", "--config", "other.toml"], &[], "");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let warnings: Vec<_> = stdout(&output)
        .lines()
        .filter(|line| line.starts_with("warning: "))
        .collect();
    for part in [
        "limits.idle_seconds is 60",
        "listener 0.0.0.0:110 takes passwords in plain text from 0.0.0.0/0",
        "upstream.a: tls = \"off\" sends passwords and mail to mail.example",
        "upstream.unused has no `logins`",
        "other.toml holds passwords",
        "(account[0].password, account[0].upstream_password)",
    ] {
        assert!(
            warnings.iter().any(|warning| warning.contains(part)),
            "{part}: {warnings:#?}"
        );
    }
    assert_eq!(warnings.len(), 5, "{warnings:#?}");
    assert!(!stdout(&output).contains("hunter"));
}

#[test]
fn wrong_configuration_exits_with_2_and_a_caret() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), "[limits]\nsesions = 50\n").unwrap();
    for command in ["check", "serve"] {
        let output = popgate(directory.path(), &[command], &[], "");
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(
            stderr(&output),
            "popgate: gateway.toml:2: `limits.sesions`: unknown key\n  |\n2 | sesions = …\n  | ^^^^^^^\nhelp: did you mean `sessions`?\n"
        );
    }
}

#[test]
fn missing_configuration_says_how_to_begin() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, environment) in [
        (&["serve"][..], &[][..]),
        (&["serve", "--config", "gateway.toml"], &[]),
        (&["serve"], &[("POPGATE_CONFIG", "gateway.toml")]),
    ] {
        let output = popgate(directory.path(), arguments, environment, "");
        assert_eq!(output.status.code(), Some(2));
        assert!(
            stderr(&output).starts_with("popgate: gateway.toml: "),
            "{}",
            stderr(&output)
        );
        assert!(stderr(&output).contains("popgate demo"), "{}", stderr(&output));
    }
}

#[test]
fn environment_alone_is_a_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let environment = [
        ("POPGATE__UPSTREAM__HOME__HOST", "mail.example"),
        ("POPGATE__UPSTREAM__HOME__LOGINS", "*"),
    ];
    let output = popgate(directory.path(), &["check"], &environment, "");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("mail.example:993"), "{}", stdout(&output));
}

#[test]
fn unknown_variable_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), EXAMPLE).unwrap();
    let output = popgate(directory.path(), &["check"], &[("POPGATE__LIMITS__SESIONS", "5")], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("popgate: environment variable POPGATE__LIMITS__SESIONS: unknown key"));
    assert!(stderr(&output).contains("did you mean `sessions`?"));
}

#[test]
fn unknown_option_exits_with_2() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(
        popgate(directory.path(), &["serve", "--upstrem", "x"], &[], "")
            .status
            .code(),
        Some(2)
    );
    let output = popgate(directory.path(), &["serve", "--upstream", "http://x"], &[], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).starts_with("popgate: --upstream: unknown scheme"),
        "{}",
        stderr(&output)
    );
    let output = popgate(directory.path(), &["serve", "--listen", "127.0.0.1:0"], &[], "");
    assert_eq!(output.status.code(), Some(2), "--listen is for --upstream");
}

#[test]
fn hash_password_prints_what_an_account_takes() {
    let directory = tempfile::tempdir().unwrap();
    let output = popgate(directory.path(), &["hash-password"], &[], "a b \n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let hash = stdout(&output).trim();
    assert!(hash.starts_with("$argon2id$"), "{hash}");
    assert_eq!(
        popgate(directory.path(), &["hash-password"], &[], "\n").status.code(),
        Some(2)
    );
    let text = format!(
        "[upstream.a]\nhost = \"a\"\n[[account]]\nlogin = \"x\"\nupstream = \"a\"\nupstream_password = \"y\"\npassword_hash = \"{hash}\"\n"
    );
    Config::parse(&text, Path::new("")).unwrap();
}

#[test]
fn connect_tells_what_does_not_work() {
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "[upstream.a]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"off\"\nlogins = [\"*\"]\n\
         [upstream.b]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"off\"\n\
         [[account]]\nlogin = \"x\"\npassword = \"y\"\nupstream = \"b\"\nupstream_password = \"hunter2\"\n",
        free_port(),
        free_port()
    );
    std::fs::write(directory.path().join("gateway.toml"), text).unwrap();
    let output = popgate(directory.path(), &["check", "--connect"], &[], "");
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(
        stdout(&output).contains("check `port` and `host` of [upstream.a]"),
        "{}",
        stdout(&output)
    );
    assert!(
        stdout(&output).contains("check `port` and `host` of [upstream.b]"),
        "{}",
        stdout(&output)
    );
    assert!(
        stderr(&output).ends_with("popgate: 2 upstreams or accounts do not work, see above\n"),
        "{}",
        stderr(&output)
    );
    assert!(!stderr(&output).contains("hunter2"));
}

#[cfg(unix)]
#[test]
fn serve_greets_and_ends_with_0_on_sigterm() {
    use std::io::{BufRead, BufReader};

    let mut child = Command::new(env!("CARGO_BIN_EXE_popgate"))
        .args(["serve", "--upstream", "imap://127.0.0.1:1", "--listen", "127.0.0.1:0"])
        .env_clear()
        .env("POPGATE__LOG__FORMAT", "json")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = log.by_ref().map_while(Result::ok);
    let listening = lines.find(|line| line.contains("\"message\":\"listening\"")).unwrap();
    assert!(listening.contains("\"tls\":\"off\""), "{listening}");
    let address = listening
        .split("\"address\":\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let mut greeting = String::new();
    let device = std::net::TcpStream::connect(address).unwrap();
    BufReader::new(device).read_line(&mut greeting).unwrap();
    assert!(greeting.starts_with("+OK"), "{greeting}");

    let kill = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(kill.success());
    // The log is read to its end, so that the process never waits for a reader.
    log.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_taken_port_says_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["serve", "--upstream", "imap://127.0.0.1:1", "--listen", &address];
    let output = popgate(directory.path(), &arguments, &[], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("another program listens there"),
        "{}",
        stderr(&output)
    );
}
