//! A FETCH response in any segments parses or fails, and reports no content that is not there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use popgate::imap::fetch::{Fetch, ParseStop};

fuzz_target!(|segments: Vec<&[u8]>| {
    let mut fetch = Fetch::default();
    for segment in segments {
        let mut rest = segment;
        loop {
            match fetch.parse(rest) {
                Ok(ParseStop::Inline { content, rest: at, .. }) => {
                    assert!(at <= rest.len());
                    assert!(content.is_none_or(|content| content.len() <= rest.len()));
                    rest = &rest[at..];
                }
                Ok(ParseStop::Literal(..)) => break,
                Ok(ParseStop::End) => return assert!(fetch.uid.is_none_or(|uid| uid.0 > 0)),
                Err(_) => return,
            }
        }
    }
});
