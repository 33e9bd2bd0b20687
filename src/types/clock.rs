//! The time.

use std::time::SystemTime;

/// Seconds since 1970, as records keep times.
pub fn now() -> u32 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX))
}
