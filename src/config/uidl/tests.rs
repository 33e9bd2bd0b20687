use proptest::prelude::*;

use super::*;

fn template(text: &str) -> UidlFormat {
    UidlFormat::Template(UidlTemplate::parse(text).unwrap())
}

#[test]
fn each_format_with_a_name_is_a_word() {
    let Kind::Words(words) = UidlFormat::KIND else {
        panic!("other values")
    };
    assert_eq!(words, UidlFormat::NAMED.each_ref().map(|(_, name, _)| *name));
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
        ("%u %v", "a UIDL can't contain ' '", "no space"),
        ("%uü", "a UIDL can't contain 'ü'", ""),
        ("%070u.", "may give 71 octets", "70 at most"),
    ] {
        let wrong = UidlTemplate::parse(text).unwrap_err();
        assert!(wrong.what.contains(what), "{text}: {wrong:?}");
        assert!(wrong.help.as_ref().unwrap().contains(help), "{text}: {wrong:?}");
    }
    assert!(UidlTemplate::parse("%060u%u").is_ok());
}

#[test]
fn which_formats_distinguish_uid_validity() {
    for text in ["%v.%u", "%08Xu%08Xv", "%08Xu%v", "%u%08Xv", "%v%010u", "%u-%v-x"] {
        assert!(template(text).distinguishes_validity(), "{text}");
    }
    for text in ["%u", "%v%u", "%v0%u", "%Xu%v", "%v%08Xv%u", "x%u-"] {
        assert!(!template(text).distinguishes_validity(), "{text}");
    }
    assert!(UidlFormat::Courier.distinguishes_validity() && !UidlFormat::Uid.distinguishes_validity());
}

proptest! {
    #[test]
    fn no_text_panics(text in "[%{}uvX0-9 |hexuid()ü]{0,20}") {
        let _ = UidlTemplate::parse(&text);
    }
}
