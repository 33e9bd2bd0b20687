//! The system's clock.

use std::time::SystemTime;

/// The time in seconds since 1970, the form in which records store times. 0 if the clock is set to a time before 1970.
pub fn now() -> u32 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX))
}
