//! What a server can do: the capabilities that the gateway uses.

/// The capabilities (RFC 3501 §7.2.1) that change what is sent to a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `STARTTLS`
    pub start_tls: bool,
    /// `LOGINDISABLED`: LOGIN must not be sent.
    pub login_disabled: bool,
    /// `AUTH=PLAIN` (RFC 4616)
    pub auth_plain: bool,
    /// `AUTH=LOGIN`
    pub auth_login: bool,
    /// `AUTH=CRAM-MD5` (RFC 2195)
    pub auth_cram_md5: bool,
    /// `AUTH=SCRAM-SHA-256` (RFC 7677)
    pub auth_scram_sha_256: bool,
    /// `AUTH=OAUTHBEARER` (RFC 7628)
    pub auth_oauthbearer: bool,
    /// `AUTH=XOAUTH2`
    pub auth_xoauth2: bool,
    /// `SASL-IR`: AUTHENTICATE with an initial response (RFC 4959).
    pub sasl_ir: bool,
    /// `ID` (RFC 2971)
    pub id: bool,
    /// `QRESYNC`: the server reports by UID what has vanished (RFC 7162 §3.2).
    pub qresync: bool,
    /// `UIDPLUS`: UID EXPUNGE (RFC 4315).
    pub uid_plus: bool,
    /// `MOVE` (RFC 6851)
    pub moves: bool,
    /// `SPECIAL-USE`: LIST says what folders are for (RFC 6154).
    pub special_use: bool,
    /// `OBJECTID` (RFC 8474)
    pub object_id: bool,
    /// `UTF8=ONLY`: nothing works before ENABLE UTF8=ACCEPT, and names are UTF-8 (RFC 6855 §6).
    pub utf8_only: bool,
    /// `COMPRESS=DEFLATE` (RFC 4978)
    pub compress_deflate: bool,
    /// `ACL` (RFC 4314): MYRIGHTS says what the user may do in a folder.
    pub acl: bool,
    /// `NAMESPACE` (RFC 2342)
    pub namespace: bool,
    /// `LITERAL+`: literals may be sent without waiting for the server (RFC 7888).
    pub literal_plus: bool,
    /// `LITERAL-`: the same for literals of up to 4096 octets.
    pub literal_minus: bool,
    /// `CONDSTORE` (RFC 7162 §3.1)
    pub condstore: bool,
    /// Whether `uid_plus` holds only because UIDPLUS is part of IMAP4rev2: the server does not offer it by name.
    pub uid_plus_implied: bool,
    /// `IMAP4rev2` without `IMAP4rev1` (RFC 9051): mailbox names are UTF-8.
    pub rev2_only: bool,
}

impl Capabilities {
    /// Sets what IMAP4rev2 includes without naming it (RFC 9051, appendix E).
    fn imply_rev2(&mut self) {
        self.sasl_ir = true;
        self.uid_plus_implied = !self.uid_plus;
        self.uid_plus = true;
        self.moves = true;
        self.special_use = true;
        self.namespace = true;
        self.literal_minus = true;
    }

    /// Parses the words that follow CAPABILITY, in any case and with any number of spaces between them.
    pub fn parse(words: &[u8]) -> Self {
        let mut found = Self::default();
        let (mut rev1, mut rev2) = (false, false);
        for word in words.split(|&b| b == b' ') {
            match word.to_ascii_uppercase().as_slice() {
                b"STARTTLS" => found.start_tls = true,
                b"LOGINDISABLED" => found.login_disabled = true,
                b"AUTH=PLAIN" => found.auth_plain = true,
                b"AUTH=LOGIN" => found.auth_login = true,
                b"AUTH=CRAM-MD5" => found.auth_cram_md5 = true,
                b"AUTH=SCRAM-SHA-256" => found.auth_scram_sha_256 = true,
                b"AUTH=OAUTHBEARER" => found.auth_oauthbearer = true,
                b"AUTH=XOAUTH2" => found.auth_xoauth2 = true,
                b"SASL-IR" => found.sasl_ir = true,
                b"ID" => found.id = true,
                b"CONDSTORE" => found.condstore = true,
                b"QRESYNC" => (found.qresync, found.condstore) = (true, true),
                b"UIDPLUS" => found.uid_plus = true,
                b"MOVE" => found.moves = true,
                b"SPECIAL-USE" => found.special_use = true,
                b"OBJECTID" => found.object_id = true,
                b"UTF8=ONLY" => found.utf8_only = true,
                b"COMPRESS=DEFLATE" => found.compress_deflate = true,
                b"ACL" => found.acl = true,
                b"NAMESPACE" => found.namespace = true,
                b"LITERAL+" => found.literal_plus = true,
                b"LITERAL-" => found.literal_minus = true,
                b"IMAP4REV1" => rev1 = true,
                b"IMAP4REV2" => rev2 = true,
                _ => {}
            }
        }
        if rev2 {
            found.imply_rev2();
            found.rev2_only = !rev1;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_case_and_spacing() {
        let found = Capabilities::parse(b"IMAP4rev1  uidplus Auth=Plain compress=Deflate XLIST");
        assert!(
            found.uid_plus && found.compress_deflate && found.auth_plain && !found.sasl_ir && !found.login_disabled
        );
        assert_eq!(Capabilities::parse(b""), Capabilities::default());
    }

    #[test]
    fn imap4rev2_implies_what_it_is_made_of() {
        let alone = Capabilities::parse(b"IMAP4rev2 AUTH=PLAIN");
        assert!(alone.uid_plus && alone.moves && alone.special_use && alone.namespace && alone.sasl_ir);
        assert!(alone.literal_minus && !alone.literal_plus && alone.rev2_only && !alone.qresync && !alone.object_id);
        let both = Capabilities::parse(b"IMAP4rev1 imap4REV2");
        assert!(both.uid_plus && both.moves && !both.rev2_only);
        let one = Capabilities::parse(b"IMAP4rev1");
        assert!(!one.uid_plus && !one.moves && !one.rev2_only);
    }
}
