//! Any text is a configuration or has mistakes, each of which can be told.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use popgate::config::Config;

fuzz_target!(|text: &str| {
    // A configuration may name files, and these must not be read: some never end.
    if text.contains("/dev") || text.contains("/proc") || text.contains("/sys") {
        return;
    }
    match Config::parse(text, Path::new("/nowhere")) {
        Ok(config) => assert!(!config.upstreams.is_empty() && !config.listeners.is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
