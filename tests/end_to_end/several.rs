//! Several gateways that share state: each knows what the others have done, and a maildrop is open in one of them only.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::support::{
    PASSWORD,
    answers::Answers,
    gateway::{Gateway, Setup},
    mail,
    peer::{Gate, Peer, Step, send},
    pop::Pop,
    process::free_port,
    require_program,
    web::{self, Web},
};

/// A Redis server.
struct Redis {
    process: Child,
    port: u16,
    _dir: TempDir,
}

impl Redis {
    fn start() -> Option<Self> {
        let program = require_program("redis-server")?;
        loop {
            let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
            let mut process = Command::new(&program)
                .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .args(["--port", &port.to_string()])
                .arg("--dir")
                .arg(dir.path())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(process.stdout.take().unwrap())
                .lines()
                .map_while(Result::ok);
            if lines.any(|line| line.contains("Ready to accept connections")) {
                std::thread::spawn(move || lines.for_each(drop));
                return Some(Self {
                    process,
                    port,
                    _dir: dir,
                });
            }
            // Another program has taken the port meanwhile.
            process.wait().unwrap();
        }
    }

    /// Sends a command, and returns the server's answer.
    fn say(&self, command: &str) -> String {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        socket.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The locks that are held.
    fn locks(&self) -> Vec<String> {
        let answer = self.say("KEYS *:l*");
        answer
            .lines()
            .filter(|line| line.contains(':') && !line.starts_with('*'))
            .map(str::to_owned)
            .collect()
    }

    /// Gives all locks to a session of another gateway.
    fn steal_locks(&self) {
        let locks = self.locks();
        assert_eq!(locks.len(), 2, "of the login and of the mailbox: {locks:?}");
        for lock in locks {
            assert!(self.say(&format!("SET {lock} thief")).starts_with("+OK"));
        }
    }

    /// A gateway called `name`, with its state in this server.
    fn gateway(&self, name: &str, peer: &Peer, maildrop: &str) -> Gateway {
        self.setup(name, peer).maildrop(maildrop).start()
    }

    fn setup(&self, name: &str, peer: &Peer) -> Setup {
        Setup::new(peer.address()).limit("parked_seconds = 60").table(&format!(
            "[state]\nurl = \"redis://127.0.0.1:{}\"\nkey = \"{}\"\nlease_seconds = 6\nreplica = \"{name}\"",
            self.port,
            "k".repeat(40)
        ))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn mailbox() -> Answers {
    Answers::of((1..=5).map(mail::simple))
}

fn try_log_in(gateway: &Gateway) -> (Pop, String) {
    let mut pop = Pop::connect(gateway.address());
    let reply = pop.try_log_in("eva", PASSWORD);
    (pop, reply)
}

#[test]
fn a_maildrop_is_open_in_one_of_them() {
    let Some(redis) = Redis::start() else { return };
    let peer = Peer::start(mailbox());
    let gateways = ["a", "b"].map(|name| redis.gateway(name, &peer, ""));
    for round in 0..10 {
        let (here, there) = (&gateways[round % 2], &gateways[(round + 1) % 2]);
        // When QUIT is answered by `+OK`, the device can log in at another gateway at once.
        let pop = Pop::log_in(here.address(), "eva");
        let (_, reply) = try_log_in(there);
        assert!(reply.starts_with("-ERR [IN-USE]"), "{reply}");
        pop.quit();
    }
    assert_eq!(redis.locks(), [""; 0]);
    peer.assert_nothing_removed();
}

#[test]
fn what_one_hides_is_hidden_in_the_others_too() {
    let Some(redis) = Redis::start() else { return };
    let peer = Peer::start(mailbox());
    let gateways = ["a", "b"].map(|name| redis.gateway(name, &peer, "on_delete = \"hide\""));
    for (round, left) in [5, 4, 3, 2, 1].into_iter().enumerate() {
        // From the second round on, each gateway has a parked connection, with the snapshot of that time.
        let mut pop = Pop::log_in(gateways[round % 2].address(), "eva");
        assert_eq!(pop.stat().0, left);
        pop.ok("DELE 1");
        pop.quit();
    }
    peer.assert_nothing_removed();
}

#[test]
fn who_has_lost_the_lock_removes_nothing() {
    for maildrop in ["", "on_delete = \"hide\"", "on_delete = \"move:Old\""] {
        let Some(redis) = Redis::start() else { return };
        let peer = Peer::start(mailbox());
        let gateway = redis.gateway("a", &peer, maildrop);
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.ok("DELE 2");
        if maildrop.contains("hide") {
            let [lock] = redis.locks().try_into().unwrap();
            redis.say(&format!("SET {lock} thief"));
        } else {
            redis.steal_locks();
        }
        // The next renewal of the lease notices the loss, or the next write does.
        gateway.lines("lock of the maildrop was lost", 1);
        let reply = pop.command("QUIT");
        assert!(reply.starts_with("-ERR [SYS/TEMP] "), "{maildrop}: {reply}");
        peer.assert_nothing_removed();
        assert_eq!(peer.count("UID MOVE") + peer.count("UID COPY"), 0);
    }
}

#[test]
fn who_loses_the_lock_while_removing_says_nothing_more_upstream() {
    let Some(redis) = Redis::start() else { return };
    let gate = Gate::default();
    let stored = vec![Step::Wait(gate.clone()), send("{tag} OK stored\r\n")];
    let peer = Peer::start(mailbox().once("UID STORE", stored));
    let gateway = redis.gateway("a", &peer, "");
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.send(b"QUIT\r\n");
    peer.wait_for("UID STORE");
    redis.steal_locks();
    let reply = pop.reply();
    assert!(reply.starts_with("-ERR [SYS/TEMP] "), "{reply}");
    gate.open();
    gateway.stop();
    assert_eq!(peer.count("UID EXPUNGE 2"), 0, "{:?}", peer.commands());
}

#[test]
fn the_maildrops_of_a_gateway_that_dies_are_free_after_the_lease() {
    let Some(redis) = Redis::start() else { return };
    let peer = Peer::start(mailbox());
    let dying = redis.gateway("a", &peer, "");
    let other = redis.gateway("b", &peer, "");
    let _pop = Pop::log_in(dying.address(), "eva");
    dying.signal("KILL");
    let begun = Instant::now();
    loop {
        let (pop, reply) = try_log_in(&other);
        if reply.starts_with("+OK") {
            pop.quit();
            break;
        }
        assert!(reply.starts_with("-ERR [IN-USE]"), "{reply}");
        assert!(begun.elapsed() < Duration::from_secs(30));
        // The lease ends only with time.
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(
        begun.elapsed() > Duration::from_secs(3),
        "not before: {:?}",
        begun.elapsed()
    );
}

/// The first seconds of `bench/crash`, which says what it counts.
#[test]
fn nothing_is_lost_if_gateways_are_killed_and_stopped() {
    let (Some(python), Some(_)) = (require_program("python3"), require_program("redis-server")) else {
        return;
    };
    let output = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/bench/crash"))
        .args(["--together", "--rounds", "40", "--popgate"])
        .arg(env!("CARGO_BIN_EXE_popgate"))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// All gateways are concerned alike: no load balancer should send devices elsewhere.
#[test]
fn without_the_servers_logins_wait_and_fail_for_a_while_and_the_gateway_is_degraded() {
    let Some(redis) = Redis::start() else { return };
    let peer = Peer::start(mailbox());
    let gateway = redis.setup("a", &peer).table(&web::table()).start();
    let web = Web::of(&gateway);
    assert_eq!(web.get("/readyz").json()["status"], "ready");
    drop(redis);
    let (_, reply) = try_log_in(&gateway);
    assert!(reply.starts_with("-ERR [SYS/TEMP] "), "{reply}");
    let answer = web.get("/readyz");
    assert_eq!(
        (answer.status, answer.json()["status"].as_str()),
        (200, Some("degraded"))
    );
    assert_eq!(
        answer.json()["degraded"]["state"],
        "state cannot be read or written, see the log"
    );
    assert_eq!(web.get("/readyz?strict").status, 503);
    gateway.lines("shared state failed", 1);
    peer.assert_nothing_removed();
}
