use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn written(format: &UidlFormat, uid_validity: u64, uid: u32, email_id: Option<&str>) -> String {
    let mut out = b"before ".to_vec();
    format.write(UidValidity::of_server(uid_validity), uid, email_id, &mut out);
    String::from_utf8(out)
        .unwrap()
        .strip_prefix("before ")
        .unwrap()
        .to_owned()
}

fn template(text: &str) -> UidlFormat {
    UidlFormat::Template(UidlTemplate::parse(text).unwrap())
}

#[test]
fn formats_of_other_servers() {
    use UidlFormat::*;
    for (format, expected) in [
        (ValidityUid, "1700000000.42"),
        (Cyrus, "1700000000.42"),
        (Dovecot, "0000002a6553f100"),
        (Courier, "UID42-1700000000"),
        (Uid, "42"),
        (EmailId, "1700000000.42"),
    ] {
        assert_eq!(written(&format, 1_700_000_000, 42, None), expected, "{format}");
    }
}

/// Formats of other servers have room for the 32 bits of RFC 3501 §2.3.1.1.
#[test]
fn a_uid_validity_of_other_than_32_bits() {
    for (uid_validity, own, dovecot) in [
        (0, "0.42", "0000002a00000000"),
        (u64::from(u32::MAX) + 1, "4294967296.42", "0000002a00000001"),
        (u64::MAX >> 1, "9223372036854775807.42", "0000002a80000000"),
    ] {
        assert_eq!(written(&UidlFormat::ValidityUid, uid_validity, 42, None), own);
        assert_eq!(written(&UidlFormat::Dovecot, uid_validity, 42, None), dovecot);
    }
}

#[test]
fn an_email_id_that_is_no_uidl_is_not_used() {
    let id = |id: &str| written(&UidlFormat::EmailId, 7, 9, Some(id));
    assert_eq!(id("M6d99ac3275bb4e"), "M6d99ac3275bb4e");
    assert_eq!(id(&"x".repeat(70)), "x".repeat(70));
    // RFC 8474 §4.3 allows 255.
    assert_eq!(id(&"x".repeat(71)), "7.9");
    assert_eq!((id(""), id("a b")), ("7.9".into(), "7.9".into()));
}

#[test]
fn templates_give_what_dovecot_gives() {
    for (text, expected) in [
        ("%08Xu%08Xv", "0000002a6553f100"),
        ("%{uid | hex(8)}%{uidvalidity | hex(8)}", "0000002a6553f100"),
        ("%v.%u", "1700000000.42"),
        ("%{uidvalidity}.%{uid}", "1700000000.42"),
        ("%u", "42"),
        ("UID%u-%v", "UID42-1700000000"),
        ("%Xu-%{ uid|hex }", "2a-2a"),
        ("%012u", "000000000042"),
        ("%010Xu", "000000002a"),
        ("%8Xu%10v", "2a1700000000"),
        ("%%%u%%", "%42%"),
    ] {
        assert_eq!(written(&template(text), 1_700_000_000, 42, None), expected, "{text}");
    }
}

#[test]
fn wrong_templates_say_what_to_do() {
    for (text, what, help) in [
        ("%v", "does not name %u", "the same UIDL"),
        ("%", "`%` is unknown here", "known are %u"),
        ("%x%u", "`%x` is unknown here", "known are %u"),
        ("%08Xw%u", "`%08Xw` is unknown here", "known are %u"),
        ("%g", "`%g` is unknown here", "see `uidl_import`"),
        ("%{guid}", "`%{guid}` is unknown here", "see `uidl_import`"),
        ("%{uid | upper}", "`%{uid | upper}` is unknown here", "known are %u"),
        ("%{uid | hex | hex}", "is unknown here", ""),
        ("%{uid | hex(a)}", "is unknown here", ""),
        ("%{uid", "`%{` without `}`", "known are %u"),
        ("%4u", "cuts a number to 4 digits", "%04"),
        ("%{uid | hex(4)}", "cuts a number to 4 digits", "hex(8)"),
        ("%071u", "more than 70 digits", ""),
        ("%099999999999999999999u", "more than 70 digits", ""),
        ("%u %v", "' ' may not stand in a UIDL", "no space"),
        ("%uü", "'ü' may not stand in a UIDL", ""),
        ("%070u.", "may give 71 octets", "70 at most"),
    ] {
        let wrong = UidlTemplate::parse(text).unwrap_err();
        assert!(wrong.what.contains(what), "{text}: {wrong:?}");
        assert!(wrong.help.as_ref().unwrap().contains(help), "{text}: {wrong:?}");
    }
    assert!(UidlTemplate::parse("%060u%u").is_ok());
}

#[test]
fn which_formats_tell_uid_validity() {
    for text in ["%v.%u", "%08Xu%08Xv", "%08Xu%v", "%u%08Xv", "%v%010u", "%u-%v-x"] {
        assert!(template(text).tells_validity(), "{text}");
    }
    for text in ["%u", "%v%u", "%v0%u", "%Xu%v", "%v%08Xv%u", "x%u-"] {
        assert!(!template(text).tells_validity(), "{text}");
    }
    assert!(UidlFormat::Courier.tells_validity() && !UidlFormat::Uid.tells_validity());
}

/// Any template of a few pieces that is right.
fn templates() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("%u".to_owned()),
        Just("%v".to_owned()),
        Just("%Xu".to_owned()),
        Just("%08Xv".to_owned()),
        Just("%%".to_owned()),
        (0usize..30).prop_map(|width| format!("%0{width}u")),
        "[!-$&-~]{0,3}",
    ];
    proptest::collection::vec(piece, 1..6)
        .prop_map(|pieces| pieces.concat())
        .prop_filter("right", |text| UidlTemplate::parse(text).is_ok())
}

proptest! {
    #[test]
    fn every_template_gives_uidls(text in templates(), uid_validity in any::<u64>(), uid in any::<u32>()) {
        let format = template(&text);
        let uidl = written(&format, uid_validity, uid, None);
        prop_assert!(is_uidl(&uidl), "{uidl:?}");
        let again = template(&format.to_string());
        prop_assert_eq!(&again, &format, "printed as {}", format);
    }

    #[test]
    fn what_tells_validity_is_never_given_twice(
        text in templates(),
        numbers in proptest::collection::hash_set((0u64..40, 0u32..40), 50),
    ) {
        let format = template(&text);
        let mut given = HashMap::new();
        for (uid_validity, uid) in numbers {
            let uidl = written(&format, uid_validity, uid, None);
            if let Some((validity_before, uid_before)) = given.insert(uidl, (uid_validity, uid)) {
                prop_assert!(!format.tells_validity(), "{}", text);
                prop_assert!(uid_before != uid || validity_before != uid_validity);
            }
        }
    }

    #[test]
    fn no_text_panics(text in "[%{}uvX0-9 |hexuid()ü]{0,20}") {
        let _ = UidlTemplate::parse(&text);
    }
}
