mod environment;
mod errors;
mod maildrop;
mod oauth2;
mod risks;

use std::path::Path;

use super::*;

const UPSTREAM: &str = "[upstream.home]\nhost = \"imap.example.org\"\nlogins = [\"*\"]\n";
const ACCOUNT: &str = "[[account]]\nlogin = \"x\"\nupstream = \"home\"\nupstream_password = \"hunter2\"\n";

#[test]
fn blanks_in_a_log_filter_belong_to_no_name() {
    let text = format!("[log]\nlevel = \"info, popgate::imap=debug , tower=OFF\"\n{UPSTREAM}");
    let config = Config::parse(&text, Path::new("")).unwrap();
    assert_eq!(config.log.level, "info,popgate::imap=debug,tower=OFF");
    let targets: tracing_subscriber::filter::Targets = config.log.level.parse().unwrap();
    assert!(targets.would_enable("popgate::imap::wire", &tracing::Level::DEBUG));
    assert!(!targets.would_enable("popgate::pop3", &tracing::Level::DEBUG));
    assert!(!targets.would_enable("tower", &tracing::Level::ERROR));
}

#[test]
fn defaults() {
    let config = Config::parse(UPSTREAM, Path::new("")).unwrap();
    let limits = &config.limits;
    assert_eq!(
        (limits.sessions, limits.sessions_per_address, limits.bad_commands),
        (1000, 50, 20)
    );
    let seconds = [
        limits.login,
        limits.idle,
        limits.upstream,
        limits.parked_for,
        limits.drain,
    ]
    .map(|d| d.as_secs());
    assert_eq!(seconds, [60, 600, 30, 900, 20]);
    assert_eq!(limits.read_ahead, 4_194_304);
    assert_eq!(
        (config.log.format, config.log.level.as_str()),
        (LogFormat::Text, "info")
    );
    assert!(config.state.dir.is_none() && config.tls.is_empty() && config.accounts.is_empty());
    let upstream = &config.upstreams[0];
    assert_eq!(
        (upstream.port, upstream.tls, upstream.connections_per_user),
        (993, UpstreamTls::Implicit, 8)
    );
    assert_eq!(*upstream.maildrop, Policy::default());
    let listener = &config.listeners[0];
    assert_eq!(
        (listener.address, listener.tls),
        ("0.0.0.0:110".parse().unwrap(), ListenerTls::Off)
    );
    let allowed = |address: &str| {
        let address: std::net::IpAddr = address.parse().unwrap();
        listener.allow.iter().any(|network| network.contains(&address))
    };
    for private in [
        "127.0.0.1",
        "::1",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.1.1",
        "169.254.1.1",
        "fd00::1",
        "fe80::1",
    ] {
        assert!(allowed(private), "{private}");
    }
    for public in ["8.8.8.8", "172.32.0.1", "2001:db8::1", "0.0.0.0"] {
        assert!(!allowed(public), "{public}");
    }
}

#[test]
fn times_and_sizes_may_have_units() {
    let text = format!(
        "[limits]\nidle_seconds = \"15m\"\nparked_seconds = \"1 hour\"\nread_ahead_bytes = \"1 MiB\"\n{UPSTREAM}\
         maildrop = {{ retain_days = \"2 weeks\", max_octets = \"10 MB\" }}\n"
    );
    let config = Config::parse(&text, Path::new("")).unwrap();
    assert_eq!(
        (config.limits.idle.as_secs(), config.limits.parked_for.as_secs()),
        (900, 3600)
    );
    assert_eq!(config.limits.read_ahead, 1 << 20);
    let policy = &config.upstreams[0].maildrop;
    assert_eq!(
        (policy.retention, policy.view.max_octets),
        (Retention::Days(14), Some(10_000_000))
    );
}

