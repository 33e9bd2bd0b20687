//! Programs that fetch everything and delete it.

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::Path,
    process::Command,
};

use super::{House, Way, fetchmail_command, run, sorted, with_lf};
use crate::support::{PASSWORD, mail, missing, require_program};

impl House {
    /// Checks that the mailbox is empty, and that the last session has emptied it.
    fn check_emptied(&self) {
        self.check_sessions(Way::Plain, 1, self.mails.len());
        let sessions = self.gateway.sessions(1);
        assert_eq!(sessions.last().unwrap()["removed"], self.mails.len());
        assert_eq!(self.dovecot.imap("eva").uids(), [0; 0]);
    }

    /// Checks that `N.eml` is message N, octet by octet.
    fn check_files(&self) {
        for (number, mail) in (1..).zip(&self.mails) {
            let octets = fs::read(self.file(&format!("{number}.eml"))).unwrap();
            assert!(octets == mail::delivered(mail), "message {number}");
        }
    }

    /// Writes `script`, and adds it to `command` with port, login, password and the directory of `check_files`.
    fn add_script(&self, command: &mut Command, script: &str) {
        let file = self.secret_file("script", script);
        command
            .arg(file)
            .args([&self.port(Way::Plain).to_string(), "eva", PASSWORD])
            .arg(self.home.path());
    }
}

const NET_POP: &str = r##"
require "net/pop"
port, login, password, directory = ARGV
Net::POP3.start("127.0.0.1", port.to_i, login, password) do |pop|
  raise "UIDL" unless pop.mails.map(&:unique_id).uniq.length == pop.n_mails
  raise "LIST" unless pop.mails.sum(&:length) == pop.n_bytes
  pop.each_mail do |mail|
    raise "TOP" unless mail.pop.start_with?(mail.header)
    File.binwrite("#{directory}/#{mail.number}.eml", mail.pop)
    mail.delete
  end
end
"##;

#[test]
fn rubys_net_pop() {
    let Some(ruby) = require_program("ruby") else { return };
    let Some(house) = House::new() else { return };
    let mut command = house.command(&ruby);
    house.add_script(&mut command, NET_POP);
    run(&mut command);
    house.check_files();
    // Each `pop` in the script sends a RETR.
    house.check_sessions(Way::Plain, 1, 2 * house.mails.len());
    assert_eq!(house.dovecot.imap("eva").uids(), [0; 0]);
}

const IMAP_OPEN: &str = r#"<?php
[, $port, $login, $password, $directory] = $argv;
$mailbox = imap_open("{127.0.0.1:$port/pop3/notls}INBOX", $login, $password, 0, 1);
if (!$mailbox) {
    exit(implode("\n", imap_errors()));
}
for ($number = 1; $number <= imap_num_msg($mailbox); $number++) {
    $mail = imap_fetchheader($mailbox, $number) . imap_body($mailbox, $number);
    file_put_contents("$directory/$number.eml", $mail);
    imap_delete($mailbox, $number);
}
imap_expunge($mailbox);
imap_close($mailbox);
// c-client warns so of passwords in plain text.
foreach (imap_errors() ?: [] as $error) {
    if (!str_starts_with($error, "SECURITY PROBLEM: insecure server advertised AUTH=")) {
        exit($error);
    }
}
"#;

/// PHP's `imap_open` uses c-client, as other programs do.
#[test]
fn phps_imap_open() {
    let Some(php) = require_program("php") else { return };
    let modules = Command::new(&php).arg("-m").output().unwrap();
    if !String::from_utf8_lossy(&modules.stdout)
        .lines()
        .any(|module| module == "imap")
    {
        return missing("php-imap is not installed");
    }
    let Some(house) = House::new() else { return };
    let mut command = house.command(&php);
    house.add_script(&mut command, IMAP_OPEN);
    let said = run(&mut command);
    assert_eq!(String::from_utf8_lossy(&said), "");
    house.check_files();
    house.check_emptied();
}

/// A script for BeanShell, so that no compiler is needed.
const JAVAMAIL: &str = r#"
arguments = bsh.args;
properties = new java.util.Properties();
properties.put("mail.pop3.timeout", "30000");
store = javax.mail.Session.getInstance(properties).getStore("pop3");
store.connect("127.0.0.1", Integer.parseInt(arguments[0]), arguments[1], arguments[2]);
folder = store.getFolder("INBOX");
folder.open(javax.mail.Folder.READ_WRITE);
for (number = 1; number <= folder.getMessageCount(); number++) {
    message = folder.getMessage(number);
    if (folder.getUID(message) == null) throw new Exception("UIDL");
    file = new java.io.BufferedOutputStream(new java.io.FileOutputStream(arguments[3] + "/" + number + ".eml"));
    message.writeTo(file);
    file.close();
    message.setFlag(javax.mail.Flags.Flag.DELETED, true);
}
folder.close(true);
store.close();
"#;

#[test]
fn javamail() {
    let Some(java) = require_program("java") else { return };
    let jars = ["javax.mail", "javax.activation", "bsh"].map(|name| format!("/usr/share/java/{name}.jar"));
    if let Some(jar) = jars.iter().find(|jar| !Path::new(jar).is_file()) {
        return missing(&format!("{jar} is not there (libmail-java, bsh)"));
    }
    let Some(house) = House::new() else { return };
    let mut command = house.command(&java);
    // These options make a short run faster.
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", &jars.join(":")]);
    command.arg("bsh.Interpreter");
    house.add_script(&mut command, JAVAMAIL);
    run(&mut command);
    house.check_files();
    house.check_emptied();
}

