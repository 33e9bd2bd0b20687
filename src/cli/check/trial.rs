//! Tries what serving will need: ports, the state directory, the certificates.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
};

use super::super::bind_advice;
use crate::{
    config::{Certificate, Config},
    health, state,
    tls::{self, Expiry, Validity},
};

#[derive(Debug)]
pub(super) enum Finding {
    /// Something good to know; nothing is wrong.
    Note(String),
    /// Serving will work, but there is something to mend.
    Risk(String),
    /// Serving will fail, or no device will be served.
    Failure(String),
}

impl Finding {
    pub(super) fn is_failure(&self) -> bool {
        matches!(self, Self::Failure(_))
    }
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

/// Tries the certificates, the place of state and the ports of `config`. Leaves no file and no open port behind.
pub(super) async fn run(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let has_legacy = config.listeners.iter().any(|listener| listener.tls.is_legacy());
    for (index, files) in config.tls.iter().enumerate() {
        // Old devices ask for no host name (SNI), so they get the first certificate.
        findings.extend(certificate(files, has_legacy && index == 0));
    }
    if let Some(file) = &config.notify.webhook_ca_file
        && let Err(error) = tls::Connector::new(Some(file))
    {
        findings.push(Finding::Failure(format!("notify.webhook_ca_file: {error}")));
    }
    let mut is_running = false;
    if let Some(dir) = &config.state.dir {
        let (finding, is_in_use) = directory(dir);
        is_running = is_in_use;
        findings.extend(finding);
    }
    if let Err(error) = state::inspect_shared(&config.state).await {
        findings.push(Finding::Failure(error.to_string()));
    }
    // All sockets stay bound until the end, to find an address that includes another (0.0.0.0 and 127.0.0.1).
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
                "listener {address}: listener {other} takes this address too ([::] includes IPv4): leave one of them out"
            )));
            continue;
        }
        // A gateway that runs with this configuration already listens at its ports.
        let answers = error.kind() == io::ErrorKind::AddrInUse && health::ask(listener.into()).await.is_ok();
        is_running |= answers;
        findings.push(unavailable("listener", address, &error, answers));
    }
    if let Some(web) = &config.web
        && let Err(error) = TcpListener::bind(web.address)
    {
        let is_ours = is_running && error.kind() == io::ErrorKind::AddrInUse;
        findings.push(unavailable("web.address", web.address, &error, is_ours));
    }
    findings
}

fn unavailable(what: &str, address: SocketAddr, error: &io::Error, is_a_gateway: bool) -> Finding {
    match error.kind() {
        io::ErrorKind::AddrInUse if is_a_gateway => {
            Finding::Note(format!("{what} {address}: a gateway listens there already"))
        }
        // Only a note: `serve` may run as another user than `check`.
        io::ErrorKind::PermissionDenied => Finding::Note(format!(
            "{what} {address}: this user may not listen there{}",
            bind_advice(error, address)
        )),
        _ => Finding::Failure(format!("{what} {address}: {error}{}", bind_advice(error, address))),
    }
}

/// What is wrong with `dir` as the place of state, if anything, and whether a running gateway uses it now.
fn directory(dir: &Path) -> (Option<Finding>, bool) {
    match state::inspect(dir) {
        Ok(()) => {}
        Err(state::Error::InUse { .. }) => {
            let text = "a gateway is using it; a second gateway cannot use it at the same time";
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

/// Findings on the certificate of `files`: how long it is valid, which of the `names` it should cover but does not, and
/// with `is_for_legacy`, whether old devices can use its key. Empty if the certificate cannot be read.
fn certificate(files: &Certificate, is_for_legacy: bool) -> Vec<Finding> {
    let Ok(validity) = Validity::of(&files.certificate) else {
        return Vec::new();
    };
    let mut findings = vec![match validity.at(state::now().into()) {
        Expiry::Valid(text) => Finding::Note(text),
        Expiry::Ending(text) => Finding::Risk(text),
        Expiry::Invalid(text) => Finding::Failure(text),
    }];
    if is_for_legacy && !validity.has_rsa_key() {
        let file = files.certificate.display();
        findings.push(Finding::Risk(format!(
            "certificate {file} has no RSA key, and devices with old TLS may know no other kind: have a certificate with an \
             RSA key made for them"
        )));
    }
    let missing = files.names.iter().flatten().filter(|name| !validity.covers(name));
    findings.extend(missing.map(|name| {
        let file = files.certificate.display();
        Finding::Risk(format!(
            "certificate {file} is not for {name}, which is in `names`: devices refuse it there"
        ))
    }));
    findings
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::free_port::free_port;

    #[test]
    fn a_certificate_that_ends_soon_and_lacks_a_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c.pem");
        let mut params = rcgen::CertificateParams::new(["mail.example.org".to_owned()]).unwrap();
        params.not_after =
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::from(state::now()) + 10 * 86_400 + 60);
        let key = rcgen::KeyPair::generate().unwrap();
        fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        let files = Certificate {
            certificate: file.clone(),
            key: file,
            names: Some(["mail.example.org", "pop.example.org"].map(str::to_owned).into()),
            client_ca: None,
        };
        let findings = certificate(&files, true);
        let said: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert!(
            said[0].starts_with("warning: certificate ") && said[0].contains(", in 10 days"),
            "{said:?}"
        );
        assert!(said[1].contains("has no RSA key"), "{said:?}");
        assert!(said[2].contains("is not for pop.example.org"), "{said:?}");
        assert_eq!(said.len(), 3);
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
        let free = free_port();
        let text = format!(
            "[[listener]]\naddress = \"[::]:{free}\"\n[[listener]]\naddress = \"0.0.0.0:{free}\"\n\
             [upstream.home]\nhost = \"a\"\nlogins = [\"*\"]\n"
        );
        let config = Config::parse(&text, Path::new("")).unwrap();
        let findings = run(&config).await;
        // Some systems keep the two addresses apart; both can be served there.
        assert!(findings.len() <= 1, "{findings:?}");
        if let [finding] = &findings[..] {
            assert!(finding.to_string().contains("takes this address too"), "{finding}");
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
