//! The head of an HTTP proxy's reply to CONNECT: it ends somewhere within what came, and has a status or none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use popgate::imap::fuzzing::proxy_reply;

fuzz_target!(|head: &[u8]| {
    let (status, end) = proxy_reply(head);
    assert!(status.is_none_or(|status| status <= 999));
    if let Some(end) = end {
        assert!(end <= head.len() && head[..end].ends_with(b"\n"));
    }
});
