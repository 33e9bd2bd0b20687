//! Manual pages and completions, tested with the programs that read them.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::support::{find_program, missing, require_program};

fn popgate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_popgate"))
        .args(arguments)
        .output()
        .unwrap()
}

#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let output = popgate(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands, as `popgate --help` lists them.
fn commands() -> Vec<String> {
    let help = printed(&["--help"]);
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<String> = names
        .filter(|name| !name.is_empty() && *name != "help")
        .map(str::to_owned)
        .collect();
    assert!(names.len() > 8 && names.contains(&"backup".to_owned()), "{help}");
    names
}

fn pages(directory: &TempDir) -> Vec<PathBuf> {
    // The directory does not exist yet: the program creates it.
    let dir = directory.path().join("share/man");
    assert_eq!(printed(&["man", "--dir", dir.to_str().unwrap()]), "");
    let mut pages: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    pages
}

#[test]
fn there_is_a_page_for_each_command() {
    let directory = TempDir::new().unwrap();
    let mut expected: Vec<_> = commands().iter().map(|name| format!("popgate-{name}.1")).collect();
    expected.push("popgate.1".into());
    expected.sort();
    let pages = pages(&directory);
    let names: Vec<_> = pages
        .iter()
        .map(|page| page.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(names, expected);
    let page = |name: &str| fs::read_to_string(pages[0].with_file_name(name)).unwrap();
    assert_eq!(printed(&["man"]), page("popgate.1"));
    assert_eq!(printed(&["man", "sign-in"]), page("popgate-sign-in.1"));
    let output = popgate(&["man", "brew"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn groff_and_man_have_no_complaint() {
    let (Some(groff), Some(man)) = (require_program("groff"), require_program("man")) else {
        return;
    };
    let directory = TempDir::new().unwrap();
    for page in pages(&directory) {
        let set = Command::new(&groff)
            .args(["-man", "-ww", "-z", "-Tutf8"])
            .arg(&page)
            .output()
            .unwrap();
        let complaints = String::from_utf8_lossy(&set.stderr);
        assert!(set.status.success() && complaints.is_empty(), "{complaints}");
        let shown = Command::new(&man)
            .args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])
            .arg(&page)
            .env("MANWIDTH", "80")
            .output()
            .unwrap();
        let complaints = String::from_utf8_lossy(&shown.stderr);
        assert!(shown.status.success() && complaints.is_empty(), "{complaints}");
    }
}

#[test]
fn bash_completes() {
    let Some(bash) = require_program("bash") else { return };
    let directory = TempDir::new().unwrap();
    let script = directory.path().join("popgate.bash");
    fs::write(&script, printed(&["completions", "bash"])).unwrap();
    let checked = Command::new(&bash).arg("-n").arg(&script).output().unwrap();
    assert!(checked.status.success() && checked.stderr.is_empty());
    let complete = "source \"$0\"; COMP_WORDS=(popgate \"$@\"); COMP_CWORD=$#; _popgate popgate \"${@: -1}\"; \
                    printf '%s\\n' \"${COMPREPLY[@]}\"";
    for (words, completed) in [
        (&["ba"][..], "backup\n"),
        (&["backup", "--fo"], "--force\n"),
        (&["completions", "z"], "zsh\n"),
    ] {
        let output = Command::new(&bash)
            .args(["-c", complete])
            .arg(&script)
            .args(words)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), completed, "{words:?}");
    }
}

#[test]
fn other_shells_read_theirs() {
    let directory = TempDir::new().unwrap();
    for (shell, program) in [("zsh", "zsh"), ("fish", "fish")] {
        let Some(program) = find_program(program) else {
            missing(&format!("{program} is not installed"));
            continue;
        };
        let script = directory.path().join(shell);
        fs::write(&script, printed(&["completions", shell])).unwrap();
        let checked = Command::new(program).arg("-n").arg(&script).output().unwrap();
        let complaints = String::from_utf8_lossy(&checked.stderr);
        assert!(
            checked.status.success() && complaints.is_empty(),
            "{shell}: {complaints}"
        );
    }
    for shell in ["elvish", "powershell"] {
        assert!(printed(&["completions", shell]).contains("backup"));
    }
    let output = popgate(&["completions", "tcsh"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("zsh"), "{said}");
}
