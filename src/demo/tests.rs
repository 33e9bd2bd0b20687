//! Dialogues over TCP, by a client that knows only IMAP's lines, literals and tags.

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{Server, samples};

struct Client {
    socket: BufReader<TcpStream>,
    tags: u32,
}

impl Client {
    /// Connects and reads the greeting.
    async fn connect(server: &Server) -> Self {
        let socket = TcpStream::connect(server.address()).await.unwrap();
        let mut client = Self {
            socket: BufReader::new(socket),
            tags: 0,
        };
        let greeting = client.line().await;
        assert!(greeting.starts_with("* OK [CAPABILITY IMAP4rev1 "), "{greeting}");
        client
    }

    async fn login(server: &Server) -> Self {
        let mut client = Self::connect(server).await;
        client.ok("LOGIN demo demo").await;
        client
    }

    async fn inbox(server: &Server) -> Self {
        let mut client = Self::login(server).await;
        client.ok("SELECT INBOX").await;
        client
    }

    async fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.socket.write_all(octets.as_ref()).await.unwrap();
    }

    /// Reads a line without its end. Octets that are not UTF-8 are replaced.
    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.socket.read_until(b'\n', &mut line).await.unwrap();
        let line = line
            .strip_suffix(b"\r\n")
            .unwrap_or_else(|| panic!("cut short: {line:?}"));
        String::from_utf8_lossy(line).into_owned()
    }

    /// Reads a response with its literals, which must have the announced lengths.
    async fn response(&mut self) -> Vec<u8> {
        let mut response = Vec::new();
        loop {
            let line = self.line().await;
            response.extend_from_slice(line.as_bytes());
            response.extend_from_slice(b"\r\n");
            let Some((_, octets)) = line.strip_suffix('}').and_then(|line| line.rsplit_once('{')) else {
                return response;
            };
            let start = response.len();
            response.resize(start + octets.parse::<usize>().unwrap(), 0);
            self.socket.read_exact(&mut response[start..]).await.unwrap();
        }
    }

    /// Sends a command and returns all responses, the tag of the last line as `=`.
    async fn raw(&mut self, command: &str) -> Vec<Vec<u8>> {
        self.tags += 1;
        let tag = format!("t{} ", self.tags);
        self.send(format!("{tag}{command}\r\n")).await;
        let mut responses = Vec::new();
        loop {
            let response = self.response().await;
            if let Some(end) = response.strip_prefix(tag.as_bytes()) {
                responses.push([b"= ", end].concat());
                return responses;
            }
            responses.push(response);
        }
    }

    /// Like [`Self::raw`], but returns text, without the final line ends.
    async fn say(&mut self, command: &str) -> Vec<String> {
        let responses = self.raw(command).await;
        let text = |response: Vec<u8>| String::from_utf8_lossy(&response).trim_end_matches("\r\n").to_owned();
        responses.into_iter().map(text).collect()
    }

    /// The responses to a command that succeeds, without its OK.
    async fn ok(&mut self, command: &str) -> Vec<String> {
        let mut lines = self.say(command).await;
        let end = lines.pop().unwrap();
        assert!(end.starts_with("= OK "), "{command}: {end}");
        lines
    }

    /// The tagged line of a command that has no other response.
    async fn end(&mut self, command: &str) -> String {
        let [end] = &self.say(command).await[..] else {
            panic!("{command}: more than an end");
        };
        end.clone()
    }

    async fn closed(&mut self) {
        let mut rest = Vec::new();
        self.socket.read_to_end(&mut rest).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}

/// The literal of a response that has only one.
fn literal(response: &[u8]) -> &[u8] {
    let start = memchr::memmem::find(response, b"}\r\n").unwrap() + 3;
    let octets = response[..start - 3].rsplit(|&octet| octet == b'{').next().unwrap();
    let octets: usize = std::str::from_utf8(octets).unwrap().parse().unwrap();
    assert_eq!(&response[start + octets..], b")\r\n");
    &response[start..start + octets]
}

