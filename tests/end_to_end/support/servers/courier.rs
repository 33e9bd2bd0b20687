//! Courier IMAP.

use std::{
    fs::{Permissions, set_permissions},
    os::unix::fs::PermissionsExt,
    process::Stdio,
};

use super::{
    CRYPTED, Running, USER,
    root::{Root, SERVER_ID, serve},
};

/// Starts Courier with this line of capabilities.
pub fn start(capabilities: &str) -> Option<Running> {
    serve("courier", |root, address| {
        configure(root);
        let mut authentication = root.command("/usr/lib/courier/courier-authlib/authdaemond");
        root.spawn(&mut authentication);
        root.wait_for("/run/courier/authdaemon/socket");
        let mut listener = root.command("/usr/sbin/couriertcpd");
        listener
            .args([
                "-address=127.0.0.1",
                "-maxprocs=40",
                "-maxperip=40",
                "-nodnslookup",
                "-noidentlookup",
            ])
            .arg(address.port().to_string())
            .args(["/usr/lib/courier/courier/imaplogin", "/usr/bin/imapd", "Maildir"])
            // The defaults of /etc/courier/imapd.
            .envs([
                ("IMAP_CAPABILITY", capabilities),
                ("IMAP_KEYWORDS", "1"),
                ("IMAP_ACL", "1"),
                ("IMAP_IDLE_TIMEOUT", "60"),
                ("IMAP_MAILBOX_SANITY_CHECK", "1"),
                ("IMAP_TRASHFOLDERNAME", "Trash"),
                ("IMAP_USELOCKS", "1"),
                ("MAILDIRPATH", "Maildir"),
            ]);
        root.spawn(&mut listener);
    })
}

fn configure(root: &Root) {
    for directory in [
        "/mail",
        "/mail/Maildir",
        "/mail/Maildir/new",
        "/mail/Maildir/cur",
        "/mail/Maildir/tmp",
    ] {
        root.directory(directory);
    }
    // Courier waits for locks with the file monitor, which looks up its user and keeps its sockets in /tmp.
    root.write(
        "/etc/passwd",
        &format!("{USER}:x:{SERVER_ID}:{SERVER_ID}::/mail:/bin/sh\n"),
    );
    root.directory("/tmp");
    root.directory("/run/courier/authdaemon");
    root.write(
        "/etc/courier/authdaemonrc",
        "authmodulelist=\"authuserdb\"\ndaemons=1\n",
    );
    for (name, keys) in [
        (
            "userdb",
            format!("uid={SERVER_ID}|gid={SERVER_ID}|home=/mail|mail=/mail/Maildir|_="),
        ),
        ("userdbshadow", format!("systempw={CRYPTED}")),
    ] {
        // The same as makeuserdb does, which is a Perl script.
        root.write("/entries", &format!("{USER}\t{keys}\n.\n"));
        let made = root
            .command("/usr/lib/courier/courier-authlib/makedatprog")
            .args(["-", "/etc/courier/new.dat", &format!("/etc/courier/{name}.dat")])
            .stdin(Stdio::from(std::fs::File::open(root.path("/entries")).unwrap()))
            .status();
        assert!(made.unwrap().success());
    }
    let shadow = root.path("/etc/courier/userdbshadow.dat");
    set_permissions(shadow, Permissions::from_mode(0o600)).unwrap();
}