#[test]
fn secrets_from_files_lose_their_line_end_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    for (content, expected) in [
        (&b"secret\n"[..], &b"secret"[..]),
        (b"secret\r\n", b"secret"),
        (b"secret", b"secret"),
        (b" secret \n\n", b" secret \n"),
        (b"\xff\0\n", b"\xff\0"),
    ] {
        std::fs::write(directory.path().join("secret"), content).unwrap();
        let text = format!("{UPSTREAM}{ACCOUNT}password_file = \"secret\"\n");
        let config = Config::parse(&text, directory.path()).unwrap();
        let LocalSecret::Password(secret) = &config.accounts[0].secret else {
            panic!("no password")
        };
        assert_eq!(secret.expose(), expected);
    }
    std::fs::write(directory.path().join("secret"), "\n").unwrap();
    let text = format!("{UPSTREAM}{ACCOUNT}password_file = \"secret\"\n");
    assert!(
        Config::parse(&text, directory.path())
            .unwrap_err()
            .to_string()
            .contains("is empty")
    );
}

#[test]
fn a_password_of_servers_of_state_must_be_text() {
    let directory = tempfile::tempdir().unwrap();
    let key = "k".repeat(40);
    let text =
        format!("[state]\nurl = \"redis://popgate@valkey\"\npassword_file = \"secret\"\nkey = \"{key}\"\n{UPSTREAM}");
    let parsed = |password: &[u8]| {
        std::fs::write(directory.path().join("secret"), password).unwrap();
        Config::parse(&text, directory.path())
    };
    parsed("hüntér2".as_bytes()).unwrap();
    let error = parsed(b"h\xfcnter2").unwrap_err().to_string();
    assert!(
        error.starts_with("gateway.toml:3: `state.password_file`: the password is not in UTF-8"),
        "{error}"
    );
}

#[test]
fn an_account_inherits_from_its_upstream() {
    let text = format!(
        "{UPSTREAM}maildrop = {{ folder = \"Archive\", on_retrieve = \"keep\" }}\n{ACCOUNT}password = \"p\"\n\
         maildrop = {{ on_retrieve = \"mark-read\" }}\n"
    );
    let config = Config::parse(&text, Path::new("")).unwrap();
    let account = &config.accounts[0];
    assert_eq!((account.login.as_str(), account.user.as_str()), ("x", "x"));
    assert_eq!(
        (account.maildrop.folders[0].as_str(), account.maildrop.on_retrieve),
        ("Archive", OnRetrieve::MarkRead)
    );
}

#[test]
fn forwards_without_a_file() {
    let listen = "127.0.0.1:1110".parse().unwrap();
    for (url, host, port, tls) in [
        (
            "imaps://imap.example.org",
            "imap.example.org",
            993,
            UpstreamTls::Implicit,
        ),
        (
            "IMAPS://imap.example.org:1993/",
            "imap.example.org",
            1993,
            UpstreamTls::Implicit,
        ),
        ("imap://127.0.0.1:1143", "127.0.0.1", 1143, UpstreamTls::Off),
        ("imap+starttls://[::1]", "::1", 143, UpstreamTls::StartTls),
        ("imap://[::1]:1", "::1", 1, UpstreamTls::Off),
    ] {
        let config = Config::forward(url, listen).unwrap().config;
        let upstream = &config.upstreams[0];
        assert_eq!(
            (upstream.host.as_str(), upstream.port, upstream.tls),
            (host, port, tls),
            "{url}"
        );
        assert_eq!(upstream.logins, ["*"]);
        assert_eq!(config.listeners[0].address, listen);
    }
    for url in [
        "",
        "imap.example.org",
        "pop3://x",
        "imaps://",
        "imaps://x:0",
        "imaps://x:70000",
        "imaps://u:p@x",
        "imaps://[::1",
        "imaps://x/INBOX",
        "imaps://a\"b",
    ] {
        let error = Config::forward(url, listen).unwrap_err().to_string();
        assert!(
            error.starts_with("--upstream: ") && error.contains("expected imaps://"),
            "{url}: {error}"
        );
    }
}
