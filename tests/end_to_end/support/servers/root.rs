//! A root directory (chroot) for one server of the unpacked Debian packages (tests/servers/install).

use std::{
    fs::{self, Permissions},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{Running, installed};
use crate::support::{
    PATIENCE,
    process::{free_port, greets, text_of},
    test_name,
};

/// The user and group id of the servers.
pub const SERVER_ID: u32 = 500;

/// The directory, with all processes of the server. When dropped, the processes end and the directory is removed.
pub struct Root {
    directory: TempDir,
    children: Vec<Child>,
}

/// Starts a server in a root of its own. `start` gets the root, and the address at which the server must listen.
pub fn serve(name: &str, start: impl Fn(&mut Root, SocketAddr)) -> Option<Running> {
    let mut root = Root::new()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    start(&mut root, address);
    let server = root.children.last_mut().unwrap();
    assert!(greets(address, server), "{name} does not start");
    Some((address, Box::new(root)))
}

impl Root {
    /// Copies the unpacked packages by hard links. `None` if they can't be used here.
    fn new() -> Option<Self> {
        let Some(packages) = is_root().then(|| installed("debian")) else {
            // Not a failure even if all tools are required, because installing something would not help.
            eprintln!("\n!! SKIPPED {}: needs root\n", test_name());
            return None;
        };
        let packages = packages?;
        let copies = packages.with_file_name("running");
        fs::create_dir_all(&copies).unwrap();
        remove_orphans(&copies);
        // The prefix says which process is responsible for the directory.
        let prefix = format!("{}-", std::process::id());
        let directory = TempDir::with_prefix_in(prefix, &copies).unwrap();
        let copied = Command::new("cp")
            .args(["--archive", "--link", "--no-target-directory"])
            .args([&packages, directory.path()])
            .status();
        assert!(copied.unwrap().success(), "cp {packages:?}");
        let root = Self {
            directory,
            children: Vec::new(),
        };
        // A plain file is enough, and needs no privilege of containers. (Nobody reads from it.)
        root.write("/dev/null", "");
        fs::set_permissions(root.path("/dev/null"), Permissions::from_mode(0o666)).unwrap();
        Some(root)
    }

    /// Writes a file of the server's configuration.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // The package's file is a link to the original, which must not change.
        let _ = fs::remove_file(&path);
        fs::write(path, text).unwrap();
    }

    /// Makes a directory that the server writes to.
    pub fn directory(&self, path: &str) {
        let path = self.path(path);
        fs::create_dir_all(&path).unwrap();
        chown(path, Some(SERVER_ID), Some(SERVER_ID)).unwrap();
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path.trim_start_matches('/'))
    }

    /// Runs a program of the packages.
    pub fn command(&self, program: &str) -> Command {
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(self.path("log"))
            .unwrap();
        let mut command = Command::new("chroot");
        command
            .arg(self.directory.path())
            .arg(program)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }

    /// Starts a server that stays in the foreground.
    pub fn spawn(&mut self, command: &mut Command) {
        self.children.push(command.spawn().unwrap());
    }

    /// Waits until a process in this root has made the file `path`.
    pub fn wait_for(&self, path: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.path(path).exists() {
            assert!(Instant::now() < deadline, "no {path}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn log(&self) -> String {
        text_of(&self.path("log"))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        end_processes(self.directory.path());
        for child in &mut self.children {
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("log of the server:\n{}", self.log());
        }
    }
}

/// Ends every process that runs in this root, whoever has started it.
fn end_processes(root: &Path) {
    let is_inside = |process: &Path| fs::read_link(process.join("root")).is_ok_and(|directory| directory == root);
    loop {
        let processes: Vec<_> = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter(|entry| is_inside(&entry.path()))
            .map(|entry| entry.file_name())
            .collect();
        if processes.is_empty() {
            return;
        }
        // The next round finds a process that was forked meanwhile.
        let _ = Command::new("kill")
            .arg("-KILL")
            .args(processes)
            .stderr(Stdio::null())
            .status();
    }
}

/// Removes what earlier tests have left behind because they were killed.
fn remove_orphans(copies: &Path) {
    for entry in fs::read_dir(copies).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let responsible = name.split('-').next().unwrap();
        if !Path::new("/proc").join(responsible).exists() {
            end_processes(&entry.path());
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether the tests run as root.
fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}
