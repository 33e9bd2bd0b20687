//! Entry points for the fuzzer (`fuzz/`): records under right checksums, and backups.

use serde::{Serialize, de::DeserializeOwned};

use super::{Backup, Index, MailboxName, Marks, Past, PendingMove, envelope, tokens};

const NAMES: [&str; 3] = ["home", "eva", "INBOX"];

/// Reads `content` as a record of each kind. A record that is accepted must be the same after it was written and read
/// again. Panics if it is not.
pub fn read(content: &[u8]) {
    let sealed = [content, &envelope::checksum(&NAMES, content).to_le_bytes()].concat();
    again::<Marks>(&sealed);
    again::<Past>(&sealed);
    again::<PendingMove>(&sealed);
    let [upstream, user, folder] = NAMES.map(str::to_owned);
    let mailbox = MailboxName { upstream, user, folder };
    if let Ok(index) = Index::decode(&mailbox, &sealed) {
        let record = index.encode(&mailbox).expect("its UIDs ascend");
        assert_eq!(Index::decode(&mailbox, &record), Ok(index));
    }
    let _ = tokens::read(content);
    let _ = Backup::read(content);
}

fn again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(sealed: &[u8]) {
    if let Ok(record) = envelope::open::<T>(&NAMES, sealed) {
        assert_eq!(envelope::open(&NAMES, &envelope::seal(&NAMES, &record)), Ok(record));
    }
}
