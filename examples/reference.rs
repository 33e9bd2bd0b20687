//! Writes what is generated from the declarations of the configuration keys: gateway.toml.example, and the tables in
//! docs/src/configuration.md.

use std::{fs, io, path::Path};

const BEGIN: &str = "<!-- keys: written by `cargo run --example reference` -->\n";
const END: &str = "<!-- end of keys -->\n";

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::write(root.join("gateway.toml.example"), popgate::config::example())?;
    let chapter = root.join("docs/src/configuration.md");
    let text = fs::read_to_string(&chapter)?;
    let (before, rest) = text.split_once(BEGIN).ok_or(io::ErrorKind::InvalidData)?;
    let (_, after) = rest.split_once(END).ok_or(io::ErrorKind::InvalidData)?;
    let table = popgate::config::keys_as_markdown();
    fs::write(chapter, format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}
