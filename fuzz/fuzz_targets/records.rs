//! Records of state, under a right checksum: what is read is written and read again as the same, anything else is an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use popgate::state::fuzzing::read;

fuzz_target!(|content: &[u8]| read(content));
