//! The PROXY header of a load balancer: of a whole one the address is known, and nothing changes that, however it is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use popgate::pop3::fuzzing::proxy_header;

fuzz_target!(|octets: &[u8]| {
    if let Some((length, device)) = proxy_header(octets) {
        assert!(length <= octets.len());
        assert!(device.is_none_or(|device| device.ip() == device.ip().to_canonical()));
    }
});
