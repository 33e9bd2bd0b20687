//! `uidl`: the formats of unique-ids, popgate's own and those of other servers. If a message gets a new UIDL, a device
//! downloads it again, so a device that comes from another server should find that server's format here. `maildrop`
//! writes the UIDL of a message.

use std::fmt;

use super::{
    key::{Kind, Raw, Value, Wrong},
    value,
    words::unknown as unknown_word,
};

/// A unique-id has 1 to 70 characters of 0x21 to 0x7E (RFC 1939 §7).
pub(super) const LONGEST: usize = 70;

/// `uidl`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UidlFormat {
    /// UIDVALIDITY, a dot, UID.
    ValidityUid,
    /// The message's EMAILID (RFC 8474). If the upstream gives none that fits, [`UidlFormat::ValidityUid`] is used.
    EmailId,
    /// The default of Dovecot: `%08Xu%08Xv`.
    Dovecot,
    /// The default of Cyrus since 2.1.4: UIDVALIDITY, a dot, UID.
    Cyrus,
    /// The format of Courier since version 2 of its list: the text `UID`, the UID, a dash, UIDVALIDITY.
    Courier,
    /// The UID alone, as Cyrus had it before 2.1.4.
    Uid,
    /// Any other format.
    Template(UidlTemplate),
}

/// A format in Dovecot's syntax: `%u` UID, `%v` UIDVALIDITY, `%Xu` and `%08Xu` in hexadecimal, `%%`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UidlTemplate(Vec<UidlPiece>);

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UidlPiece {
    /// Text that is copied as it is.
    Text(String),
    /// UID or UIDVALIDITY.
    Number(UidlNumber),
}

/// A number in a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UidlNumber {
    /// Which number of the message is written.
    pub source: UidlSource,
    /// Whether the number is written in hexadecimal.
    pub hex: bool,
    /// The least number of digits. A shorter number gets leading zeros.
    pub width: usize,
}

/// Which number of a message a template names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UidlSource {
    /// `%u`
    Uid,
    /// `%v`
    Validity,
}

impl UidlFormat {
    /// Whether no message gets a UIDL that another message had before UIDVALIDITY changed.
    pub fn distinguishes_validity(&self) -> bool {
        match self {
            Self::Uid => false,
            Self::Template(template) => template.distinguishes_validity(),
            _ => true,
        }
    }
}

impl fmt::Display for UidlFormat {
    /// The word of the configuration, or the template.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, Self::NAMED.iter().find(|(format, ..)| format == self)) {
            (Self::Template(template), _) => template.fmt(f),
            (_, Some((_, name, _))) => f.write_str(name),
            (_, None) => Ok(()),
        }
    }
}

impl UidlFormat {
    /// The formats that have a name, each with its name and aliases.
    const NAMED: [(Self, &str, &[&str]); 6] = [
        (Self::ValidityUid, "validity.uid", &["default", "uidvalidity.uid"]),
        (Self::EmailId, "emailid", &["email-id", "email_id", "objectid"]),
        (Self::Dovecot, "dovecot", &[]),
        (Self::Cyrus, "cyrus", &[]),
        (Self::Courier, "courier", &[]),
        (Self::Uid, "uid", &[]),
    ];
}

impl Value for UidlFormat {
    const KIND: Kind = Kind::Words(&["validity.uid", "emailid", "dovecot", "cyrus", "courier", "uid"]);

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        let text = value::text(raw)?;
        if text.contains('%') {
            return UidlTemplate::parse(text).map(Self::Template);
        }
        match Self::NAMED.iter().find(|(_, name, _)| *name == text) {
            Some((format, ..)) => Ok(format.clone()),
            None => Err(unknown_word(
                text,
                &Self::NAMED.each_ref().map(|(_, name, aliases)| (*name, *aliases)),
            )),
        }
    }
}

impl UidlTemplate {
    /// Parses a template. It must have `%u`, and give UIDLs of at most 70 octets, all of them 0x21 to 0x7E.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            literal(&rest[..at], &mut pieces)?;
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                literal("%", &mut pieces)?;
                rest = after;
            } else {
                let (number, after) = UidlNumber::parse(rest)?;
                pieces.push(UidlPiece::Number(number));
                rest = after;
            }
        }
        literal(rest, &mut pieces)?;
        let template = Self(pieces);
        if !template.numbers().any(|number| number.source == UidlSource::Uid) {
            return Err(wrong(
                "does not name %u",
                "without the UID all messages of a folder would get the same UIDL",
            ));
        }
        let longest = template.longest();
        if longest > LONGEST {
            let what = format!("may give {longest} octets");
            return Err(wrong(
                what,
                "a UIDL may have 70 at most (RFC 1939), even with the largest numbers",
            ));
        }
        Ok(template)
    }

    /// The pieces, in the order in which they make a UIDL.
    pub fn pieces(&self) -> &[UidlPiece] {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }

    fn numbers(&self) -> impl Iterator<Item = &UidlNumber> {
        self.0.iter().filter_map(|piece| match piece {
            UidlPiece::Number(number) => Some(number),
            UidlPiece::Text(_) => None,
        })
    }

    fn longest(&self) -> usize {
        let longest = |piece: &UidlPiece| match piece {
            UidlPiece::Text(text) => text.len(),
            UidlPiece::Number(number) => number.longest(),
        };
        self.0.iter().map(longest).sum()
    }

    /// Whether the template has UIDVALIDITY and shows where each number ends. `%v%u` does not: it is 111 for 1 and 11,
    /// and also for 11 and 1.
    fn distinguishes_validity(&self) -> bool {
        let mut open = false;
        for piece in &self.0 {
            match piece {
                UidlPiece::Text(text) => open &= text.bytes().all(|octet| octet.is_ascii_hexdigit()),
                UidlPiece::Number(number) if number.is_open() && open => return false,
                UidlPiece::Number(number) => open |= number.is_open(),
            }
        }
        self.numbers().any(|number| number.source == UidlSource::Validity)
    }
}

