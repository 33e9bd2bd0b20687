//! The reader alone: octets in, events out.

use proptest::prelude::*;

use super::*;
use crate::imap::response::StatusKind;

/// A reader with commands in flight, and what it reads from.
struct Scene {
    reader: Reader,
    frame: Frame,
}

impl Scene {
    fn new(tags: &[&str], exists: u32, expect: Expect) -> Self {
        let mut reader = Reader::default();
        reader.news().exists = exists;
        for (id, tag) in (1..).zip(tags) {
            reader.expect_completion(CommandId(id), (*tag).to_owned());
        }
        reader.expect(expect);
        Self {
            reader,
            frame: Frame::default(),
        }
    }

    /// The events that `octets` yield, as text. Contents are read to their end.
    fn hear(&mut self, octets: &[u8]) -> Result<Vec<String>, Error> {
        self.frame.space().extend_from_slice(octets);
        let mut heard = Vec::new();
        while let Some(event) = self.reader.next(&mut self.frame)? {
            heard.push(match event {
                Event::Continue(text) => format!("+ {}", text.escape_ascii()),
                Event::Status(status) => format!("status {status}"),
                Event::Tagged(CommandId(id), completion) => format!("{id} {completion}"),
                Event::Content { uid, section, octets } => {
                    let mut content = Vec::new();
                    loop {
                        let here = self.reader.content(&self.frame).len();
                        if here == 0 {
                            break;
                        }
                        content.extend_from_slice(self.reader.take(&self.frame, here));
                        self.reader.needs_content(&mut self.frame);
                    }
                    let uid = uid.map_or("?".to_owned(), |uid| uid.to_string());
                    let octets = octets.map_or("NIL".to_owned(), |octets| octets.to_string());
                    format!("{section:?} of {uid}, {octets}: {}", content.escape_ascii())
                }
                Event::Fetch(fetch) => {
                    let uid = fetch.uid.map_or("?".to_owned(), |uid| uid.to_string());
                    format!("row {uid} {:?}", fetch.size)
                }
                Event::Found(low, high) => format!("found {low}:{high}"),
                Event::Data(data) => format!("data {}", data.escape_ascii()),
            });
        }
        Ok(heard)
    }
}

fn content() -> Expect {
    Expect {
        content: true,
        ..Expect::default()
    }
}

fn data(name: &'static str) -> Expect {
    Expect {
        data: Some(name),
        ..Expect::default()
    }
}

/// The events that `octets` yield. Asserts that the same events come if the octets are received one at a time.
fn heard(tags: &[&str], exists: u32, expect: Expect, octets: &[u8]) -> Vec<String> {
    let whole = Scene::new(tags, exists, expect).hear(octets).unwrap();
    let mut single = Scene::new(tags, exists, expect);
    let mut events: Vec<String> = Vec::new();
    for octet in octets {
        events.extend(single.hear(&[*octet]).unwrap());
    }
    // Contents come in pieces in that case, so they are not compared.
    let without_contents = |events: &[String]| -> Vec<String> {
        let contents = [" of 1, ", " of ?, "];
        let events = events.iter();
        events
            .filter(|event| !contents.iter().any(|content| event.contains(content)))
            .cloned()
            .collect()
    };
    assert_eq!(
        without_contents(&events),
        without_contents(&whole),
        "{}",
        octets.escape_ascii()
    );
    whole
}

#[test]
fn completions_in_any_order() {
    let octets =
        b"c OK third\r\n* 1 FETCH (UID 1 RFC822.SIZE 9)\r\na OK first\r\nx OK whose?\r\nb NO [LIMIT] second\r\n";
    assert_eq!(
        heard(&["a", "b", "c"], 1, Expect::default(), octets),
        ["3 OK third", "row 1 Some(9)", "1 OK first", "2 NO [LIMIT] second"]
    );
}

