//! The documentation: its links lead somewhere, its configurations are valid, its commands exist.
//!
//! A block marked `toml` is a configuration, or a part of one: tables that it needs besides are added (see [`completed`]). One
//! marked `toml,legacy-tls` needs a popgate that is built with old TLS. A line of a block marked `sh` that calls popgate is a
//! command of this popgate.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use clap::Parser;
use popgate::{cli::Cli, config::Config};

/// The chapters of the book, which mdBook shows without the rest of the repository.
const BOOK: &str = "docs/src/";

/// A page: its text, cut into what is written for people and blocks.
struct Page {
    /// From the root of the repository.
    path: String,
    /// Its lines outside of blocks.
    prose: Vec<String>,
    /// The word after the fence, and the text.
    blocks: Vec<(String, String)>,
}

impl Page {
    fn read(root: &Path, path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let (mut prose, mut blocks) = (Vec::new(), Vec::<(String, String)>::new());
        // The marks that end the block, and how far it is indented.
        let mut fence: Option<(String, usize)> = None;
        for line in text.lines() {
            let bare = line.trim_start();
            if let Some((end, indent)) = &fence {
                if bare.trim_end() == end {
                    fence = None;
                } else if let Some((_, block)) = blocks.last_mut() {
                    *block += line.get(*indent..).unwrap_or_default();
                    block.push('\n');
                }
                continue;
            }
            let word = bare.trim_start_matches('`');
            if bare.len() - word.len() >= 3 {
                fence = Some((bare[..bare.len() - word.len()].to_owned(), line.len() - bare.len()));
                blocks.push((word.to_owned(), String::new()));
            } else {
                prose.push(line.to_owned());
            }
        }
        let path = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        assert!(fence.is_none(), "{path}: a block without an end");
        Self { path, prose, blocks }
    }

    /// What may stand behind `#` in a link to this page: its headings as mdBook and the forges write them.
    fn anchors(&self) -> BTreeSet<String> {
        let mut anchors = BTreeSet::new();
        for line in &self.prose {
            let title = line.trim_start_matches('#');
            if title.len() < line.len() && title.starts_with(' ') {
                let mut anchor = String::new();
                for character in title.trim().chars() {
                    match character {
                        ' ' => anchor.push('-'),
                        '-' | '_' => anchor.push(character),
                        _ if character.is_alphanumeric() => anchor.extend(character.to_lowercase()),
                        _ => {}
                    }
                }
                assert!(anchors.insert(anchor), "{}: two headings {title:?}", self.path);
            }
        }
        anchors
    }

    /// The targets of its links and pictures.
    fn links(&self) -> Vec<String> {
        let text = without_code(&self.prose.join("\n"));
        let mut links = Vec::new();
        for (at, _) in text.match_indices("](") {
            let target = &text[at + 2..];
            let end = target
                .find(')')
                .unwrap_or_else(|| panic!("{}: a link without an end", self.path));
            links.push(target[..end].to_owned());
        }
        links
    }
}

/// The text without `code`.
fn without_code(text: &str) -> String {
    // Between two marks is code: every second piece.
    text.split('`').step_by(2).collect()
}

fn pages() -> BTreeMap<String, Page> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(root, false, &mut files);
    collect(&root.join("docs"), true, &mut files);
    let pages = files.iter().map(|file| Page::read(root, file));
    let pages: BTreeMap<_, _> = pages.map(|page| (page.path.clone(), page)).collect();
    assert!(pages.len() > 20, "only {} pages seen", pages.len());
    pages
}

