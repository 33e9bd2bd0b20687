//! Digests of header fields, size and INTERNALDATE. They identify a message if its UID cannot: under another
//! UIDVALIDITY, or as a copy in another folder.

use aws_lc_rs::digest::{Context, SHA256};

use super::{bodies::BodyStart, command::UidSet, error::Error, mailbox::Mailbox};
use crate::types::Uid;

/// The digest of one message. Messages with equal digests are the same message, unless somebody has forged one of them.
pub type Digest = [u8; 16];

/// The fields of a fingerprint. A copy keeps them, and it is rare that two messages agree in all of them. COPY
/// preserves INTERNALDATE too (RFC 3501 §6.4.7).
const FINGERPRINT: &str = "MESSAGE-ID DATE FROM TO SUBJECT RECEIVED CONTENT-TYPE";

/// How many octets of one message's fields are held while the message is read: many times what mail has. The rest is
/// dropped, so a message with huge fields cannot fill the memory.
const MAX_FIELDS: usize = 256 * 1024;
/// How many octets of one message's fields are kept, if the fields of many messages are kept at once.
const MAX_KEPT: usize = 4 * 1024;

impl Mailbox {
    /// Digests of Message-ID, size and INTERNALDATE, to recognise messages under another UIDVALIDITY. Messages without
    /// a Message-ID are left out.
    pub async fn identities(&mut self, uids: &[Uid]) -> Result<Vec<(Uid, Digest)>, Error> {
        self.described(uids, "MESSAGE-ID", MAX_FIELDS, |message| {
            let id = message.id()?;
            message.digest(id.as_bytes())
        })
        .await
    }

    /// Digests of several header fields (their first [`MAX_FIELDS`] octets), size and INTERNALDATE, to recognise a
    /// copy.
    pub async fn fingerprints(&mut self, uids: &[Uid]) -> Result<Vec<(Uid, Digest)>, Error> {
        self.described(uids, FINGERPRINT, MAX_FIELDS, |message| message.digest(&message.fields))
            .await
    }

    /// Message-IDs, with their angle brackets; messages without one, or with one longer than [`MAX_KEPT`], are left out.
    pub async fn message_ids(&mut self, uids: &[Uid]) -> Result<Vec<(Uid, Box<str>)>, Error> {
        self.described(uids, "MESSAGE-ID", MAX_KEPT, |message| message.id().map(Box::from))
            .await
    }

    /// The header fields `fields` (such as `FROM SUBJECT`) of messages, as the server sends them, with the empty line;
    /// cut after [`MAX_KEPT`] octets.
    pub async fn headers(&mut self, uids: &[Uid], fields: &str) -> Result<Vec<(Uid, Vec<u8>)>, Error> {
        self.described(uids, fields, MAX_KEPT, |message| Some(message.fields.as_slice().into()))
            .await
    }

    /// Calls `take` for each of `uids` (ascending) once the message's response is complete, and collects the results.
    /// One message is held at a time, up to `limit` octets of its fields.
    async fn described<T>(
        &mut self,
        uids: &[Uid],
        fields: &str,
        limit: usize,
        mut take: impl FnMut(&mut Described) -> Option<T>,
    ) -> Result<Vec<(Uid, T)>, Error> {
        let mut described = Vec::with_capacity(uids.len());
        for set in UidSet::cover(uids) {
            self.fetch_fields(&set, fields).await?;
            let mut message = Described::default();
            loop {
                match self.next().await? {
                    BodyStart::Content { .. } => {
                        message.has_fields = true;
                        while self.ready().await? {
                            let count = self.peek().len();
                            message.add(self.take(count), limit);
                        }
                    }
                    BodyStart::End(uid) => {
                        let attributes = self.attributes();
                        (message.size, message.arrived) = (attributes.size, attributes.arrived);
                        // The response may also be news about the flags of any message.
                        if let Some(uid) = uid.filter(|uid| message.has_fields && uids.binary_search(uid).is_ok())
                            && let Some(value) = take(&mut message)
                        {
                            described.push((uid, value));
                        }
                        (message.has_fields, message.is_cut) = (false, false);
                        message.fields.clear();
                    }
                    BodyStart::Done(_) | BodyStart::Idle => break,
                    BodyStart::Refused(_, error) => return Err(error),
                }
            }
        }
        described.sort_by_key(|&(uid, _)| uid);
        described.dedup_by_key(|&mut (uid, _)| uid);
        Ok(described)
    }
}

