//! Any line parses or fails; what parses keeps its octets.
#![no_main]

use libfuzzer_sys::fuzz_target;
use popgate::pop3::command::Command;

fuzz_target!(|line: &[u8]| {
    match Command::parse(line) {
        Ok(Command::Pass(secret)) => assert_eq!(secret.expose(), &line[5..]),
        Ok(Command::User(name)) => assert_eq!(name, line[5..].trim_ascii_end()),
        Ok(command) => assert!(line.to_ascii_uppercase().starts_with(command.verb().as_bytes())),
        Err(_) => {}
    }
});