fn collect(directory: &Path, deep: bool, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // What mdBook has built is not ours.
            if deep && !path.ends_with("docs/book") {
                collect(&path, deep, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
}

/// Where `target` leads from `page`, as a path from the root of the repository; `None` if it leaves the repository.
fn resolved(page: &str, target: &str) -> Option<String> {
    let mut parts: Vec<_> = page.split('/').collect();
    parts.pop();
    for component in Path::new(target).components() {
        match component {
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let (mut seen, mut wrong) = (0, Vec::new());
    for page in pages.values() {
        for link in page.links() {
            if link.starts_with("https://") || link.starts_with("http://") {
                continue;
            }
            seen += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target = if file.is_empty() {
                Some(page.path.clone())
            } else {
                resolved(&page.path, file)
            };
            let Some(target) = target else {
                wrong.push(format!("{}: {link} leaves the repository", page.path));
                continue;
            };
            if page.path.starts_with(BOOK) && !target.starts_with(BOOK) {
                wrong.push(format!("{}: {link} is not in the book", page.path));
            }
            if !Path::new(env!("CARGO_MANIFEST_DIR")).join(&target).exists() {
                wrong.push(format!("{}: {link}: there is no {target}", page.path));
            } else if !anchor.is_empty() && !pages.get(&target).is_some_and(|page| page.anchors().contains(anchor)) {
                wrong.push(format!("{}: {link}: {target} has no such heading", page.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 50, "only {seen} links seen");
}

/// mdBook shows what SUMMARY.md names, and nothing else.
#[test]
fn the_book_has_all_chapters() {
    let pages = pages();
    let summary = format!("{BOOK}SUMMARY.md");
    let named: BTreeSet<_> = pages[&summary]
        .links()
        .into_iter()
        .map(|link| format!("{BOOK}{link}"))
        .collect();
    let chapters: BTreeSet<_> = pages
        .into_keys()
        .filter(|path| path.starts_with(BOOK) && *path != summary)
        .collect();
    assert_eq!(named, chapters);
}

/// A decision is found by its number, and is in the list.
#[test]
fn all_decisions_are_listed() {
    let pages = pages();
    let list = "docs/decisions/README.md";
    let named: BTreeSet<_> = pages[list]
        .links()
        .into_iter()
        .filter(|link| link.starts_with(char::is_numeric))
        .collect();
    let written = pages.keys().filter_map(|path| path.strip_prefix("docs/decisions/"));
    let written: BTreeSet<_> = written.filter(|name| *name != "README.md").map(str::to_owned).collect();
    assert_eq!(named, written);
    for (number, name) in (1..).zip(&written) {
        assert!(
            name.starts_with(&format!("{number:04}-")),
            "{name}: not number {number}"
        );
    }
}

/// A configuration that `block` is a part of. Added are: an upstream, and what each `[upstream.NAME.…]` and each `upstream = …`
/// refers to; a state for tokens; a certificate for a listener with TLS.
fn completed(block: &str) -> String {
    let mut text = block.to_owned();
    // The names in `[upstream.NAME…]` and in `upstream = "NAME"`.
    let names = block.lines().filter_map(|line| {
        let table = line
            .strip_prefix("[upstream.")
            .and_then(|rest| rest.split(['.', ']']).next());
        table.or_else(|| line.strip_prefix("upstream = \"")?.split('"').next())
    });
    let mut names: BTreeSet<_> = names.collect();
    if names.is_empty() {
        names.insert("home");
    }
    for name in names {
        if !block.lines().any(|line| line == format!("[upstream.{name}]")) {
            text += &format!("\n[upstream.{name}]\nhost = \"imap.example.org\"\n");
            if !block.contains(".oauth2]") {
                text += "logins = [\"*@example.org\"]\n";
            }
        }
    }
    let has = |table: &str| block.lines().any(|line| line == table);
    if block.contains(".oauth2]") && !has("[state]") {
        text += "\n[state]\ndir = \"/data\"\nkey_file = \"/run/secrets/key\"\n";
    }
    if ["\"starttls\"", "\"implicit\""].iter().any(|tls| block.contains(tls))
        && block.contains("[[listener]]")
        && !has("[tls]")
    {
        text += "\n[tls]\ncertificate = \"/run/secrets/fullchain.pem\"\nkey = \"/run/secrets/privkey.pem\"\n";
    }
    text
}

/// What is wrong with a configuration; the files that it names in /run/secrets are there.
fn mistakes(text: &str) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    for file in text.split('"').filter_map(|part| part.strip_prefix("/run/secrets/")) {
        let content = match file {
            "key" => "0123456789abcdef".repeat(2),
            "devices" => "# no device yet\n".to_owned(),
            file => format!("secret of {file}\n"),
        };
        fs::write(directory.path().join(file), content).unwrap();
    }
    fs::write(directory.path().join("uidls.txt"), "1700000000.1\t<a@example.org>\n").unwrap();
    let error = Config::parse(&text.replace("/run/secrets/", ""), directory.path()).err()?;
    Some(error.to_string())
}

#[test]
fn configurations_are_valid() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for page in pages().values() {
        for (word, block) in &page.blocks {
            if word == "toml" || word == "toml,legacy-tls" && cfg!(feature = "legacy-tls") {
                seen += 1;
                if let Some(error) = mistakes(&completed(block)) {
                    wrong.push(format!("{}:\n{block}\n{error}", page.path));
                }
            } else if word.starts_with("toml") && word != "toml,legacy-tls" {
                wrong.push(format!("{}: no test knows what {word} is", page.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 15, "only {seen} configurations seen");
}

#[test]
fn a_mistake_in_a_configuration_is_found() {
    let wrong = "[upstream.home.maildrop]\non_delete = \"trsh\"\n";
    assert!(mistakes(&completed(wrong)).unwrap().contains("trash"));
}

/// A call of popgate in a line: the words from its name on, up to what the shell takes for itself.
fn call(line: &str) -> Option<Vec<&str>> {
    let words: Vec<_> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "popgate")?;
    // `systemctl reload popgate` is none.
    let is_command = at == 0 || words[0] == "docker" && words.contains(&"exec");
    let is_of_shell = |word: &str| word.starts_with(['#', '|', '>', '<', '&']);
    is_command.then(|| {
        words[at..]
            .iter()
            .copied()
            .take_while(|word| !is_of_shell(word))
            .collect()
    })
}

#[test]
fn commands_exist() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for page in pages().values() {
        for (_, block) in page.blocks.iter().filter(|(word, _)| word == "sh") {
            for call in block.lines().filter_map(call) {
                seen += 1;
                if let Err(error) = Cli::try_parse_from(&call) {
                    wrong.push(format!("{}: {}: {error}", page.path, call.join(" ")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 20, "only {seen} commands seen");
}