#[test]
fn what_one_row_spoils_is_that_row() {
    let rows = [
        "* 1 FETCH (UID 0 RFC822.SIZE 9)",
        "* 1 FETCH (UID x)",
        "* 1 FETCH garbage",
        "* 1 FETCH (UID",
        "* 1 FETCH (BODY[] x UID 1)",
        "* 1 FETCH (UID x BODY[] {5}\r\n12345 MORE {3}\r\n\r\n))",
    ];
    for row in rows {
        let octets = format!("{row}\r\n* 2 FETCH (UID 2 RFC822.SIZE 9)\r\na OK\r\n");
        let mut scene = Scene::new(&["a"], 2, Expect::default());
        assert_eq!(
            scene.hear(octets.as_bytes()).unwrap(),
            ["row 2 Some(9)", "1 OK "],
            "{row}"
        );
        assert_eq!(scene.reader.take_spoiled(), 1, "{row}");
    }
}

#[test]
fn contents_stream_with_whatever_is_around_them() {
    let octets = b"* 2 EXISTS\r\n* 1 FETCH (FLAGS (\\Seen) UID 1 BODY[] {6}\r\nA: 1\r\n MODSEQ (7))\r\n\
        * 2 FETCH (BODY[HEADER]{3}\r\n)\r\n BODY[TEXT] \"q\\\"\" UID 2)\r\n* 3 FETCH (UID 3 BODY[] NIL)\r\na OK\r\n";
    assert_eq!(
        heard(&["a"], 3, content(), octets),
        [
            "Whole of 1, 6: A: 1\\r\\n",
            "row 1 None",
            "Header of ?, 3: )\\r\\n",
            "Text of ?, 2: q\\\"",
            "row 2 None",
            "Whole of 3, NIL: ",
            "row 3 None",
            "1 OK "
        ]
    );
}

#[test]
fn empty_lines_behind_a_literal() {
    for blank in ["", "\r\n", "\r\n\r\n", " \r\n", "\n"] {
        let octets = format!("* 1 FETCH (UID 1 BODY[] {{3}}\r\nabc{blank})\r\na OK\r\n");
        assert_eq!(
            heard(&["a"], 1, content(), octets.as_bytes()),
            ["Whole of 1, 3: abc", "row 1 None", "1 OK "],
            "{octets:?}"
        );
    }
}

#[test]
fn contents_that_nobody_asked_for_are_dropped() {
    let octets = b"* 1 FETCH (BODY[] {6}\r\n* OK x UID 1 RFC822.SIZE 9)\r\n* 2 FETCH (BODY[] \"(\" UID 2)\r\na OK\r\n";
    assert_eq!(
        heard(&["a"], 2, Expect::default(), octets),
        ["row 1 Some(9)", "row 2 None", "1 OK "]
    );
    let endless = format!("* 1 FETCH (BODY[] {{{}}}\r\n", 1u64 << 40);
    assert!(
        Scene::new(&["a"], 2, Expect::default())
            .hear(endless.as_bytes())
            .is_err()
    );
}

#[test]
fn a_response_that_breaks_off_behind_a_content_is_an_error() {
    let mut scene = Scene::new(&["a"], 2, content());
    assert!(scene.hear(b"* 1 FETCH (UID 1 BODY[] {3}\r\nabc garbage\r\n").is_err());
}

#[test]
fn a_literal_that_ends_early() {
    for (text, is_early) in [
        ("* 1 FETCH (UID 1 BODY[] {99}\r\nabc)\r\na OK done\r\n", true),
        ("* 1 FETCH (UID 1 BODY[] {99}\r\n)\r\na NO [SERVERBUG] sorry\r\n", true),
        (
            "* 1 FETCH (UID 1 BODY[] {99}\r\nabc)\r\na OK done\r\n* 3 EXISTS\r\n",
            true,
        ),
        ("* 1 FETCH (UID 1 BODY[] {99}\r\nabc)\r\nz OK done\r\n", false),
        ("* 1 FETCH (UID 1 BODY[] {99}\r\nabc)\r\na OK do", false),
        ("* 1 FETCH (UID 1 BODY[] {99}\r\nabc", false),
        ("* 1 FETCH (UID 1 BODY[] {4}\r\nabc\n", false),
    ] {
        let mut scene = Scene::new(&["a"], 1, content());
        scene.hear(text.as_bytes()).unwrap();
        assert_eq!(scene.reader.has_ended_early(&scene.frame), is_early, "{text:?}");
        // The same if nothing of the content was taken yet.
        let mut scene = Scene::new(&["a"], 1, content());
        scene.frame.space().extend_from_slice(text.as_bytes());
        scene.reader.next(&mut scene.frame).unwrap();
        assert_eq!(scene.reader.has_ended_early(&scene.frame), is_early, "{text:?}");
    }
}

