//! Who may import whom: the arrows of the house, checked against every `use` of `src/`.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Module → the modules that it may import, besides [`LEAVES`] and itself: POP3 and IMAP meet in `maildrop` only. A module
/// that is not named here fails the test.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "accounts", "admin", "demo", "doctor", "gateway", "health", "maildrop", "memory", "oauth", "sandbox",
            "sign_in", "state", "systemd", "tls",
        ],
    ),
    (
        "gateway",
        &[
            "accounts", "doctor", "maildrop", "notify", "oauth", "pop3", "proofs", "quotas", "sign_in", "state", "tls",
            "web",
        ],
    ),
    ("doctor", &["accounts", "health", "imap", "maildrop", "state", "tls"]),
    ("pop3", &["accounts", "maildrop", "notify", "tls"]),
    (
        "maildrop",
        &[
            "accounts", "imap", "notify", "oauth", "proofs", "quotas", "state", "tls",
        ],
    ),
    ("web", &["doctor", "oauth", "sign_in", "state"]),
    ("sign_in", &["accounts", "maildrop", "oauth", "state"]),
    ("accounts", &["challenge", "proofs", "quotas"]),
    ("imap", &["challenge", "oauth", "proofs", "quotas", "tls"]),
    ("notify", &["http", "oauth", "state", "tls"]),
    ("oauth", &["http", "state", "tls"]),
    ("http", &["tls"]),
    ("proofs", &[]),
    ("quotas", &["state"]),
    ("challenge", &[]),
    ("state", &["local_socket", "tls"]),
    ("admin", &["local_socket"]),
    ("local_socket", &[]),
    ("systemd", &[]),
    ("memory", &[]),
    ("tls", &[]),
    ("demo", &[]),
    ("sandbox", &[]),
    ("health", &["tls"]),
    ("types", &[]),
    ("config", &[]),
    ("telemetry", &[]),
    ("free_port", &[]),
];

/// Anyone may import these. (`free_port` is there in tests only.)
const LEAVES: &[&str] = &["config", "free_port", "telemetry", "types"];

/// Crates that only one place names.
const CONFINED: &[(&str, &str)] = &[
    ("async_imap", "src/imap/"),
    ("listenfd", "src/systemd.rs"),
    ("ppp", "src/pop3/proxy.rs"),
    ("rustls", "src/tls"),
    ("sd_notify", "src/systemd.rs"),
    ("tokio_openssl", "src/tls/legacy.rs"),
    ("tokio_rustls", "src/tls"),
    ("tokio_socks", "src/imap/proxy.rs"),
];

/// Who puts a gateway together, and so may see the whole configuration: every other room has options of its own.
const SEE_ALL: &[&str] = &["cli", "config", "gateway"];

struct File {
    /// From the root of the repository, with slashes.
    path: String,
    text: String,
}

fn sources() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    files
        .into_iter()
        .map(|path| File {
            path: path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/"),
            text: fs::read_to_string(&path).unwrap(),
        })
        .collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

impl File {
    /// The module of the house that it belongs to; `None` for `main.rs` and `lib.rs`, which put it together.
    fn module(&self) -> Option<&str> {
        let name = self.path.strip_prefix("src/").unwrap();
        let module = name.split(['/', '.']).next().unwrap();
        (module != "main" && module != "lib").then_some(module)
    }

