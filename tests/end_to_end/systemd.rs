//! Under systemd: the units, the messages to systemd, and the sockets that systemd opens.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::support::{
    PATIENCE, answers::Answers, gateway::Setup, mail, peer::Peer, pop::Pop, process::free_port, require_program,
};

/// The highest exposure that `systemd-analyze security` may report, in tenths: 20 of 100.
const EXPOSURE: &str = "--threshold=20";

/// The units, with the path of the program that was built.
fn units() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    for name in ["popgate.service", "popgate.socket"] {
        let text = std::fs::read_to_string(packaging.join(name)).unwrap();
        let text = text.replace("/usr/bin/popgate", env!("CARGO_BIN_EXE_popgate"));
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn the_units_are_valid() {
    let Some(analyze) = require_program("systemd-analyze") else {
        return;
    };
    let units = units();
    let output = Command::new(analyze)
        .args(["verify", "--man=no", "popgate.service", "popgate.socket"])
        .current_dir(units.path())
        .output()
        .unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("popgate."), "{said}");
}

#[test]
fn the_service_is_exposed_to_little() {
    let Some(analyze) = require_program("systemd-analyze") else {
        return;
    };
    let output = Command::new(analyze)
        .args(["security", "--no-pager", "--offline=true", EXPOSURE, "popgate.service"])
        .current_dir(units().path())
        .output()
        .unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    let verdict = said.lines().last().unwrap();
    assert!(verdict.contains("exposure level for popgate.service"), "{said}");
    println!("{verdict}");
}

fn mailbox() -> Answers {
    Answers::of([mail::simple(1)])
}

/// The socket at which systemd gets the program's messages.
struct Manager(UnixDatagram);

impl Manager {
    fn new(directory: &Path) -> Self {
        let socket = UnixDatagram::bind(directory.join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// The next message that has the line `wanted`.
    fn told(&self, wanted: &str) -> Vec<String> {
        let mut octets = [0; 4096];
        loop {
            let length = self
                .0
                .recv(&mut octets)
                .unwrap_or_else(|error| panic!("no {wanted}: {error}"));
            let lines: Vec<_> = String::from_utf8_lossy(&octets[..length])
                .lines()
                .map(str::to_owned)
                .collect();
            if lines.iter().any(|line| line == wanted) {
                return lines;
            }
        }
    }
}

#[test]
fn systemd_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::new(directory.path());
    let peer = Peer::start(mailbox());
    let setup = || Setup::new(peer.address()).table("[state]\ndir = \"state\"");
    let mut gateway = setup()
        .environment("NOTIFY_SOCKET", directory.path().join("notify"))
        .environment("WATCHDOG_USEC", "200000")
        .start();
    let ready = manager.told("READY=1");
    assert!(
        ready.contains(&"STATUS=1 listener, 1 upstream, 0 accounts".to_owned()),
        "{ready:?}"
    );
    for _ in 0..3 {
        assert_eq!(manager.told("WATCHDOG=1").len(), 1);
    }
    gateway.reload(&setup().listener("tls = \"off\"").listener("tls = \"off\""));
    let reloading = manager.told("RELOADING=1");
    assert!(
        reloading.iter().any(|line| line.starts_with("MONOTONIC_USEC=")),
        "{reloading:?}"
    );
    let ready = manager.told("READY=1");
    assert!(
        ready.contains(&"STATUS=2 listeners, 1 upstream, 0 accounts".to_owned()),
        "{ready:?}"
    );
    gateway.write("nonsense");
    gateway.signal("HUP");
    manager.told("RELOADING=1");
    let ready = manager.told("READY=1");
    assert!(
        ready
            .iter()
            .any(|line| line.starts_with("STATUS=the last reload failed")),
        "{ready:?}"
    );

    let pop = Pop::log_in(gateway.address(), "eva");
    gateway.signal("TERM");
    let stopping = manager.told("STOPPING=1");
    assert!(
        stopping.iter().any(|line| line.starts_with("STATUS=draining")),
        "{stopping:?}"
    );
    manager.told("WATCHDOG=1");
    pop.quit();
    assert_eq!(gateway.wait().code(), Some(0));
}

/// A shell that passes its standard input to the program as systemd passes a socket.
fn passing(socket: &TcpListener) -> Command {
    let script = "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\"";
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_popgate")])
        .stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
    command
}

#[test]
fn a_socket_of_systemd_is_used_by_the_listener_of_its_address() {
    // While this socket lives, no other program can bind its address.
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let peer = Peer::start(mailbox());
    let setup = || Setup::new(peer.address()).table("[state]\ndir = \"state\"");
    let at_socket = format!("[[listener]]\naddress = \"{address}\"\ntls = \"off\"");
    let gateway = setup().table(&at_socket).start_by(passing(&socket));
    assert_eq!(gateway.events("listening", 2)[0]["address"], address.to_string());
    let mut early = Pop::log_in(address, "eva");
    // One reload closes the socket, and another uses it again.
    gateway.reload(&setup());
    gateway.events("no longer listening", 1);
    early.ok("NOOP");
    early.quit();
    gateway.reload(&setup().table(&at_socket));
    Pop::log_in(address, "eva").quit();
}

#[test]
fn a_socket_of_systemd_that_no_listener_has_is_named() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = Peer::start(mailbox());
    let gateway = Setup::new(peer.address()).start_by(passing(&socket));
    let unused = gateway.events(
        "systemd has opened a socket that no [[listener]] has as its address: devices that connect there wait in vain",
        1,
    );
    assert_eq!(unused[0]["address"], socket.local_addr().unwrap().to_string());
}

/// The socket still listens, so devices connect to it.
#[test]
fn a_socket_of_systemd_whose_listener_a_reload_removes_is_named() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let peer = Peer::start(mailbox());
    let setup = || Setup::new(peer.address()).table("[state]\ndir = \"state\"");
    let at_socket = format!("[[listener]]\naddress = \"{address}\"\ntls = \"off\"");
    let gateway = setup().table(&at_socket).start_by(passing(&socket));
    gateway.reload(&setup());
    let unused = gateway.events(
        "systemd has opened a socket that no [[listener]] has as its address: devices that connect there wait in vain",
        1,
    );
    assert_eq!(unused[0]["address"], address.to_string());
}

/// systemd's own tool for trying socket activation starts the program upon the first connection.
#[test]
fn the_first_connection_starts_the_program_and_is_served() {
    let Some(activate) = require_program("systemd-socket-activate") else {
        return;
    };
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let peer = Peer::start(mailbox());
    let device = std::thread::spawn(move || {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "nobody listens");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut pop = Pop::log_in(address, "eva");
        assert_eq!(pop.retr(1).1, mail::simple(1));
        pop.quit();
    });
    let mut command = Command::new(activate);
    command
        .args(["--listen", &address.to_string(), env!("CARGO_BIN_EXE_popgate")])
        .stdin(Stdio::null());
    let gateway = Setup::new(peer.address())
        .table(&format!("[[listener]]\naddress = \"{address}\"\ntls = \"off\""))
        .start_by(command);
    device.join().unwrap();
    assert_eq!(gateway.events("listening", 2)[0]["address"], address.to_string());
}