#[test]
fn what_is_found_in_all_shapes() {
    for (response, expected) in [
        ("* SEARCH 2 5 9", vec!["found 2:2", "found 5:5", "found 9:9"]),
        ("* search  2   5 ", vec!["found 2:2", "found 5:5"]),
        ("*  SEARCH 2", vec!["found 2:2"]),
        ("* SEARCH 2 5 (MODSEQ 917162500)", vec!["found 2:2", "found 5:5"]),
        ("* SEARCH 2 x 5", vec!["found 2:2"]),
        (
            "* SEARCH 0 99999999999999999999999999999999999999999999999999999999999999999999999",
            vec![],
        ),
        ("* SEARCH", vec![]),
        ("* SEARCH ", vec![]),
        (
            "* ESEARCH (TAG \"a\") UID ALL 2,10:11,9:7",
            vec!["found 2:2", "found 10:11", "found 7:9"],
        ),
        ("* ESEARCH (TAG \"a\") UID COUNT 3 ALL 1:3 MODSEQ 7", vec!["found 1:3"]),
        ("* ESEARCH UID all 7", vec!["found 7:7"]),
        ("* ESEARCH (TAG \"a\") UID", vec![]),
        ("* ESEARCH (TAG \"a\") UID COUNT 0", vec![]),
        ("* ESEARCH", vec![]),
    ] {
        let octets = format!("{response}\r\na OK\r\n");
        let mut expected = expected;
        expected.push("1 OK ");
        assert_eq!(
            heard(&["a"], 9, Expect::default(), octets.as_bytes()),
            expected,
            "{response}"
        );
        let mut scene = Scene::new(&["a"], 9, Expect::default());
        scene.hear(octets.as_bytes()).unwrap();
        let is_odd = response.contains('x') || response.contains("999");
        assert_eq!(scene.reader.news().searched, !is_odd, "{response}");
    }
}

/// A set of which a part is missing must not pass for the whole.
#[test]
fn a_set_that_is_not_understood_is_no_answer() {
    for (set, is_answer) in [
        ("2", true),
        ("2,5:9", true),
        ("2, 5", true),
        ("2,5 MODSEQ 9", true),
        ("2 5", true),
        ("", false),
        ("2,", false),
        ("two", false),
        ("2,x", false),
        ("2,1:*", false),
        ("2 5x", false),
        ("2,5;9", false),
        ("99999999999,2", false),
    ] {
        let octets = format!("* ESEARCH (TAG \"a\") UID ALL {set}\r\na OK\r\n");
        for size in [1, octets.len()] {
            let mut scene = Scene::new(&["a"], 9, Expect::default());
            for piece in octets.as_bytes().chunks(size) {
                scene.hear(piece).unwrap();
            }
            assert_eq!(scene.reader.news().searched, is_answer, "{set}");
        }
    }
}

/// A server may repeat the command that it refuses.
#[test]
fn a_trace_of_a_login_shows_no_text() {
    for (line, expected) in [
        (
            "S1 NO [AUTHENTICATIONFAILED] eva geheim",
            "S1 NO [AUTHENTICATIONFAILED] <10 octets>",
        ),
        ("S1 BAD LOGIN eva geheim", "S1 BAD <16 octets>"),
        ("S1 NO [ALERT geheim] no", "S1 NO [ALERT] <2 octets>"),
        ("* BYE AGV2YQBnZWhlaW0=", "* BYE <16 octets>"),
        ("S1 LOGIN eva geheim", "<19 octets>"),
        ("* LOGIN eva geheim", "<18 octets>"),
        ("geheim", "<6 octets>"),
        ("+ R2VoZWlt", "+ <8 octets>"),
        ("* CAPABILITY IMAP4rev1 UIDPLUS", "* CAPABILITY IMAP4rev1 UIDPLUS"),
        ("S1 OK [CAPABILITY UIDPLUS] in", "S1 OK [CAPABILITY UIDPLUS] <2 octets>"),
    ] {
        assert_eq!(traced(line.as_bytes(), true), expected);
    }
    assert_eq!(traced(b"P1 NO no such folder", false), "P1 NO no such folder");
    assert_eq!(traced(b"+ R2VoZWlt", false), "+ <8 octets>");
}