/// What the server has sent of one message.
#[derive(Default)]
struct Described {
    /// Whether fields have come.
    has_fields: bool,
    size: Option<u32>,
    arrived: Option<u32>,
    fields: Vec<u8>,
    /// Whether there were more octets of fields than are held.
    is_cut: bool,
}

impl Described {
    fn add(&mut self, octets: &[u8], limit: usize) {
        let room = limit - self.fields.len();
        self.is_cut |= octets.len() > room;
        self.fields.extend_from_slice(&octets[..octets.len().min(room)]);
    }

    /// The Message-ID, if no other field was asked for; `None` if it was cut.
    fn id(&self) -> Option<String> {
        message_id(&self.fields).filter(|_| !self.is_cut)
    }

    /// The digest of size, INTERNALDATE and `more`; `None` if the server did not send size or INTERNALDATE.
    fn digest(&self, more: &[u8]) -> Option<Digest> {
        let mut context = Context::new(&SHA256);
        context.update(&self.size?.to_be_bytes());
        context.update(&self.arrived?.to_be_bytes());
        context.update(more);
        let mut digest = [0; 16];
        digest.copy_from_slice(&context.finish().as_ref()[..16]);
        Some(digest)
    }
}

/// The Message-ID of a header that holds nothing else; `None` if it is empty or not valid UTF-8.
fn message_id(header: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(header).ok()?;
    let (name, value) = text.split_once(':')?;
    // If the field is folded, its value may begin in the next line (RFC 5322 §2.2.3).
    let id: String = value.split_ascii_whitespace().take(1).collect();
    (name.trim().eq_ignore_ascii_case("message-id") && !id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_in_all_shapes() {
        for header in [
            &b"Message-ID: <a@b>\r\n\r\n"[..],
            b"message-id:<a@b>\r\n\r\n",
            b"Message-Id:\r\n <a@b>\r\n\r\n",
            b"Message-ID: <a@b> (added by somebody)\r\n\r\n",
        ] {
            assert_eq!(
                message_id(header).as_deref(),
                Some("<a@b>"),
                "{}",
                header.escape_ascii()
            );
        }
        for header in [
            &b"\r\n"[..],
            b"",
            b"Message-ID:\r\n\r\n",
            b"Subject: x\r\n\r\n",
            b"Message-ID: \xff\r\n",
        ] {
            assert_eq!(message_id(header), None, "{}", header.escape_ascii());
        }
    }

    #[test]
    fn a_digest_needs_size_and_date() {
        let mut message = Described {
            has_fields: true,
            size: Some(10),
            arrived: Some(20),
            ..Described::default()
        };
        let digest = message.digest(b"<a@b>");
        assert!(digest.is_some());
        message.arrived = Some(21);
        assert!(message.digest(b"<a@b>").is_some_and(|other| Some(other) != digest));
        message.size = None;
        assert_eq!(message.digest(b"<a@b>"), None);
    }

    #[test]
    fn fields_beyond_the_limit_are_not_held() {
        let mut message = Described::default();
        message.add(b"Message-ID: <a@b>\r\n\r\n", MAX_FIELDS);
        assert_eq!(message.id().as_deref(), Some("<a@b>"));
        let room = MAX_FIELDS - message.fields.len();
        message.add(&vec![b'x'; room], MAX_FIELDS);
        assert!(message.id().is_some(), "all of it is held");
        message.add(b"y", MAX_FIELDS);
        message.add(&[b'z'; 100], MAX_FIELDS);
        assert_eq!((message.fields.len(), message.fields.last()), (MAX_FIELDS, Some(&b'x')));
        assert_eq!(message.id(), None);
    }
}
