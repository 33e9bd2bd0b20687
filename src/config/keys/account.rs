//! `[[account]]`

use super::{
    super::{
        Secret,
        key::{Layer, table},
        value::FileName,
    },
    Maildrop,
};

table! {
    /// `[[account]]`
    Account {
        /// The name that the device gives. `*` in it stands for anything: a rule for many mailboxes.
        login: Option<String> [example("tickets"), help("the name that the device gives")];
        /// The password that the device gives, kept as a hash; make one with `popgate hash-password`.
        password_hash: Option<Secret> [
            example("$argon2id$v=19$m=19456,t=2,p=1$w+eeRqlEA4D4m02X5h8coA$P1uMLrVCmQTAtKQa7N3V0cKNqwZ57/GT/zFnwrMNFig"),
            help("make one with popgate hash-password")
        ];
        /// The password that the device gives, in a file of its own.
        password_file: Option<FileName> [example("/run/secrets/pbx")];
        /// The password that the device gives.
        password: Option<Secret> [
            example("correct horse battery staple"),
            help("the password that the device gives: `password_file`, `password` or `password_hash` (see popgate hash-password)")
        ];
        /// File with the passwords of all logins of a rule, a line login:hash for each. It is read again when it changes.
        passwords_file: Option<FileName> [example("/run/secrets/devices")];
        /// Which [upstream.NAME] holds the mail.
        upstream: Option<String> [example("home"), help("name an [upstream.NAME]")];
        /// The user at the upstream; `*` in it stands for what `*` in the login matched. Default: the login.
        user: Option<String> [
            example("office@example.org"),
            otherwise("the login"),
            help("leave it out if it equals login")
        ];
        /// File with the password of `user` at the upstream; a line end after the password is ignored.
        upstream_password_file: Option<FileName> [example("/run/secrets/office")];
        /// The password of `user` at the upstream.
        upstream_password: Option<Secret> [example("a password made for this gateway")];
        /// Who consents, if the mailbox of `user` is shared; several accounts may share a consent. Default: the user.
        signed_in_as: Option<String> [
            example("anna@example.com"),
            otherwise("the user"),
            help("leave it out if it equals user")
        ];
        /// What differs from [upstream.NAME.maildrop].
        maildrop: Layer<Maildrop> [];
    }
}
