//! What serving will need, tried: ports, the directory of state, the certificate.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
};

use super::super::bind_advice;
use crate::{
    config::{Config, ListenerTls},
    health, state,
    tls::{self, Validity},
};

/// A certificate that ends within this number of days is a risk: public authorities' usually live 90 days, and are renewed 30
/// days before their end.
const SOON: i64 = 21;

/// What a trial has shown.
#[derive(Debug)]
pub(super) enum Finding {
    /// Good to know.
    Note(String),
    /// It will do, but not for long.
    Risk(String),
    /// Serving will fail, or no device will be served.
    Failure(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Note(text) => f.write_str(text),
            Self::Risk(text) => write!(f, "warning: {text}"),
            Self::Failure(text) => write!(f, "failed: {text}"),
        }
    }
}

/// Tries everything. Nothing stays behind.
pub(super) async fn run(config: &Config) -> Result<Vec<Finding>, tls::Error> {
    let mut findings = Vec::new();
    if let Some(files) = &config.tls {
        findings.push(certificate(&tls::validity(&files.certificate)?, &files.certificate));
    }
    let mut is_running = false;
    if let Some(dir) = &config.state.dir {
        let (finding, is_in_use) = directory(dir);
        is_running = is_in_use;
        findings.extend(finding);
    }
    // All stay bound until the end: an address may include another.
    let mut bound: Vec<TcpListener> = Vec::new();
    for listener in &config.listeners {
        let address = listener.address;
        let error = match TcpListener::bind(address) {
            Ok(socket) => {
                bound.push(socket);
                continue;
            }
            Err(error) => error,
        };
        if error.kind() == io::ErrorKind::AddrInUse
            && let Some(other) = bound
                .iter()
                .filter_map(|socket| socket.local_addr().ok())
                .find(|other| other.port() == address.port())
        {
            findings.push(Finding::Failure(format!(
                "listener {address}: listener {other} takes this address along ([::] takes IPv4 too): leave one of them out"
            )));
            continue;
        }
        // A gateway that runs with this configuration has its own ports.
        let answers = error.kind() == io::ErrorKind::AddrInUse
            && health::ask(address, listener.tls == ListenerTls::Implicit)
                .await
                .is_ok();
        is_running |= answers;
        findings.push(unavailable("listener", address, &error, answers));
    }
    if let Some(web) = &config.web
        && let Err(error) = TcpListener::bind(web.address)
    {
        let is_ours = is_running && error.kind() == io::ErrorKind::AddrInUse;
        findings.push(unavailable("web.address", web.address, &error, is_ours));
    }
    Ok(findings)
}

fn unavailable(what: &str, address: SocketAddr, error: &io::Error, is_a_gateway: bool) -> Finding {
    match error.kind() {
        io::ErrorKind::AddrInUse if is_a_gateway => {
            Finding::Note(format!("{what} {address}: a gateway listens there already"))
        }
        // The user who checks need not be the user who serves.
        io::ErrorKind::PermissionDenied => Finding::Note(format!(
            "{what} {address}: this user may not listen there{}",
            bind_advice(error, address)
        )),
        _ => Finding::Failure(format!("{what} {address}: {error}{}", bind_advice(error, address))),
    }
}

/// Whether state can be kept in `dir`, and whether a gateway does so now.
fn directory(dir: &Path) -> (Option<Finding>, bool) {
    match state::inspect(dir) {
        Ok(()) => {}
        Err(state::Error::InUse { .. }) => {
            let text = "a gateway is using it: this one, or another that no second may join";
            return (
                Some(Finding::Note(format!("state.dir {}: {text}", dir.display()))),
                true,
            );
        }
        Err(error) => return (Some(Finding::Failure(error.to_string())), false),
    }
    // A missing directory will be made in its nearest parent that exists.
    let mut existing = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    while !existing.exists() {
        existing = match existing.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
    }
    let finding = match writable(existing) {
        Ok(()) if existing == dir => None,
        Ok(()) => Some(Finding::Note(format!("state.dir {}: will be created", dir.display()))),
        Err(error) => Some(Finding::Failure(format!(
            "state.dir {}: cannot write to {}: {error} (it must belong to the user that popgate runs as)",
            dir.display(),
            existing.display()
        ))),
    };
    (finding, false)
}

