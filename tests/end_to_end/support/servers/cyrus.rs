//! Cyrus IMAP.

use std::{io::Write, net::SocketAddr, process::Stdio};

use super::{
    Running, USER,
    root::{Root, SERVER_ID, serve},
};
use crate::support::PASSWORD;

/// Starts Cyrus, with folders below `INBOX.`; with `slashes`, folders lie beside INBOX.
pub fn start(slashes: bool) -> Option<Running> {
    serve("cyrus", |root, address| {
        configure(root, address, if slashes { "yes" } else { "no" });
        let mut master = root.command("/usr/lib/cyrus/bin/master");
        root.spawn(master.args(["-C", "/etc/imapd.conf", "-M", "/etc/cyrus.conf", "-p", "/run/cyrus/pid"]));
    })
}

fn configure(root: &Root, address: SocketAddr, slashes: &str) {
    root.write("/etc/passwd", &format!("cyrus:x:{SERVER_ID}:{SERVER_ID}::/:/bin/sh\n"));
    root.write("/etc/group", &format!("cyrus:x:{SERVER_ID}:\n"));
    root.write(
        "/etc/cyrus.conf",
        &format!(
            "START {{\n  recover cmd=\"/usr/lib/cyrus/bin/ctl_cyrusdb -r\"\n}}\n\
             SERVICES {{\n  imap cmd=\"/usr/lib/cyrus/bin/imapd\" listen=\"{address}\" prefork=1\n}}\nEVENTS {{\n}}\n"
        ),
    );
    root.write(
        "/etc/imapd.conf",
        &format!(
            "servername: localhost\nconfigdirectory: /var/lib/cyrus\ndefaultpartition: default\n\
             partition-default: /var/spool/mail\nproc_path: /run/cyrus/proc\nmboxname_lockpath: /run/cyrus/lock\n\
             altnamespace: {slashes}\nunixhierarchysep: {slashes}\nautocreate_quota: 0\nallowplaintext: yes\n\
             failedloginpause: 0\nsasl_mech_list: PLAIN LOGIN\nsasl_pwcheck_method: auxprop\n\
             sasl_auxprop_plugin: sasldb\nsasl_sasldb_path: /var/lib/cyrus/sasldb2\n"
        ),
    );
    for directory in [
        "", "/db", "/proc", "/log", "/quota", "/user", "/lock", "/msg", "/socket",
    ] {
        root.directory(&format!("/var/lib/cyrus{directory}"));
    }
    for directory in ["/var/spool/mail", "/run/cyrus", "/run/cyrus/proc", "/run/cyrus/lock"] {
        root.directory(directory);
    }
    // saslpasswd2 reads the password from standard input, and writes it to the server's file.
    let mut saslpasswd = root
        .command("/usr/sbin/saslpasswd2")
        .args(["-p", "-c", "-f", "/var/lib/cyrus/sasldb2", "-u", "localhost", USER])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = saslpasswd.stdin.take().unwrap();
    stdin.write_all(PASSWORD.as_bytes()).unwrap();
    drop(stdin);
    assert!(saslpasswd.wait().unwrap().success());
    std::os::unix::fs::chown(root.path("/var/lib/cyrus/sasldb2"), Some(SERVER_ID), Some(SERVER_ID)).unwrap();
}
