//! GNU Mailutils' imap4d.

use super::{
    CRYPTED, Running, USER,
    root::{SERVER_ID, serve},
};

pub fn start() -> Option<Running> {
    serve("imap4d", |root, address| {
        root.write(
            "/etc/passwd",
            &format!("{USER}:{CRYPTED}:{SERVER_ID}:{SERVER_ID}::/home:/bin/sh\n"),
        );
        root.write("/etc/group", &format!("{USER}:x:{SERVER_ID}:\nmail:x:8:\n"));
        for directory in ["/var/mail", "/home", "/home/folders", "/run", "/tmp"] {
            root.directory(directory);
        }
        root.write(
            "/etc/imap4d.conf",
            &format!(
                "mode daemon;\nforeground yes;\npidfile /run/imap4d.pid;\nlogging {{ syslog no; }};\n\
                 tcp-wrappers {{ enable no; }};\nserver {address} {{ }};\n\
                 mailbox {{ mail-spool /var/mail; mailbox-type maildir; }};\n\
                 auth {{ authentication clear; authentication generic:system; authorization clear; \
                 authorization system; }};\n\
                 namespace personal {{ prefix \"\" {{ directory \"/home/folders\"; delimiter \"/\"; \
                 mailbox-type maildir; }}; }};\n"
            ),
        );
        let mut server = root.command("/usr/sbin/imap4d");
        root.spawn(server.args(["--config-file", "/etc/imap4d.conf"]));
    })
}
