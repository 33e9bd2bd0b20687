//! What a device answers in AUTH is well-formed or not; a login in it is never empty.
#![no_main]

use libfuzzer_sys::fuzz_target;
use popgate::pop3::{command::DeviceMechanism, fuzzing::read_responses};

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (mechanism, first, second) = input;
    let mechanism = DeviceMechanism::ALL[usize::from(mechanism) % DeviceMechanism::ALL.len()];
    for (first, second) in [(first, second), (&encoded(first), &encoded(second))] {
        if let Some(login) = read_responses(mechanism, first, second, &vec![7; 32]) {
            assert!(!login.is_empty());
        }
    }
});

/// Base64 (RFC 4648 §4), so that what the fuzzer finds gets past it.
fn encoded(octets: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for chunk in octets.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let group = u32::from_be_bytes(group);
        for place in 0..=chunk.len() {
            out.push(DIGITS[(group >> (18 - 6 * place) & 63) as usize]);
        }
    }
    out
}
