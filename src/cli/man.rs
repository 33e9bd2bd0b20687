//! `popgate man`: manual pages, made from the definition of the command line; `popgate completions`: the same for
//! shells.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, roman},
};

use super::{Cli, Failure};

/// Section of the manual: commands.
const SECTION: &str = "1";
/// Commands that read no configuration.
const WITHOUT_CONFIGURATION: [&str; 5] = ["completions", "demo", "hash-password", "init", "man"];

/// Prints a script that lets `shell` complete popgate's commands and options.
pub(super) fn completions(shell: Shell) -> Result<(), Failure> {
    // Generated in memory first: `generate` would panic if the output is closed (as behind `head`). This is an error
    // instead.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "popgate", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

/// Writes the page of every command to `dir`, which is created if it is missing.
pub(super) fn write_all(dir: &Path) -> Result<(), Failure> {
    let unwritable = |error| Failure::failed(format!("cannot write to {}: {error}", dir.display()));
    fs::create_dir_all(dir).map_err(unwritable)?;
    for command in commands() {
        let file = dir.join(format!("{}.{SECTION}", title(&command)));
        fs::write(file, page(&command)?).map_err(unwritable)?;
    }
    Ok(())
}

/// Prints the page of the command `name`, or of popgate itself.
pub(super) fn print(name: Option<&str>) -> Result<(), Failure> {
    let commands = commands();
    let found = match name {
        None => commands.first(),
        Some(name) => commands.iter().skip(1).find(|command| command.get_name() == name),
    };
    let Some(command) = found else {
        let names: Vec<_> = commands.iter().skip(1).map(Command::get_name).collect();
        return Err(Failure::wrong(format!(
            "popgate has no command {}\nhelp: it has {}",
            name.unwrap_or_default(),
            names.join(", ")
        )));
    };
    Ok(io::stdout().write_all(&page(command)?)?)
}

/// popgate itself, then each of its commands.
fn commands() -> Vec<Command> {
    let mut whole = Cli::command().disable_help_subcommand(true);
    whole.build();
    let commands: Vec<_> = whole.get_subcommands().cloned().collect();
    [vec![whole], commands].concat()
}

/// The title of a page: `popgate`, or `popgate-backup`.
fn title(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .title(title(command).to_uppercase())
        .section(SECTION)
        .source(concat!("popgate ", env!("CARGO_PKG_VERSION")))
        .manual("popgate");
    let is_whole = command.has_subcommands();
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if is_whole {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    section(&mut rest, "EXIT STATUS", &exit_status(command.get_name()));
    if !WITHOUT_CONFIGURATION.contains(&command.get_name()) {
        section(&mut rest, "ENVIRONMENT", &ENVIRONMENT);
        section(&mut rest, "FILES", FILES);
    }
    rest.control("SH", ["SEE ALSO"]);
    let others = if is_whole {
        command.get_subcommands().collect()
    } else {
        Vec::new()
    };
    let others = others.into_iter().map(title).chain((!is_whole).then_some("popgate"));
    rest.text(see(others));
    rest.to_writer(&mut page)?;
    Ok(page)
}

/// References to other pages: `popgate-backup(1), popgate-check(1)`.
fn see<'a>(titles: impl Iterator<Item = &'a str>) -> Vec<Inline> {
    let mut line = Vec::new();
    for title in titles {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.extend([bold(title), roman(format!("({SECTION})"))]);
    }
    line
}

/// Adds a section of terms and their meanings.
fn section(roff: &mut Roff, name: &str, lines: &[(&str, &str)]) {
    roff.control("SH", [name]);
    for (thing, meaning) in lines {
        roff.control("TP", []);
        roff.text([bold(*thing)]);
        roff.text([roman(*meaning)]);
    }
}

fn exit_status(command: &str) -> [(&'static str, &'static str); 3] {
    let failed = match command {
        "check" => "The configuration cannot be served, or an upstream does not answer as it must.",
        "health" => {
            "A listener does not answer; with --strict also if a consent has ended or tokens cannot be written."
        }
        "sign-in" => {
            "Nobody has signed in; with --list --json also if a consent has ended or tokens cannot be written."
        }
        "restore" => "Nothing was restored: the file is not a whole backup, or a gateway is running.",
        _ => "It failed. Standard error says why; another try may succeed.",
    };
    [
        ("0", "It was done."),
        ("1", failed),
        (
            "2",
            "The command line or the configuration is wrong; standard error says where, and what helps.",
        ),
    ]
}

const ENVIRONMENT: [(&str, &str); 3] = [
    ("POPGATE_CONFIG", "The configuration, if there is no --config."),
    (
        "POPGATE__TABLE__KEY",
        "The value of a key; it wins over the configuration. POPGATE__LIMITS__SESSIONS=50 is sessions = 50 in [limits].",
    ),
    ("NO_COLOR", "If it is set, help and log lines have no colours."),
];

const FILES: &[(&str, &str)] = &[
    (
        "gateway.toml",
        "The configuration, if neither --config nor POPGATE_CONFIG names another. popgate check --keys lists all keys.",
    ),
    (
        "state.redb, tokens.jsonl",
        "In the directory of [state]: what is known of mailboxes and what logins have done there; consents, encrypted. Only \
         popgate writes them: copy them by popgate backup.",
    ),
    (
        "state.sock, state.lock",
        "In the same directory while a gateway runs: the socket for other commands, and the lock that keeps a second gateway out.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let commands = commands();
        assert!(commands.len() > 8, "only {}", commands.len());
        for command in &commands {
            let text = String::from_utf8(page(command).unwrap()).unwrap();
            let name = title(command);
            assert!(text.contains(&format!(".TH {} 1 ", name.to_uppercase())), "{text}");
            for section in [
                "NAME",
                "SYNOPSIS",
                "DESCRIPTION",
                "OPTIONS",
                "\"EXIT STATUS\"",
                "\"SEE ALSO\"",
            ] {
                assert!(
                    text.contains(&format!("\n.SH {section}\n")),
                    "{name}: no {section}: {text}"
                );
            }
            let reads = !WITHOUT_CONFIGURATION.contains(&command.get_name());
            assert_eq!(text.contains("\n.SH FILES\n"), reads, "{name}");
        }
    }

    #[test]
    fn commands_that_read_no_configuration_exist() {
        for name in WITHOUT_CONFIGURATION {
            assert!(commands().iter().any(|command| command.get_name() == name), "{name}");
        }
    }

    #[test]
    fn an_unknown_command_is_told() {
        let failure = print(Some("brew")).unwrap_err().to_string();
        assert!(
            failure.starts_with("popgate has no command brew\nhelp: it has serve, "),
            "{failure}"
        );
        assert!(print(Some("popgate")).is_err());
    }
}