#[tokio::test]
async fn all_ways_to_log_in() {
    let server = Server::start().await.unwrap();
    for command in [
        "LOGIN demo demo",
        r#"login "demo" "demo""#,
        "LOGIN {4+}\r\ndemo {4+}\r\ndemo",
        "AUTHENTICATE PLAIN AGRlbW8AZGVtbw==",
        "authenticate plain ZGVtbwBkZW1vAGRlbW8=",
    ] {
        let mut client = Client::connect(&server).await;
        let end = client.end(command).await;
        assert!(end.starts_with("= OK [CAPABILITY IMAP4rev1 "), "{command}: {end}");
        client.ok("SELECT INBOX").await;
        assert!(client.end(command).await.starts_with("= BAD "), "twice: {command}");
    }

    let mut client = Client::connect(&server).await;
    client.send("a LOGIN {4}\r\n").await;
    assert!(client.line().await.starts_with("+ "));
    client.send("demo {4}\r\n").await;
    assert!(client.line().await.starts_with("+ "));
    client.send("demo\r\n").await;
    assert!(client.line().await.starts_with("a OK "));

    let mut client = Client::connect(&server).await;
    client.send("a AUTHENTICATE PLAIN\r\n").await;
    assert_eq!(client.line().await, "+ ");
    client.send("*\r\n").await;
    assert!(client.line().await.starts_with("a BAD "));
    client.send("b AUTHENTICATE PLAIN\r\n").await;
    assert_eq!(client.line().await, "+ ");
    client.send("AGRlbW8AZGVtbw==\r\n").await;
    assert!(client.line().await.starts_with("b OK "));
}

#[tokio::test]
async fn strangers_stay_outside() {
    let server = Server::start().await.unwrap();
    let mut client = Client::connect(&server).await;
    for (command, expected) in [
        ("LOGIN demo Demo", "= NO [AUTHENTICATIONFAILED] "),
        ("LOGIN \"\" \"\"", "= NO [AUTHENTICATIONFAILED] "),
        ("AUTHENTICATE PLAIN =", "= BAD "),
        ("AUTHENTICATE PLAIN AGRlbW8AZGVt", "= NO [AUTHENTICATIONFAILED] "),
        ("AUTHENTICATE PLAIN eABkZW1vAGRlbW8=", "= NO [AUTHORIZATIONFAILED] "),
        ("AUTHENTICATE PLAIN !!!", "= BAD "),
        ("AUTHENTICATE CRAM-MD5", "= NO "),
        ("LIST \"\" *", "= BAD "),
        ("SELECT INBOX", "= BAD "),
        ("UID FETCH 1 BODY[]", "= BAD "),
    ] {
        let end = client.end(command).await;
        assert!(end.starts_with(expected), "{command}: {end}");
    }
    client.ok("LOGIN demo demo").await;
    assert!(client.end("FETCH 1 UID").await.starts_with("= BAD "));
}