fn writable(dir: &Path) -> io::Result<()> {
    let file = dir.join(format!(".popgate-check-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&file)?;
    fs::remove_file(&file)
}

fn certificate(validity: &Validity, file: &Path) -> Finding {
    let file = file.display();
    let Validity { names, from, until } = validity;
    let names = names.join(", ");
    let now = i64::from(state::now());
    let day = |time: i64| super::super::day(u32::try_from(time.clamp(0, u32::MAX.into())).unwrap_or_default());
    let days = (until - now) / 86_400;
    if *until <= now {
        Finding::Failure(format!(
            "certificate {file} expired on {}: devices refuse it",
            day(*until)
        ))
    } else if *from > now {
        Finding::Failure(format!(
            "certificate {file} is valid from {} only: devices refuse it",
            day(*from)
        ))
    } else if days < SOON {
        Finding::Risk(format!("certificate {file} expires on {}, in {days} days", day(*until)))
    } else {
        Finding::Note(format!("certificate of {names}: valid until {}", day(*until)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_certificate_lives() {
        let now = i64::from(state::now());
        let of = |from: i64, until: i64| {
            let validity = Validity {
                names: vec!["mail.example.org".into()],
                from: now + from,
                until: now + until,
            };
            certificate(&validity, Path::new("c.pem")).to_string()
        };
        assert!(of(-10, -1).starts_with("failed: certificate c.pem expired on "));
        assert!(of(10, 1000).starts_with("failed: certificate c.pem is valid from "));
        assert!(of(-10, 5 * 86_400 + 60).ends_with("in 5 days"));
        assert!(of(-10, 90 * 86_400).starts_with("certificate of mail.example.org: valid until "));
    }

    #[tokio::test]
    async fn a_taken_port_fails_unless_a_gateway_answers() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = TcpListener::bind(address).unwrap_err();
        assert!(
            matches!(unavailable("listener", address, &error, false), Finding::Failure(text) if text.contains("another program"))
        );
        assert!(matches!(
            unavailable("listener", address, &error, true),
            Finding::Note(_)
        ));
    }

    #[tokio::test]
    async fn listeners_that_take_each_others_address() {
        let free = TcpListener::bind("[::]:0")
            .and_then(|socket| socket.local_addr())
            .unwrap();
        let text = format!(
            "[[listener]]\naddress = \"[::]:{0}\"\n[[listener]]\naddress = \"0.0.0.0:{0}\"\n\
             [upstream.home]\nhost = \"a\"\nlogins = [\"*\"]\n",
            free.port()
        );
        let config = Config::parse(&text, Path::new("")).unwrap();
        let findings = run(&config).await.unwrap();
        // Where the system keeps the two apart both can be served.
        assert!(findings.len() <= 1, "{findings:?}");
        if let [finding] = &findings[..] {
            assert!(finding.to_string().contains("takes this address along"), "{finding}");
        }
    }

    #[test]
    fn state_is_tried_and_left_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("state");
        let (finding, is_in_use) = super::directory(&dir);
        assert!(matches!(finding, Some(Finding::Note(text)) if text.ends_with("will be created")));
        assert!(!is_in_use && !dir.exists());
        let store = state::FileStore::open(&dir).unwrap();
        let (finding, is_in_use) = super::directory(&dir);
        assert!(matches!(finding, Some(Finding::Note(text)) if text.contains("a gateway is using it")));
        assert!(is_in_use);
        drop(store);
        assert!(super::directory(&dir).0.is_none());
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(
            super::directory(&file.join("state")).0,
            Some(Finding::Failure(_))
        ));
    }
}
