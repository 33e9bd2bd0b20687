//! Whatever a server asks in AUTHENTICATE is answered or refused; and no server that does not know the password gets past
//! SCRAM.
#![no_main]

use libfuzzer_sys::fuzz_target;
use popgate::imap::fuzzing::{MECHANISMS, SCRAM, exchange};

fuzz_target!(|input: (u8, &str, &[u8], Vec<&[u8]>)| {
    let (mechanism, user, secret, challenges) = input;
    let mechanism = usize::from(mechanism) % MECHANISMS;
    // Many iterations take long: the fuzzer would do nothing else.
    if challenges
        .iter()
        .any(|challenge| challenge.windows(6).any(|octets| octets.iter().all(u8::is_ascii_digit)))
    {
        return;
    }
    let may_say_ok = exchange(mechanism, user, secret, &challenges);
    assert!(
        mechanism != SCRAM || may_say_ok != Some(true),
        "a server without the password"
    );
});
