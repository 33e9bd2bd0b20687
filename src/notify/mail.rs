//! The mail that a device finds in its maildrop while an event is open.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use chrono::DateTime;

use super::{
    book::Record,
    event::{EventKey, day, shown, time},
};

/// A mail that the gateway writes for one login.
#[derive(Debug, Clone)]
pub struct Mail {
    pub(super) key: EventKey,
    pub(super) id: String,
    pub(super) login: String,
    /// When the event began, in seconds since 1970: the date of the mail.
    pub(super) since: u32,
    pub(super) retrieved: Option<u32>,
    text: Arc<[u8]>,
}

impl Mail {
    /// A mail for the device of `login` about a consent that ends at `record.event.ends`; `page` is where people sign
    /// in.
    pub(super) fn of_consent(record: &Record, login: &str, page: Option<&str>) -> Self {
        let id = record.id();
        Self {
            text: text(record, &id, login, page).into(),
            key: record.event.key.clone(),
            id,
            login: login.to_owned(),
            since: record.since,
            retrieved: record.marks(login).retrieved,
        }
    }

    /// The message (RFC 5322), with CRLF line ends. Its octets stay the same while the event is open, unless the page
    /// gets another URL.
    pub fn text(&self) -> &Arc<[u8]> {
        &self.text
    }

    /// The mail's unique-id for UIDL. It contains a hash, so no other message has the same one.
    pub fn uidl(&self) -> String {
        format!("popgate.{}", self.id)
    }

    /// When the mail arrived, in seconds since 1970.
    pub fn arrived(&self) -> u32 {
        self.since
    }

    /// When the login first retrieved the mail, in seconds since 1970.
    pub fn retrieved(&self) -> Option<u32> {
        self.retrieved
    }
}

fn text(record: &Record, id: &str, login: &str, page: Option<&str>) -> Vec<u8> {
    let event = &record.event;
    let person = shown(event.person.as_deref().unwrap_or_default());
    let ends = event.ends.unwrap_or_default();
    let date = DateTime::from_timestamp(record.since.into(), 0).unwrap_or_default();
    let subject = format!("popgate: sign in again for {person} before {}", day(ends));
    let page = page.map_or(String::new(), |page| {
        format!("\r\nor open this page and sign in there:\r\n\r\n    {page}\r\n")
    });
    let login = shown(login);
    format!(
        "From: popgate <notice@popgate.invalid>\r\nDate: {date}\r\n{subject}\r\nMessage-ID: <{id}@popgate.invalid>\r\n\
         Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: 8bit\r\n\r\n\
         popgate, the gateway that fetches this mail, may read the mailbox of\r\n{person}\r\nuntil {ends}. From then on this \
         device gets no mail.\r\n\r\n\
         To go on, somebody must sign in as {person} once more\r\nbefore that. On the computer that popgate runs on, run\r\n\r\n    \
         popgate sign-in {login}\r\n{page}\r\n\
         This notice goes when that has been done, or when you delete it.\r\n",
        date = date.to_rfc2822(),
        subject = field("Subject", &subject),
        ends = time(ends),
    )
    .into_bytes()
}

/// The most octets of a header line, without its CRLF (RFC 5322 §2.1.1).
const LINE: usize = 78;
/// The most octets of text in an encoded word. The first word stands on one line with the field's name, and that line
/// may have 76 octets (RFC 2047 §2).
const WORD: usize = 39;

/// Formats a header field. A value that is not ASCII, or is too long for a line, becomes encoded words.
fn field(name: &str, value: &str) -> String {
    if value.is_ascii() && name.len() + 2 + value.len() <= LINE {
        return format!("{name}: {value}");
    }
    let mut words = Vec::new();
    let mut rest = value;
    while !rest.is_empty() {
        let end = (1..=WORD.min(rest.len())).rev().find(|&end| rest.is_char_boundary(end));
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(format!("=?utf-8?B?{}?=", BASE64.encode(word)));
        rest = after;
    }
    format!("{name}: {}", words.join("\r\n "))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{book::Book, event::Event},
        *,
    };
    use crate::state::Consent;

    fn mail(person: &str, login: &str, page: Option<&str>) -> Mail {
        let consent = Consent {
            upstream: "gmail".into(),
            name: person.into(),
        };
        let mut book = Book::new(Vec::new(), false);
        book.raise(
            Event::consent_ending(&consent, &[login.into()], 1_796_292_000, page),
            1_795_000_000,
        );
        Mail::of_consent(book.consent_of(login).unwrap(), login, page)
    }

    fn lines(mail: &Mail) -> String {
        let text = String::from_utf8(mail.text().to_vec()).unwrap();
        assert!(text.ends_with("\r\n") && text.matches('\n').count() == text.matches("\r\n").count());
        assert!(text.lines().all(|line| line.len() <= 998), "{text}");
        text.replace("\r\n", "\n")
    }

    #[test]
    fn says_what_will_happen_when_and_what_to_do() {
        let mail = mail("office@example.org", "pbx", Some("https://mail.example.org/popgate"));
        insta::assert_snapshot!(lines(&mail));
        assert_eq!(mail.uidl().len(), 40);
        assert!(mail.uidl().bytes().all(|octet| octet.is_ascii_graphic()));
    }

    #[test]
    fn names_that_are_not_ascii_are_encoded_in_the_header() {
        let person = "büro-für-auslandsangelegenheiten@bücher.example";
        let text = lines(&mail(person, "Bürö", None));
        let (header, body) = text.split_once("\n\n").unwrap();
        assert!(
            header.is_ascii() && header.lines().all(|line| line.len() <= LINE),
            "{header}"
        );
        let words = header.split("=?utf-8?B?").skip(1);
        let octets: Vec<u8> = words
            .flat_map(|word| BASE64.decode(word.split_once("?=").unwrap().0).unwrap())
            .collect();
        let subject = String::from_utf8(octets).unwrap();
        assert_eq!(
            subject,
            format!("popgate: sign in again for {person} before 3 December 2026")
        );
        assert!(
            body.contains(person) && body.contains("popgate sign-in Bürö\n"),
            "{body}"
        );
    }

    #[test]
    fn no_name_breaks_the_header() {
        let text = lines(&mail(&format!("a\r\nBcc: x{}", "x".repeat(5000)), "b\r\n.\r\n", None));
        assert!(!text.contains("\nBcc") && !text.contains("\n.\n"), "{text}");
    }
}
