//! UPSTREAM: IMAP; the only folder that names async_imap.