#[test]
fn getmail() {
    let Some(getmail) = require_program("getmail") else {
        return;
    };
    let Some(house) = House::new() else { return };
    let maildir = house.maildir("mail");
    let text = format!(
        "[retriever]\ntype = SimplePOP3Retriever\nserver = 127.0.0.1\nport = {}\nusername = eva\npassword = {PASSWORD}\n\
         [destination]\ntype = Maildir\npath = {}/\n[options]\ndelete = true\ndelivered_to = false\nreceived = false\n",
        house.port(Way::Plain),
        maildir.display()
    );
    let control = house.secret_file("getmailrc", &text);
    let mut command = house.command(&getmail);
    command
        .arg("--getmaildir")
        .arg(house.home.path())
        .arg("--rcfile")
        .arg(&control);
    // getmail does not deliver as root.
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        const NOBODY: u32 = 65534;
        let all = ["mail", "mail/cur", "mail/new", "mail/tmp", "getmailrc", "."];
        for file in all.map(|name| house.file(name)) {
            std::os::unix::fs::chown(file, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        command.uid(NOBODY).gid(NOBODY);
    }
    run(&mut command);
    house.check_bodies(&house.delivered(&maildir), "other octets");
    house.check_emptied();
}

#[test]
fn fetchmail() {
    let Some(fetchmail) = require_program("fetchmail") else {
        return;
    };
    let Some(house) = House::new() else { return };
    let text = format!(
        "set no bouncemail\npoll localhost protocol POP3 service {} auth password\n  username \"eva\" password \
         \"{PASSWORD}\" sslproto \"\" no keep fetchall\n  mda \"cat >> {}\"\n",
        house.port(Way::Plain),
        house.file("box").display(),
    );
    let control = house.secret_file("fetchmailrc", &text);
    run(&mut fetchmail_command(&house, &fetchmail, &control));
    house.check_emptied();
}

/// With `keep`, fetchmail fetches by `TOP n 99999999`. It recognises the mails when it must delete them later.
#[test]
fn fetchmail_that_has_kept_before() {
    let Some(fetchmail) = require_program("fetchmail") else {
        return;
    };
    let Some(house) = House::new() else { return };
    let run_with = |keys: &str| {
        let text = format!(
            "set no bouncemail\nset invisible\npoll localhost protocol POP3 service {} auth password uidl\n  \
             username \"eva\" password \"{PASSWORD}\" sslproto \"\"\n  no rewrite {keys}\n  mda \"(cat; echo; echo '==next==') >> {}\"\n",
            house.port(Way::Plain),
            house.file("box").display(),
        );
        let control = house.secret_file("fetchmailrc", &text);
        let mut command = fetchmail_command(&house, &fetchmail, &control);
        command.arg("--idfile").arg(house.file("ids"));
        command.output().unwrap().status.code()
    };
    assert_eq!(run_with("keep"), Some(0));
    let read = |house: &House| super::split(&fs::read(house.file("box")).unwrap(), b"\n==next==\n");
    house.check_bodies(&read(&house), "other octets");
    house.gateway.sessions(1);
    let verbs = house.gateway.events("command", 1);
    let count = |verb: &str| verbs.iter().filter(|event| event["verb"] == verb).count();
    assert_eq!((count("RETR"), count("TOP")), (0, house.mails.len()));
    // The status 1 ("no mail") means that there was no new mail.
    assert_eq!(run_with("keep"), Some(1));
    assert_eq!(house.dovecot.imap("eva").uids().len(), house.mails.len());
    assert_eq!(run_with("no keep flush"), Some(1));
    assert_eq!(house.dovecot.imap("eva").uids(), [0; 0]);
    house.check_bodies(&read(&house), "nothing is read twice");
}

#[test]
fn mpop_that_has_kept_before() {
    let Some(mpop) = require_program("mpop") else { return };
    let Some(house) = House::new() else { return };
    let maildir = house.maildir("mail");
    let run_with = |keep: &str| {
        let text = format!(
            "account default\nhost localhost\nport {}\nuser eva\npassword {PASSWORD}\ntls off\nauth user\nkeep {keep}\n\
             received_header off\nuidls_file {}\ndelivery maildir {}\n",
            house.port(Way::Plain),
            house.file("uidls").display(),
            maildir.display(),
        );
        let control = house.secret_file("mpoprc", &text);
        run(house.command(&mpop).arg("--file").arg(&control));
    };
    run_with("on");
    house.check_sessions(Way::Plain, 1, house.mails.len());
    let expected = sorted(house.mails.iter().map(|mail| with_lf(mail)).collect());
    assert!(sorted(house.delivered(&maildir)) == expected, "other octets");
    run_with("off");
    house.check_sessions(Way::Plain, 1, 0);
    assert_eq!(house.dovecot.imap("eva").uids(), [0; 0]);
    assert!(sorted(house.delivered(&maildir)) == expected, "nothing is read twice");
}
