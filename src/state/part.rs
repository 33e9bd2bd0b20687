//! Records as they are kept, in parts: what copies of a whole store are made of.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use tokio::sync::mpsc;

use super::Unavailable;

/// Parts that travel together: about 300 KB of JSON.
pub(super) const PORTION: usize = 64;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Kind {
    /// What is known of a mailbox's messages.
    Index = 0,
    /// What a login has done with the messages of a mailbox.
    Marks = 1,
    /// What the messages of a mailbox are and were.
    Past = 2,
    /// A removal from a mailbox that has not come to its end.
    Move = 3,
    /// Tokens of a consent, sealed.
    Token = 4,
    /// What somebody has been told of.
    Notice = 5,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Index,
        Self::Marks,
        Self::Past,
        Self::Move,
        Self::Token,
        Self::Notice,
    ];

    /// The kind that the file keeps as `number`.
    pub(super) fn numbered(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u8 == number)
    }

    /// Part of what records are sealed under.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Marks => "marks",
            Self::Past => "past",
            Self::Move => "move",
            Self::Token => "token",
            Self::Notice => "notice",
        }
    }
}

/// A part of a record. Parts of one record bear the same names and follow each other; their octets together are the record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What the record is.
    pub kind: Kind,
    /// The upstream's name, as in `[upstream.NAME]`.
    pub upstream: String,
    /// The user of the mailbox there; of a token, who has signed in.
    pub user: String,
    /// The folder; empty if the record is a token.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub folder: String,
    /// The login; empty unless the record is marks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub login: String,
    /// As they are kept: with a checksum, or sealed.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub octets: Vec<u8>,
}

impl Part {
    /// Whether both are parts of one record.
    pub(super) fn is_of_record_of(&self, other: &Self) -> bool {
        fn names(part: &Part) -> (Kind, [&str; 4]) {
            (part.kind, [&part.upstream, &part.user, &part.folder, &part.login])
        }
        names(self) == names(other)
    }
}

fn to_base64<S: Serializer>(octets: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(octets))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    BASE64
        .decode(String::deserialize(deserializer)?)
        .map_err(D::Error::custom)
}

/// Takes portions of parts; an empty one is the end.
pub(super) type PartSender = mpsc::Sender<Result<Vec<Part>, Unavailable>>;

/// All records of one moment, as they come from a store.
#[derive(Debug)]
pub struct Parts(mpsc::Receiver<Result<Vec<Part>, Unavailable>>);

impl Parts {
    /// What is sent to the returned sender. A portion at a time waits to be taken.
    pub(super) fn channel() -> (PartSender, Self) {
        let (sender, portions) = mpsc::channel(1);
        (sender, Self(portions))
    }

    /// The next parts; none after the last.
    pub async fn next(&mut self) -> Result<Vec<Part>, Unavailable> {
        // Whoever sends says when that is all.
        self.0.recv().await.unwrap_or(Err(Unavailable::Failed))
    }
}
