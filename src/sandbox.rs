//! Gives up rights before the process serves, in case an attacker takes it over: the rights to leave its memory in a
//! core dump, to gain privileges, to start programs, and to read or write files that it does not need.
//!
//! On a system that does not support this, popgate serves nevertheless; the log says which restrictions are in force.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

/// What a gateway needs of the system.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Files that the gateway reads. They may be replaced later, so the gateway may read all of their directories.
    pub files: Vec<PathBuf>,
    /// Directories that the gateway writes to.
    pub writable: Vec<PathBuf>,
    /// TCP ports that the gateway listens at.
    pub ports: Vec<u16>,
}

/// Directories of the system that the gateway reads: for names and the libraries that resolve them, root certificates,
/// time zones, and the number of processors that it may use. If they hold secrets of other programs, file permissions
/// protect these.
const SYSTEM: [&str; 8] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/proc/self",
    "/sys/fs/cgroup",
];

/// Files of the system that may be symbolic links into /run or /var.
const LINKED: [&str; 3] = ["/etc/resolv.conf", "/etc/ssl/certs", "/etc/localtime"];

/// Environment variables that name files or directories with root certificates.
const ROOTS: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

impl Needs {
    /// All directories that the gateway may read, and that exist.
    fn readable(&self) -> BTreeSet<PathBuf> {
        let mut readable: BTreeSet<_> = SYSTEM.iter().map(PathBuf::from).collect();
        let roots = ROOTS.iter().filter_map(std::env::var_os).map(PathBuf::from);
        let files = LINKED.iter().map(PathBuf::from).chain(roots);
        for file in files.chain(self.files.iter().cloned()) {
            readable.extend(directory_of(&file));
            // If the file is a link, the directory of its target too: certbot puts the next certificate there.
            readable.extend(file.canonicalize().ok().as_deref().and_then(directory_of));
        }
        readable.retain(|directory| directory.is_dir());
        readable
    }
}

/// `path` itself if it is a directory, otherwise the directory that contains it.
fn directory_of(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.to_owned());
    }
    let parent = path.parent()?;
    let is_here = parent.as_os_str().is_empty();
    Some(if is_here { PathBuf::from(".") } else { parent.to_owned() })
}

/// Forbids core dumps, and keeps other processes of the same user from reading this process's memory.
pub(crate) fn hide_memory() {
    #[cfg(unix)]
    let _ = rlimit::setrlimit(rlimit::Resource::CORE, 0, 0);
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// The TCP ports of POP3. Listeners that are added later may use them.
const POP3: [u16; 2] = [110, 995];

/// What the process may still do.
#[derive(Debug)]
pub(crate) struct Boundary {
    confinement: Confinement,
    readable: BTreeSet<PathBuf>,
    ports: BTreeSet<u16>,
}

impl Boundary {
    pub(crate) fn confinement(&self) -> Confinement {
        self.confinement
    }

    /// Whether the process may not read `file`, because it is in none of the directories that were needed at the start.
    pub(crate) fn forbids_file(&self, file: &Path) -> bool {
        let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        let is_beneath = |directory: &PathBuf| {
            directory
                .canonicalize()
                .is_ok_and(|directory| file.starts_with(directory))
        };
        self.confinement != Confinement::None && !self.readable.iter().any(is_beneath)
    }

    /// Whether the process may not bind a listener to `port`, because no listener needed this port at the start. A
    /// kernel that supports only a part of the restrictions may allow it nevertheless, so ask this only after the bind
    /// has failed.
    pub(crate) fn forbids_port(&self, port: u16) -> bool {
        self.confinement != Confinement::None && !self.ports.contains(&port)
    }
}

/// Whether all, some or none of the restrictions are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confinement {
    /// Everything that [`Needs`] does not list is forbidden.
    Full,
    /// The kernel supports a part of the restrictions.
    Partial,
    /// The kernel supports none of the restrictions.
    None,
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::None => "none",
        })
    }
}

/// Confines this thread and every thread that it starts to `needs`, and forbids them to gain privileges or to start
/// programs. Call this before the first thread is started.
pub(crate) fn confine(needs: &Needs) -> Boundary {
    let mut boundary = Boundary {
        confinement: Confinement::None,
        readable: needs.readable(),
        ports: needs.ports.iter().copied().chain(POP3).collect(),
    };
    boundary.confinement = enforce(&boundary, &needs.writable);
    boundary
}

#[cfg(target_os = "linux")]
fn enforce(boundary: &Boundary, writable: &[PathBuf]) -> Confinement {
    restrict(boundary, writable).unwrap_or(Confinement::None)
}