    /// The text without comments.
    fn code(&self) -> String {
        self.text
            .lines()
            .map(|line| line.split("//").next().unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// What follows each `crate::` of `code`: one name, or those of a list.
fn imported(code: &str) -> BTreeSet<String> {
    imported_by(code, "crate::")
}

/// The same for another start of paths.
fn imported_by(code: &str, start: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(start) {
        // Another crate's name may end like that; `$crate` does not occur.
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let rest = code[at + start.len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(list) => names.extend(heads_of_list(list)),
            None => names.extend(first_name(rest)),
        }
    }
    names
}

/// The first names of the entries of `a::b, c::{d, e}, f}`.
fn heads_of_list(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut entry) = (0, 0);
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                names.extend(first_name(&list[entry..at]));
                entry = at + 1;
                if character == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

fn first_name(path: &str) -> Option<String> {
    let name: String = path
        .trim_start()
        .chars()
        .take_while(|&c| c.is_alphanumeric() || c == '_')
        .collect();
    // Items of the crate's root begin with a capital or are macros; modules do not.
    name.starts_with(|first: char| first.is_ascii_lowercase())
        .then_some(name)
}

#[test]
fn imports_follow_the_arrows() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for file in sources() {
        let Some(module) = file.module() else { continue };
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!(
                "{}: module {module} has no place in the house; see ARROWS",
                file.path
            ));
            continue;
        };
        for name in imported(&file.code()) {
            seen += 1;
            if name != module && !LEAVES.contains(&name.as_str()) && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{}: {module} must not import {name}", file.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 20, "only {seen} imports seen");
}

#[test]
fn arrows_have_no_cycle() {
    // In the order of the list, each imports only what stands below it once the leaves are taken away.
    fn reaches(from: &str, to: &str) -> bool {
        ARROWS
            .iter()
            .filter(|(name, _)| *name == from)
            .flat_map(|(_, allowed)| *allowed)
            .any(|next| *next == to || reaches(next, to))
    }
    for (module, _) in ARROWS {
        assert!(!reaches(module, module), "{module} reaches itself");
    }
}

/// Rooms in which no files import each other in a circle, be it over others: each can be read from the bottom up.
const ROOMS_WITHOUT_CIRCLES: &[&str] = &["accounts", "imap", "maildrop", "notify", "oauth"];

/// The files of a room, less `mod.rs`, and which of these each imports by `super::`, its tests apart.
fn imports_within(room: &str) -> BTreeMap<String, BTreeSet<String>> {
    let start = format!("src/{room}/");
    let name = |file: &File| {
        let name = file.path.strip_prefix(&start)?.strip_suffix(".rs")?;
        (name != "mod" && name != "tests" && !name.contains('/')).then(|| name.to_owned())
    };
    let files: BTreeMap<String, String> = sources()
        .iter()
        .filter_map(|file| Some((name(file)?, file.code())))
        .collect();
    let names: BTreeSet<String> = files.keys().cloned().collect();
    let imports = files.iter().map(|(name, code)| {
        let code = code.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let mut imported = imported_by(code, "super::");
        imported.retain(|other| names.contains(other) && other != name);
        (name.clone(), imported)
    });
    imports.collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for room in ROOMS_WITHOUT_CIRCLES {
        let mut imports = imports_within(room);
        assert!(imports.len() > 2, "{room}: only {imports:?} seen");
        // What imports nothing that is left goes, until nothing changes: what stays is in a circle, or above one.
        loop {
            let before = imports.len();
            let left: BTreeSet<String> = imports.keys().cloned().collect();
            imports.retain(|_, imported| !imported.is_disjoint(&left));
            if imports.len() == before {
                break;
            }
        }
        assert!(imports.is_empty(), "{room}: a circle among {imports:?}");
    }
}

#[test]
fn crates_stay_where_they_belong() {
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in sources() {
        for word in file.code().split(|c: char| !c.is_alphanumeric() && c != '_') {
            for (name, place) in CONFINED {
                if word == *name {
                    seen.insert(*name);
                    if !file.path.starts_with(place) {
                        wrong.push(format!("{}: {name} belongs into {place}", file.path));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen.len(), CONFINED.len(), "only {seen:?} seen: is the list stale?");
}

#[test]
fn rooms_get_options_of_their_own() {
    let mut wrong = BTreeSet::new();
    for file in sources() {
        if file.module().is_none_or(|module| SEE_ALL.contains(&module)) {
            continue;
        }
        let is_test =
            ["/tests.rs", "/scene.rs"].iter().any(|end| file.path.ends_with(end)) || file.path.contains("/tests/");
        let code = file.code();
        let served = code.split("#[cfg(test)]").next().unwrap();
        let names_it = served.contains("config::Config")
            || served.split("config::{").skip(1).any(|list| {
                list.split('}')
                    .next()
                    .unwrap()
                    .split(',')
                    .any(|name| name.trim() == "Config")
            });
        if names_it && !is_test {
            wrong.insert(file.path.clone());
        }
    }
    assert!(wrong.is_empty(), "the whole configuration is not for {wrong:?}");
}

#[test]
fn imports_are_found_in_every_form() {
    let code = "use crate::a::b;\nuse crate::{\n    c::{self, d},\n    e,\n    Root,\n};\nfn f() -> crate::g::H { mycrate::i() }";
    assert_eq!(imported(code), ["a", "c", "e", "g"].map(str::to_owned).into());
}