#[test]
fn responses_that_are_collected_come_whole() {
    let octets = b"* LIST () \"/\" a\r\n* STATUS x ()\r\n* list () \".\" {3}\r\n{9} (X {2}\r\n\r\n)\r\na OK\r\n";
    assert_eq!(
        heard(&["a"], 0, data("LIST"), octets),
        [
            "data LIST () \\\"/\\\" a",
            "data list () \\\".\\\" {3}\\r\\n{9} (X {2}\\r\\n\\r\\n)",
            "1 OK "
        ]
    );
    let mut scene = Scene::new(&["a"], 0, data("LIST"));
    assert!(scene.hear(b"* LIST () \"/\" {99999999}\r\n").is_err());
}

#[test]
fn news_and_continuations() {
    let mut scene = Scene::new(&["a"], 0, Expect::default());
    let heard = scene.hear(b"* 7 EXISTS\r\n+ go on\r\n+\r\n* OK [UIDVALIDITY 9] x {5}\r\n* X {2}\r\nab y\r\na OK\r\n");
    assert_eq!(heard.unwrap(), ["+ go on", "+ ", "1 OK "]);
    let news = scene.reader.news();
    assert_eq!((news.exists, news.uid_validity.map(|is| is.number())), (7, Some(9)));
}

#[test]
fn bye_is_an_error_unless_more_may_follow() {
    let octets = b"* BYE see you\r\na OK\r\n";
    let mut scene = Scene::new(&["a"], 0, Expect::default());
    assert!(matches!(scene.hear(octets), Err(Error::Bye(text)) if text == "see you"));
    let after_bye = Expect {
        after_bye: true,
        status: true,
        ..Expect::default()
    };
    assert_eq!(heard(&["a"], 0, after_bye, octets), ["status BYE see you", "1 OK "]);
}

#[test]
fn a_server_of_another_protocol_is_known_by_its_greeting() {
    let greeting = Expect {
        status: true,
        ..Expect::default()
    };
    for octets in [
        "+OK POP3 ready\r\n",
        "220 smtp ready\r\n",
        "HTTP/1.1 400 Bad Request\r\n",
        "\x16\x03\x01\r\n",
    ] {
        assert!(
            Scene::new(&[], 0, greeting).hear(octets.as_bytes()).is_err(),
            "{octets}"
        );
    }
    assert_eq!(
        heard(&[], 0, greeting, b"* PREAUTH hello\r\n"),
        ["status PREAUTH hello"]
    );
    assert_eq!(
        Status::parse(b"PREAUTH x").map(|status| status.kind),
        Some(StatusKind::PreAuth)
    );
}

/// Whatever a server repeats, the reader soon gives up.
#[test]
fn nothing_goes_on_without_end() {
    let endless = [
        ("* SEARCH ", "1 "),
        ("* ESEARCH (TAG \"a\") UID ALL ", "1,"),
        ("* ESEARCH ", "COUNT 1 "),
        ("* VANISHED ", "1,3,"),
        ("", "* VANISHED 1,3,5\r\n"),
        ("", "* VANISHED (EARLIER) 1,3,5\r\n"),
        ("", "* 1 FETCH (UID 1 RFC822.SIZE 1 EMAILID (M1))\r\n"),
        ("", "* 1 FETCH (UID 0)\r\n"),
        ("", "* OK still here\r\n"),
        ("", "* 1 EXPUNGE\r\n"),
        ("", "+ go on\r\n"),
        ("", "z OK whose?\r\n"),
        ("", "\r\n"),
        ("", "* LIST () \"/\" x\r\n"),
        ("* 1 FETCH (UID 1 BODY[] {1}\r\nx", "\r\n"),
        ("* 1 FETCH (UID 1 ", "BODY[9] {1}\r\nx "),
        ("* 1 FETCH (UID 1 ", "BODY[] {1}\r\nx "),
    ];
    for (start, again) in endless {
        let mut scene = Scene::new(&["a"], 100, content());
        let mut result = scene.hear(start.as_bytes());
        let again = again.repeat(1000);
        let mut octets = 0;
        while result.is_ok() && octets < 16_000_000 {
            octets += again.len();
            result = scene.hear(again.as_bytes());
        }
        assert!(result.is_err(), "{start}{}", &again[..20.min(again.len())]);
        assert!(
            octets < 2_000_000,
            "{octets} octets of {start}{}",
            &again[..20.min(again.len())]
        );
    }
}