#[cfg(target_os = "linux")]
fn restrict(boundary: &Boundary, writable: &[PathBuf]) -> Result<Confinement, landlock::RulesetError> {
    use landlock::{
        ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
        RulesetCreatedAttr, RulesetStatus,
    };
    let all = AccessFs::from_all(ABI::V5);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let beneath = |directory: &PathBuf, access: BitFlags<AccessFs>| {
        // A directory that does not exist any more needs no permission.
        PathFd::new(directory)
            .ok()
            .map(|opened| PathBeneath::new(opened, access))
    };
    let rules = boundary
        .readable
        .iter()
        .filter_map(|directory| beneath(directory, read));
    let writable = writable
        .iter()
        .filter_map(|directory| beneath(directory, all & !AccessFs::Execute));
    let ports = boundary
        .ports
        .iter()
        .map(|port| NetPort::new(*port, AccessNet::BindTcp));
    let status = Ruleset::default()
        .handle_access(all)?
        .handle_access(AccessNet::BindTcp)?
        .create()?
        .add_rules(rules.chain(writable).map(Ok::<_, landlock::RulesetError>))?
        .add_rules(ports.map(Ok::<_, landlock::RulesetError>))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Confinement::Full,
        RulesetStatus::PartiallyEnforced => Confinement::Partial,
        RulesetStatus::NotEnforced => Confinement::None,
    })
}

/// Only Linux has Landlock.
#[cfg(not(target_os = "linux"))]
fn enforce(_: &Boundary, _: &[PathBuf]) -> Confinement {
    Confinement::None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        fs, io,
        net::TcpListener,
        os::unix::net::UnixListener,
        process::Command,
        sync::{Arc, Barrier},
    };

    use super::*;
    use crate::free_port::free_port;

    /// Runs `work` confined, in a thread of its own: the other threads of the test are not confined.
    fn confined<T: Send + 'static>(needs: Needs, work: impl FnOnce(Boundary) -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(move || work(confine(&needs)));
        thread.join().expect("the thread does not panic")
    }

    fn is_forbidden<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    }

    #[test]
    fn what_is_needed_stays_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        // As certbot does it: a link to the newest of several certificates in another directory.
        for name in ["live", "archive", "state", "other"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("archive/1.pem"), "1").unwrap();
        fs::write(path("other/secret"), "x").unwrap();
        std::os::unix::fs::symlink("../archive/1.pem", path("live/cert.pem")).unwrap();
        let free = free_port();
        let needs = Needs {
            files: vec![path("live/cert.pem"), path("missing/file")],
            writable: vec![path("state")],
            ports: vec![free],
        };
        let root = directory.path().to_owned();
        let (renew, renewed) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let renewal = std::thread::spawn({
            let (root, renew, renewed) = (root.clone(), renew.clone(), renewed.clone());
            move || {
                renew.wait();
                fs::write(root.join("archive/2.pem"), "2").unwrap();
                fs::remove_file(root.join("live/cert.pem")).unwrap();
                std::os::unix::fs::symlink("../archive/2.pem", root.join("live/cert.pem")).unwrap();
                renewed.wait();
            }
        });
        let is_known = confined(needs, move |boundary| {
            renew.wait();
            renewed.wait();
            let confinement = boundary.confinement();
            if confinement == Confinement::None {
                return false;
            }
            let path = |name: &str| root.join(name);
            assert_eq!(
                fs::read(path("live/cert.pem")).unwrap(),
                b"2",
                "another file than before"
            );
            assert!(fs::read("/etc/hosts").is_ok());
            assert!(is_forbidden(fs::read(path("other/secret"))));
            assert!(boundary.forbids_file(&path("other/secret")) && boundary.forbids_file(&path("other/missing")));
            assert!(!boundary.forbids_file(&path("live/cert.pem")) && !boundary.forbids_file(&path("archive/3.pem")));
            assert!(!boundary.forbids_port(free) && !boundary.forbids_port(995) && boundary.forbids_port(1));
            assert!(is_forbidden(fs::read_dir(path("other"))));
            assert!(is_forbidden(fs::write(path("live/cert.pem"), "2")));
            fs::write(path("state/new"), "x").unwrap();
            fs::rename(path("state/new"), path("state/old")).unwrap();
            fs::remove_file(path("state/old")).unwrap();
            UnixListener::bind(path("state/socket")).unwrap();
            assert!(is_forbidden(fs::write(path("new"), "x")));
            assert!(is_forbidden(Command::new("/bin/true").status()));
            TcpListener::bind(("127.0.0.1", free)).unwrap();
            if confinement == Confinement::Full {
                assert!(is_forbidden(TcpListener::bind("127.0.0.1:0")));
            }
            let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
            assert!(status.is_empty() || status.contains("NoNewPrivs:\t1"), "{status}");
            true
        });
        renewal.join().unwrap();
        if !is_known {
            eprintln!("\n!! SKIPPED: this kernel has no Landlock\n");
        }
    }

    #[test]
    fn memory_is_hidden() {
        hide_memory();
        assert_eq!(rlimit::getrlimit(rlimit::Resource::CORE).unwrap(), (0, 0));
        let behavior = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(behavior, rustix::process::DumpableBehavior::NotDumpable);
    }

    #[test]
    fn directories_of_files_and_of_what_links_lead_to() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir(root.join("a")).unwrap();
        fs::create_dir(root.join("b")).unwrap();
        fs::write(root.join("b/file"), "").unwrap();
        std::os::unix::fs::symlink("../b/file", root.join("a/link")).unwrap();
        let needs = Needs {
            files: vec![root.join("a/link"), root.join("nowhere/file")],
            ..Needs::default()
        };
        let readable = needs.readable();
        assert!(readable.contains(&root.join("a")) && readable.contains(&root.join("b")));
        assert!(!readable.contains(&root) && !readable.contains(&root.join("nowhere")));
    }
}