impl fmt::Display for UidlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            match piece {
                UidlPiece::Text(text) => f.write_str(&text.replace('%', "%%"))?,
                UidlPiece::Number(number) => {
                    f.write_str("%")?;
                    if number.width > 0 {
                        write!(f, "0{}", number.width)?;
                    }
                    f.write_str(if number.hex { "X" } else { "" })?;
                    f.write_str(if number.source == UidlSource::Uid { "u" } else { "v" })?;
                }
            }
        }
        Ok(())
    }
}

impl UidlNumber {
    /// Parses what follows a `%`; returns the number and the rest of the text.
    fn parse(text: &str) -> Result<(Self, &str), Wrong> {
        if let Some(long) = text.strip_prefix('{') {
            let (inner, rest) = long.split_once('}').ok_or_else(|| wrong("`%{` without `}`", KNOWN))?;
            return Ok((Self::long(inner)?, rest));
        }
        let after = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = &text[..text.len() - after.len()];
        let (hex, after) = match after.strip_prefix('X') {
            Some(after) => (true, after),
            None => (false, after),
        };
        let mut characters = after.chars();
        let source = match characters.next() {
            Some('u') => UidlSource::Uid,
            Some('v') => UidlSource::Validity,
            other => {
                let word: String = other.into_iter().collect();
                return Err(unknown(&format!("%{digits}{}{word}", if hex { "X" } else { "" })));
            }
        };
        let mut number = Self { source, hex, width: 0 };
        let width = digits
            .parse::<usize>()
            .unwrap_or(if digits.is_empty() { 0 } else { usize::MAX });
        if digits.starts_with('0') {
            number.set_width(width)?;
        } else if !digits.is_empty() && width < number.longest() {
            // In Dovecot, a width without a leading zero cuts the number off.
            let help =
                format!("write %0{digits}…: without the zero, longer numbers are cut off, and UIDLs would be the same");
            return Err(wrong(format!("cuts a number to {width} digits"), help));
        }
        Ok((number, characters.as_str()))
    }

    /// Parses the syntax of Dovecot 2.4: `%{uid | hex(8)}`.
    fn long(text: &str) -> Result<Self, Wrong> {
        let mut words = text.split('|').map(str::trim);
        let source = match words.next() {
            Some("uid") => UidlSource::Uid,
            Some("uidvalidity") => UidlSource::Validity,
            _ => return Err(unknown(&format!("%{{{text}}}"))),
        };
        let mut number = Self {
            source,
            hex: false,
            width: 0,
        };
        for word in words {
            let width = match word.strip_prefix("hex") {
                _ if number.hex => None,
                Some("") => Some(0),
                Some(width) => width
                    .strip_prefix('(')
                    .and_then(|width| width.strip_suffix(')')?.trim().parse().ok()),
                None => None,
            };
            let width = width.ok_or_else(|| unknown(&format!("%{{{text}}}")))?;
            number.hex = true;
            if width > 0 && width < number.longest() {
                let help = "write hex(8): with fewer digits longer numbers are cut off, and UIDLs would be the same";
                return Err(wrong(format!("cuts a number to {width} digits"), help));
            }
            number.set_width(width)?;
        }
        Ok(number)
    }

    fn set_width(&mut self, width: usize) -> Result<(), Wrong> {
        if width > LONGEST {
            return Err(wrong(
                "gives a number more than 70 digits",
                "a UIDL has 70 octets at most (RFC 1939)",
            ));
        }
        self.width = width;
        Ok(())
    }

    /// The number of digits of the largest number.
    fn longest(&self) -> usize {
        self.width.max(if self.hex { 8 } else { 10 })
    }

    /// Whether larger numbers have more digits.
    fn is_open(&self) -> bool {
        self.width < self.longest()
    }
}

const KNOWN: &str =
    "known are %u (UID), %v (UIDVALIDITY), %Xu and %Xv (in hexadecimal), %08Xu (with zeros before it), %%";

fn unknown(word: &str) -> Wrong {
    // Dovecot takes these values (a file name, a hash, a GUID) from its own storage.
    let of_storage = ["%f", "%g", "%m", "%{filename", "%{guid", "%{md5"];
    let help = if of_storage.iter().any(|known| word.starts_with(known)) {
        format!("{KNOWN}; what Dovecot takes from its own files IMAP does not tell: see `uidl_import`")
    } else {
        KNOWN.to_owned()
    };
    wrong(format!("`{word}` is unknown here"), help)
}

fn wrong(what: impl Into<String>, help: impl Into<String>) -> Wrong {
    Wrong::new(what).help(help)
}

fn literal(text: &str, pieces: &mut Vec<UidlPiece>) -> Result<(), Wrong> {
    if let Some(character) = text.chars().find(|character| !character.is_ascii_graphic()) {
        let what = format!("a UIDL can't contain {character:?}");
        return Err(wrong(
            what,
            "write visible ASCII characters only, and no space (RFC 1939)",
        ));
    }
    match pieces.last_mut() {
        Some(UidlPiece::Text(last)) => last.push_str(text),
        _ if text.is_empty() => {}
        _ => pieces.push(UidlPiece::Text(text.to_owned())),
    }
    Ok(())
}

/// Whether `text` may be a UIDL (RFC 1939 §7).
pub fn is_uidl(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_graphic())
}

#[cfg(test)]
mod tests;
