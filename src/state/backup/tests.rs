use proptest::{collection, prelude::*};

use super::*;

fn part(kind: Kind, user: &str, octets: &[u8]) -> Part {
    Part {
        kind,
        upstream: "home".into(),
        user: user.into(),
        folder: "INBOX".into(),
        login: String::new(),
        octets: octets.to_vec(),
    }
}

fn backup(parts: &[Part]) -> Vec<u8> {
    let mut writer = BackupWriter::begin(Vec::new(), 1_700_000_000).unwrap();
    for part in parts {
        writer.add(part.clone()).unwrap();
    }
    writer.end().unwrap().0
}

fn few() -> Vec<u8> {
    backup(&[
        part(Kind::Index, "eva", b"one"),
        part(Kind::Index, "eva", b"two"),
        part(Kind::Past, "eva", b"three"),
    ])
}

#[test]
fn the_format_is_pinned() {
    let text = String::from_utf8(few()).unwrap();
    let by = env!("CARGO_PKG_VERSION");
    let expected = [
        &format!(r#"{{"popgate_backup":1,"made":1700000000,"by":"{by}"}}"#),
        r#"{"kind":"index","upstream":"home","user":"eva","folder":"INBOX","octets":"b25l"}"#,
        r#"{"kind":"index","upstream":"home","user":"eva","folder":"INBOX","octets":"dHdv"}"#,
        r#"{"kind":"past","upstream":"home","user":"eva","folder":"INBOX","octets":"dGhyZWU="}"#,
    ];
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..4], expected);
    let (before, tail) = text.split_at(text.len() - lines[4].len() - 1);
    let digest = aws_lc_rs::digest::digest(&SHA256, before.as_bytes());
    let hexadecimal: String = digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    assert_eq!(tail, format!("{{\"parts\":3,\"sha256\":\"{hexadecimal}\"}}\n"));
}

#[test]
fn parts_of_one_record_are_put_together() {
    let backup = Backup::read(&few()[..]).unwrap();
    assert_eq!(
        (backup.made(), backup.made_by()),
        (1_700_000_000, env!("CARGO_PKG_VERSION"))
    );
    let records: Vec<_> = backup.records().map(|(part, octets)| (part.kind, octets)).collect();
    assert_eq!(
        records,
        [(Kind::Index, b"onetwo".to_vec()), (Kind::Past, b"three".to_vec())]
    );
    let tally = backup.tally();
    assert_eq!(
        (tally.of(Kind::Index), tally.of(Kind::Past), tally.of(Kind::Move)),
        (1, 1, 0)
    );
    assert_eq!(tally.damaged(), 2, "neither bears its checksum");
}

#[test]
fn every_cut_is_noticed() {
    let octets = few();
    for length in 0..octets.len() {
        match Backup::read(&octets[..length]) {
            Err(NoBackup::Foreign) => assert!(length < 60, "cut at {length}"),
            Err(NoBackup::Cut) => {}
            other => panic!("cut at {length}: {other:?}"),
        }
    }
}

#[test]
fn every_changed_octet_is_noticed() {
    let octets = few();
    for at in 0..octets.len() {
        // A flipped bit, another line end, and an octet that may pass for white space.
        for other in [octets[at] ^ 1, octets[at] ^ 0x20, b'\n', b' ', 0] {
            let mut changed = octets.clone();
            changed[at] = other;
            let read = Backup::read(&changed[..]);
            assert!(read.is_err() || changed == octets, "octet {at} is {other}: {read:?}");
        }
    }
}

#[test]
fn lines_that_are_lost_doubled_moved_or_added_are_noticed() {
    let octets = few();
    let lines: Vec<&[u8]> = octets.split_inclusive(|&octet| octet == b'\n').collect();
    for at in 0..lines.len() {
        let without = [&lines[..at], &lines[at + 1..]].concat().concat();
        assert!(Backup::read(&without[..]).is_err(), "line {at} is lost");
        let doubled = [&lines[..=at], &lines[at..]].concat().concat();
        assert!(Backup::read(&doubled[..]).is_err(), "line {at} is there twice");
        let mut moved = lines.clone();
        moved.swap(at, (at + 1) % lines.len());
        assert!(Backup::read(&moved.concat()[..]).is_err(), "line {at} is moved");
    }
    for more in [&b"\n"[..], b"x", b"{}\n"] {
        assert!(Backup::read(&[&octets, more].concat()[..]).is_err());
    }
}

#[test]
fn what_else_a_file_may_be_is_told() {
    for foreign in [
        &b""[..],
        b"\n",
        b"redb\x1a\x0a\xa9\x0d\x0a",
        b"{\"version\":1,\"tokens\":0}\n",
        &[0; 5_000],
    ] {
        assert!(matches!(Backup::read(foreign), Err(NoBackup::Foreign)));
    }
    // An endless line is not read to its end.
    let endless = io::BufReader::new(io::repeat(b'x'));
    assert!(matches!(Backup::read(endless), Err(NoBackup::Foreign)));
    let newer = b"{\"popgate_backup\":2,\"made\":1,\"by\":\"7.0\",\"more\":[]}\nwhatever";
    let said = Backup::read(&newer[..]).unwrap_err().to_string();
    assert_eq!(
        said,
        "has format 2, which this popgate does not know: it was made by popgate 7.0"
    );
}

proptest! {
    #[test]
    fn round_trip(
        parts in collection::vec((0..Kind::ALL.len(), any::<[String; 4]>(), collection::vec(any::<u8>(), 0..50)), 0..20),
    ) {
        let parts: Vec<Part> = parts
            .into_iter()
            .map(|(kind, [upstream, user, folder, login], octets)| Part {
                kind: Kind::ALL[kind], upstream, user, folder, login, octets,
            })
            .collect();
        prop_assert_eq!(Backup::read(&backup(&parts)[..]).unwrap().parts, parts);
    }

    #[test]
    fn any_octets_are_no_backup(octets: Vec<u8>) {
        prop_assert!(Backup::read(&octets[..]).is_err());
        let octets = [&few()[..], &octets].concat();
        prop_assert!(octets == few() || Backup::read(&octets[..]).is_err());
    }
}