#[test]
fn a_mailbox_may_be_named_as_often_as_it_has_messages() {
    let mut scene = Scene::new(&["a", "b"], 0, Expect::default());
    scene.hear(b"* 100000 EXISTS\r\n").unwrap();
    for number in 1..=100_000 {
        let row = format!("* {number} FETCH (UID {number} RFC822.SIZE 1)\r\n");
        scene.hear(row.as_bytes()).unwrap();
    }
    let found: String = (1..=100_000).map(|uid| format!(" {uid}")).collect();
    scene
        .hear(format!("* SEARCH{found}\r\na OK\r\nb OK\r\n").as_bytes())
        .unwrap();
    assert!(!scene.reader.is_waiting());
}

/// Pieces of what servers say.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "* ",
        "1 ",
        "FETCH ",
        "(",
        ")",
        "UID ",
        "7",
        "0",
        "BODY[] ",
        "BODY[TEXT]<0> ",
        "{3}\r\n",
        "{0}\r\n",
        "{3+}\r\n",
        "{99999}\r\n",
        "abc",
        "\"q\\\"\"",
        "\"",
        "\\",
        "NIL ",
        "RFC822.SIZE ",
        "FLAGS ",
        "\\Deleted ",
        "\r\n",
        "\n",
        "\r",
        "SEARCH ",
        "ESEARCH ",
        "ALL ",
        "1:3,5 ",
        "VANISHED ",
        "(EARLIER) ",
        "LIST ",
        "OK ",
        "NO ",
        "BAD ",
        "BYE ",
        "a ",
        "b ",
        "[UIDVALIDITY 7] ",
        "[",
        "]",
        "+ ",
        "EXISTS\r\n",
        "EXPUNGE\r\n",
        "4294967296 ",
        "EMAILID (M1) ",
        "~{2}\r\n",
        "BODYSTRUCTURE ",
        " ",
        ",",
        ":",
        "-1 ",
        "\0",
        "\u{fffd}",
    ]);
    prop::collection::vec(words, 0..40).prop_map(|words| words.concat().into_bytes())
}

/// Plays `octets` as a server that sends them cut at `cuts`. Returns the events until the end or an error, and whether
/// there was no error.
fn play(octets: &[u8], cuts: &[usize], expect: Expect) -> (Vec<String>, bool) {
    let mut scene = Scene::new(&["a", "b"], 3, expect);
    let mut events = Vec::new();
    let mut rest = octets;
    for cut in cuts.iter().copied().chain([octets.len()]) {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        rest = after;
        match scene.hear(piece) {
            Ok(heard) => events.extend(heard),
            Err(_) => return (events, false),
        }
    }
    assert!(scene.reader.left() == 0 || scene.frame.octets().is_empty());
    (events, true)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: transcripts(), ..ProptestConfig::default() })]

    /// No transcript makes the reader panic or hold more than it was sent, and it does not matter where a transcript is
    /// cut.
    #[test]
    fn any_transcript_is_survived(
        octets in pieces(),
        cuts in prop::collection::vec(0usize..30, 0..6),
        (is_content, is_list, after_bye) in any::<(bool, bool, bool)>(),
    ) {
        let expect = Expect {
            content: is_content,
            data: is_list.then_some("LIST"),
            after_bye,
            ..Expect::default()
        };
        let (whole, is_whole) = play(&octets, &[], expect);
        let (cut_up, is_cut_up) = play(&octets, &cuts, expect);
        prop_assert_eq!(is_whole, is_cut_up);
        let plain = |events: Vec<String>| -> Vec<String> {
            events.into_iter().filter(|event| !event.contains(" of ")).collect()
        };
        if is_whole {
            prop_assert_eq!(plain(whole), plain(cut_up));
        }
    }
}

/// How many transcripts are tried; `POPGATE_TRANSCRIPTS` asks for more.
fn transcripts() -> u32 {
    std::env::var("POPGATE_TRANSCRIPTS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(2_000)
}
