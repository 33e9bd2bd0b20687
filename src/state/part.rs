//! Records as they are stored, in parts. A copy of a whole store consists of parts.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use tokio::sync::mpsc;

use super::Unavailable;

/// How many parts are sent together: about 300 KB of JSON.
pub(super) const PORTION: usize = 64;

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Kind {
    /// The index of a mailbox.
    Index = 0,
    /// What a login has done with the messages of a mailbox.
    Marks = 1,
    /// Identities and earlier names of the messages of a mailbox.
    Past = 2,
    /// A removal from a mailbox that has not been completed.
    Move = 3,
    /// Tokens of a consent, sealed.
    Token = 4,
    /// What `[notify]` remembers of an event that it has told people about.
    Notice = 5,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Index,
        Self::Marks,
        Self::Past,
        Self::Move,
        Self::Token,
        Self::Notice,
    ];

    /// The kind that the file stores as `number`.
    pub(super) fn numbered(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u8 == number)
    }

    /// The name of the kind. It is one of the names that a record is sealed under.
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

/// A part of a record. The parts of one record have the same names and follow each other. Their octets together are the
/// record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The kind of the record.
    pub kind: Kind,
    /// The upstream's name, as in `[upstream.NAME]`; empty if the record is a notice.
    pub upstream: String,
    /// The user of the mailbox there. Of a token: the person who has signed in. Of a notice: its name.
    pub user: String,
    /// The folder; empty if the record is a token or a notice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub folder: String,
    /// The login; empty unless the record is marks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub login: String,
    /// The octets as they are stored: a piece of a record with a checksum, or of a sealed token.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub octets: Vec<u8>,
}

impl Part {
    /// Whether both are parts of the same record.
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

/// The sender of portions of parts. An empty portion is the end.
pub(super) type PartSender = mpsc::Sender<Result<Vec<Part>, Unavailable>>;

/// All records of a store, in portions.
#[derive(Debug)]
pub struct Parts(mpsc::Receiver<Result<Vec<Part>, Unavailable>>);

impl Parts {
    /// A sender, and the parts that are sent by it. One portion at a time waits to be received.
    pub(super) fn channel() -> (PartSender, Self) {
        let (sender, portions) = mpsc::channel(1);
        (sender, Self(portions))
    }

    /// The next portion; empty after the last part.
    pub async fn next(&mut self) -> Result<Vec<Part>, Unavailable> {
        // The sender sends an empty portion at the end. If it is gone without that, it has failed.
        self.0.recv().await.unwrap_or(Err(Unavailable::Failed))
    }
}
