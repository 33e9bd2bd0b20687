//! LIST and LSUB (RFC 3501 §6.3.8), with the special uses of folders (RFC 6154).

use super::{reply::Reply, store::FolderName};

/// Writes the responses, with the name `answer` (LIST or LSUB).
pub(super) fn write(reply: &mut Reply, answer: &str, reference: &[u8], pattern: &[u8]) {
    if pattern.is_empty() {
        // An empty pattern asks for the separator.
        reply.line(format_args!(r#"* {answer} (\Noselect) "/" """#));
        return;
    }
    let pattern = [reference, pattern].concat();
    for folder in FolderName::ALL {
        let (attributes, listed) = match folder {
            FolderName::Inbox => (r"\Noinferiors", matches(&pattern.to_ascii_uppercase(), b"INBOX")),
            FolderName::Trash => (r"\Noinferiors \Trash", matches(&pattern, b"Trash")),
        };
        if listed {
            reply.line(format_args!(r#"* {answer} ({attributes}) "/" {}"#, folder.as_str()));
        }
    }
}

/// Whether `name` matches `pattern`. `*` and `%` both match any run of octets, because there is no hierarchy. The search
/// goes back only to the last wildcard, so that no pattern takes long.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut to) = (0, 0);
    let mut wildcard = None;
    while at < name.len() {
        match pattern.get(to) {
            Some(b'*' | b'%') => {
                wildcard = Some((at, to));
                to += 1;
            }
            Some(octet) if *octet == name[at] => {
                at += 1;
                to += 1;
            }
            _ => {
                let Some((start, star)) = wildcard else {
                    return false;
                };
                wildcard = Some((start + 1, star));
                at = start + 1;
                to = star + 1;
            }
        }
    }
    pattern[to..].iter().all(|octet| matches!(octet, b'*' | b'%'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for pattern in ["Trash", "*", "%", "T*", "*h", "%a*h", "**", "T*rash", "*Trash*"] {
            assert!(matches(pattern.as_bytes(), b"Trash"), "{pattern}");
        }
        for pattern in ["", "trash", "Tras", "Trash/%", "*x*", "T*s", "Trashh", "*a*a*"] {
            assert!(!matches(pattern.as_bytes(), b"Trash"), "{pattern}");
        }
    }
}