#[tokio::test]
async fn what_is_said_of_itself_and_the_folders() {
    let server = Server::start().await.unwrap();
    let mut client = Client::login(&server).await;
    let capability = client.ok("CAPABILITY").await;
    for word in [
        "IMAP4rev1",
        "LITERAL+",
        "SASL-IR",
        "AUTH=PLAIN",
        "ID",
        "UIDPLUS",
        "MOVE",
        "UNSELECT",
    ] {
        assert!(capability[0].split(' ').any(|listed| listed == word), "{word}");
    }
    assert!(client.ok(r#"ID ("name" "test" "version" NIL)"#).await[0].starts_with("* ID (\"name\" "));
    assert_eq!(client.ok("NAMESPACE").await, [r#"* NAMESPACE (("" "/")) NIL NIL"#]);
    let inbox = r#"* LIST (\Noinferiors) "/" INBOX"#;
    let trash = r#"* LIST (\Noinferiors \Trash) "/" Trash"#;
    assert_eq!(client.ok(r#"LIST "" *"#).await, [inbox, trash]);
    assert_eq!(client.ok(r#"LIST "" "%""#).await, [inbox, trash]);
    assert_eq!(client.ok(r#"LIST "" inbox"#).await, [inbox]);
    assert_eq!(client.ok(r#"LIST "" """#).await, [r#"* LIST (\Noselect) "/" """#]);
    assert_eq!(client.ok(r#"LIST "" Nowhere"#).await, [""; 0]);

    let count = samples::all().len();
    let status = client.ok("STATUS inbox (MESSAGES RECENT UIDNEXT UNSEEN)").await;
    let uid_next = count + 1;
    assert_eq!(
        status,
        [format!(
            "* STATUS INBOX (MESSAGES {count} RECENT 0 UIDNEXT {uid_next} UNSEEN {count})"
        )]
    );

    let select = client.ok("SELECT InBox").await;
    assert!(select.contains(&format!("* {count} EXISTS")) && select.contains(&"* 0 RECENT".to_owned()));
    for start in [
        "* FLAGS (",
        "* OK [PERMANENTFLAGS (\\Answered ",
        "* OK [UIDVALIDITY ",
        "* OK [UIDNEXT ",
    ] {
        assert_eq!(
            select.iter().filter(|line| line.starts_with(start)).count(),
            1,
            "{start}"
        );
    }
    assert!(client.end("CHECK").await.starts_with("= OK "));
    assert!(client.end("SELECT Nowhere").await.starts_with("= NO [NONEXISTENT] "));
    assert!(
        client.end("FETCH 1 UID").await.starts_with("= BAD "),
        "a failed SELECT leaves the mailbox"
    );

    let bye = client.ok("LOGOUT").await;
    assert!(bye[0].starts_with("* BYE "));
    client.closed().await;
}

#[tokio::test]
async fn every_sample_comes_octet_for_octet() {
    let server = Server::start().await.unwrap();
    let mut client = Client::inbox(&server).await;
    for (number, sample) in (1..).zip(samples::all()) {
        let facts = client.ok(&format!("UID FETCH {number} FAST")).await;
        let size = sample.octets.len();
        let date = sample.received;
        let expected = format!("* {number} FETCH (UID {number} FLAGS () INTERNALDATE \"{date}\" RFC822.SIZE {size})");
        assert_eq!(facts, [expected]);
        let mut parts = Vec::new();
        for section in ["", "HEADER", "TEXT"] {
            let answer = client.raw(&format!("FETCH {number} BODY.PEEK[{section}]")).await;
            let [body, end] = &answer[..] else {
                panic!("one message, one answer");
            };
            assert!(end.starts_with(b"= OK "));
            let start = format!("* {number} FETCH (BODY[{section}] {{");
            assert!(body.starts_with(start.as_bytes()));
            parts.push(literal(body).to_vec());
        }
        assert!(parts[0] == sample.octets, "message {number}");
        assert!(parts[0] == [&parts[1][..], &parts[2]].concat(), "message {number}");
    }
    assert!(
        client.ok("SEARCH SEEN").await == ["* SEARCH"],
        "BODY.PEEK leaves \\Seen alone"
    );
}

#[tokio::test]
async fn parts_of_a_message() {
    let server = Server::start().await.unwrap();
    let mut client = Client::inbox(&server).await;
    let octets = samples::all()[0].octets.clone();
    let size = octets.len();
    for (partial, range) in [
        ("<0.1>".to_owned(), 0..1),
        ("<10.20>".to_owned(), 10..30),
        (format!("<{}.100>", size - 5), size - 5..size),
        (format!("<{size}.1>"), size..size),
        ("<4294967295.4294967295>".to_owned(), size..size),
    ] {
        let answer = client.raw(&format!("FETCH 1 (UID BODY.PEEK[]{partial})")).await;
        assert_eq!(literal(&answer[0]), &octets[range], "{partial}");
        let origin = partial.split('.').next().unwrap();
        assert!(answer[0].starts_with(format!("* 1 FETCH (UID 1 BODY[]{origin}> {{").as_bytes()));
    }
}

#[tokio::test]
async fn reading_sets_seen_unless_the_mailbox_is_examined() {
    let server = Server::start().await.unwrap();
    let mut client = Client::login(&server).await;
    let examined = client.say("EXAMINE INBOX").await;
    assert!(examined.last().unwrap().starts_with("= OK [READ-ONLY] "));
    assert!(
        examined
            .iter()
            .any(|line| line.starts_with("* OK [PERMANENTFLAGS ()] "))
    );
    client.ok("FETCH 1 BODY[]").await;
    for command in [r"STORE 1 +FLAGS (\Seen)", "EXPUNGE", "UID EXPUNGE 1", "MOVE 1 Trash"] {
        assert!(client.end(command).await.starts_with("= NO "), "{command}");
    }
    assert_eq!(client.ok("SEARCH SEEN").await, ["* SEARCH"]);
    client.ok("UNSELECT").await;
    client.ok("SELECT INBOX").await;
    let answer = client.ok("FETCH 8 (UID BODY[TEXT])").await;
    assert_eq!(answer, ["* 8 FETCH (UID 8 BODY[TEXT] {0}\r\n FLAGS (\\Seen))"]);
    assert_eq!(
        client.ok("UID FETCH 8 FLAGS").await,
        ["* 8 FETCH (UID 8 FLAGS (\\Seen))"]
    );
    assert_eq!(client.ok("SEARCH SEEN").await, ["* SEARCH 8"]);
}

#[tokio::test]
async fn flags_and_searches() {
    let server = Server::start().await.unwrap();
    let mut client = Client::inbox(&server).await;
    assert_eq!(
        client.ok(r"STORE 2:3 +FLAGS (\Deleted $Junk)").await,
        [r"* 2 FETCH (FLAGS (\Deleted))", r"* 3 FETCH (FLAGS (\Deleted))"]
    );
    assert_eq!(
        client.ok(r"UID STORE 3,99 FLAGS \Flagged").await,
        [r"* 3 FETCH (UID 3 FLAGS (\Flagged))"]
    );
    assert_eq!(client.ok(r"STORE 3 -FLAGS.SILENT (\Flagged)").await, [""; 0]);
    assert_eq!(client.ok("FETCH 3 FLAGS").await, ["* 3 FETCH (FLAGS ())"]);
    let all: Vec<_> = (1..=samples::all().len()).map(|n| n.to_string()).collect();
    let last = all.last().unwrap();
    for (keys, expected) in [
        ("ALL", all.join(" ")),
        ("DELETED", "2".to_owned()),
        (
            "UNDELETED",
            all.iter().filter(|n| *n != "2").cloned().collect::<Vec<_>>().join(" "),
        ),
        ("UID 2:4 UNDELETED", "3 4".to_owned()),
        ("UID *:*", last.clone()),
        ("*", last.clone()),
        ("UID 500:*", last.clone()),
        ("LARGER 5000000", last.clone()),
        ("CHARSET UTF-8 1,5 UNSEEN NOT 5", "1".to_owned()),
        ("NEW", String::new()),
    ] {
        for command in ["SEARCH", "UID SEARCH"] {
            let found = client.ok(&format!("{command} {keys}")).await;
            assert_eq!(found, [format!("* SEARCH {expected}").trim_end()], "{command} {keys}");
        }
    }
}

#[tokio::test]
async fn expunges_are_told_when_numbers_may_change() {
    let server = Server::start().await.unwrap();
    let (mut one, mut other) = (Client::inbox(&server).await, Client::inbox(&server).await);
    one.ok(r"UID STORE 2,4:5 +FLAGS.SILENT (\Deleted)").await;
    assert_eq!(one.ok("UID EXPUNGE 1:3,5").await, ["* 2 EXPUNGE", "* 4 EXPUNGE"]);
    assert_eq!(
        one.ok("FETCH 2:3 UID").await,
        ["* 2 FETCH (UID 3)", "* 3 FETCH (UID 4)"]
    );

    // The other session keeps its numbers, can still read removed messages, and is told of the flags.
    assert_eq!(
        other.ok("FETCH 5 RFC822.SIZE").await[1..],
        [r"* 4 FETCH (UID 4 FLAGS (\Deleted))".to_owned()]
    );
    assert!(other.say(r"STORE 5 +FLAGS (\Seen)").await[0].starts_with("= NO [EXPUNGEISSUED] "));
    assert_eq!(other.ok("NOOP").await, ["* 2 EXPUNGE", "* 4 EXPUNGE"]);
    assert_eq!(other.ok("EXPUNGE").await, ["* 3 EXPUNGE"]);
    assert_eq!(one.ok("NOOP").await, ["* 3 EXPUNGE"]);
    assert_eq!(one.ok("NOOP").await, [""; 0]);
    assert_eq!(
        one.ok("UID FETCH 1:6 UID").await,
        ["* 1 FETCH (UID 1)", "* 2 FETCH (UID 3)", "* 3 FETCH (UID 6)"]
    );
}

#[tokio::test]
async fn close_expunges_and_says_nothing() {
    let server = Server::start().await.unwrap();
    let mut client = Client::inbox(&server).await;
    client.ok(r"STORE 1 +FLAGS.SILENT (\Deleted)").await;
    client.ok("UNSELECT").await;
    let count = samples::all().len();
    assert_eq!(
        client.ok("STATUS INBOX (MESSAGES)").await,
        [format!("* STATUS INBOX (MESSAGES {count})")]
    );
    client.ok("SELECT INBOX").await;
    assert_eq!(client.ok("CLOSE").await, [""; 0]);
    let left = count - 1;
    assert_eq!(
        client.ok("STATUS INBOX (MESSAGES)").await,
        [format!("* STATUS INBOX (MESSAGES {left})")]
    );
}

#[tokio::test]
async fn mail_moves_to_trash_and_back() {
    let server = Server::start().await.unwrap();
    let mut client = Client::inbox(&server).await;
    let mut other = Client::login(&server).await;
    let select = other.ok("SELECT Trash").await;
    assert!(select.contains(&"* 0 EXISTS".to_owned()));
    assert!(
        other.end("FETCH * UID").await.starts_with("= BAD "),
        "there is no last message"
    );
    assert_eq!(other.ok("UID FETCH 1:* UID").await, [""; 0]);

    let moved = client.ok("UID MOVE 6,2:3 Trash").await;
    assert!(
        moved[0].starts_with("* OK [COPYUID ") && moved[0].contains(" 2:3,6 1:3] "),
        "{moved:?}"
    );
    assert_eq!(moved[1..], ["* 2 EXPUNGE", "* 2 EXPUNGE", "* 4 EXPUNGE"]);
    assert_eq!(other.ok("NOOP").await, ["* 3 EXISTS"]);
    let answer = other.raw("FETCH 3 BODY.PEEK[]").await;
    assert!(literal(&answer[0]) == samples::all()[5].octets);

    let copied = client.end("UID COPY 1 Trash").await;
    assert!(
        copied.starts_with("= OK [COPYUID ") && copied.contains(" 1 4] "),
        "{copied}"
    );
    assert!(client.end("UID COPY 2 Trash").await.starts_with("= OK no such message"));
    assert!(client.end("COPY 1 Nowhere").await.starts_with("= NO [TRYCREATE] "));
    let back = other.ok("MOVE 1 INBOX").await;
    assert!(
        back[0].starts_with("* OK [COPYUID ") && back[0].contains(" 1 14] "),
        "{back:?}"
    );
    assert_eq!(back[1..], ["* 1 EXPUNGE", "* 3 EXISTS"]);
}

#[tokio::test]
async fn refusals_leave_the_conversation_whole() {
    let server = Server::start().await.unwrap();
    let mut client = Client::inbox(&server).await;
    for (command, expected) in [
        ("FROBNICATE", "= BAD "),
        ("", "= BAD "),
        ("FETCH 99 UID", "= BAD "),
        ("STORE 1:99 FLAGS ()", "= BAD "),
        ("SEARCH 99", "= BAD "),
        ("FETCH 1 ENVELOPE", "= NO "),
        ("SEARCH SUBJECT dots", "= NO "),
        ("CREATE Mine", "= NO "),
        ("APPEND INBOX {3+}\r\nabc", "= NO "),
        ("STATUS Nowhere (MESSAGES)", "= NO "),
    ] {
        let end = client.end(command).await;
        assert!(end.starts_with(expected), "{command}: {end}");
    }
    client.send("\r\n").await;
    assert!(client.line().await.starts_with("* BAD "));
    assert_eq!(client.ok("FETCH 1 UID").await, ["* 1 FETCH (UID 1)"]);
}

#[tokio::test]
async fn too_large() {
    let server = Server::start().await.unwrap();
    let mut client = Client::login(&server).await;
    assert!(client.end("APPEND INBOX {70000}").await.starts_with("= NO [TOOBIG] "));
    client.ok("NOOP").await;
    for input in [
        vec![b'x'; 70_000],
        b"a APPEND INBOX {99999999999999999999999+}\r\n".to_vec(),
    ] {
        let mut client = Client::login(&server).await;
        client.send(input).await;
        assert!(client.line().await.starts_with("* BYE [TOOBIG] "));
        client.closed().await;
    }
}

#[tokio::test]
async fn many_commands_at_once_are_answered_in_order() {
    let server = Server::start().await.unwrap();
    let mut client = Client::inbox(&server).await;
    let mut commands = String::new();
    for tag in 0..200 {
        commands += &match tag % 4 {
            0 => format!("p{tag} NOOP\r\n"),
            1 => format!("p{tag} UID FETCH 1 (UID RFC822.SIZE)\r\n"),
            2 => format!("p{tag} STATUS {{5+}}\r\nTrash (MESSAGES)\r\n"),
            _ => format!("p{tag} NONSENSE\r\n"),
        };
    }
    client.send(commands).await;
    for tag in 0..200 {
        let untagged = match tag % 4 {
            1 => Some("* 1 FETCH (UID 1 "),
            2 => Some("* STATUS Trash "),
            _ => None,
        };
        if let Some(start) = untagged {
            assert!(client.line().await.starts_with(start), "p{tag}");
        }
        let word = if tag % 4 == 3 { "BAD" } else { "OK" };
        let end = client.line().await;
        assert!(end.starts_with(&format!("p{tag} {word} ")), "{end}");
    }
}

#[tokio::test]
async fn octets_may_come_one_at_a_time() {
    let server = Server::start().await.unwrap();
    let mut client = Client::connect(&server).await;
    client.socket.get_ref().set_nodelay(true).unwrap();
    for octet in b"a LOGIN {4+}\r\ndemo \"demo\"\r\nb EXAMINE INBOX\r\n" {
        client.send([*octet]).await;
        tokio::task::yield_now().await;
    }
    assert!(client.line().await.starts_with("a OK "));
    while !client.line().await.starts_with("b OK ") {}
}

#[tokio::test]
async fn a_new_start_has_fresh_mail_and_a_dropped_server_is_gone() {
    let server = Server::start().await.unwrap();
    let mut client = Client::inbox(&server).await;
    client.ok(r"STORE 1:* +FLAGS.SILENT (\Deleted)").await;
    client.ok("EXPUNGE").await;
    let address = server.address();
    drop(server);
    client.closed().await;
    assert!(TcpStream::connect(address).await.is_err());

    let server = Server::start().await.unwrap();
    let mut client = Client::inbox(&server).await;
    assert_eq!(
        client.ok("SEARCH ALL").await[0].split(' ').count(),
        2 + samples::all().len()
    );
}
