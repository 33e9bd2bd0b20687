use std::fs;

use tempfile::TempDir;

use super::*;
use crate::state::tests::directory;

fn consent(name: &str) -> Consent {
    Consent {
        upstream: "home".into(),
        name: name.into(),
    }
}

fn none() -> Result<Sealed, Error> {
    Ok(Sealed::new())
}

fn open(dir: &TempDir) -> Arc<TokenFile> {
    TokenFile::open(dir.path(), Owner::Us, none).unwrap()
}

/// A file with a token of each of these names.
async fn with(names: &[&str]) -> TempDir {
    let dir = directory();
    let file = open(&dir);
    for name in names {
        file.set(&consent(name), None, Some(name.as_bytes())).await.unwrap();
    }
    dir
}

fn set_aside(dir: &TempDir) -> usize {
    let names = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().contains(".damaged-"))
        .count()
}

#[tokio::test]
async fn every_cut_and_flip_costs_the_lines_that_it_is_in() {
    let dir = with(&["adam", "eva", "ida"]).await;
    let sound = fs::read(dir.path().join(FILE)).unwrap();
    for place in 0..sound.len() {
        let mut flipped = sound.clone();
        flipped[place] ^= 0x15;
        for (octets, case) in [(&sound[..place], "cut"), (&flipped, "flipped")] {
            let dir = directory();
            fs::write(dir.path().join(FILE), octets).unwrap();
            let visited = TokenFile::open(dir.path(), Owner::Another, none);
            assert_eq!(
                fs::read(dir.path().join(FILE)).unwrap(),
                octets,
                "a visitor changes nothing"
            );
            let file = open(&dir);
            let mut lost = 0;
            for name in ["adam", "eva", "ida"] {
                match file.get(&consent(name)) {
                    Some(token) => assert_eq!(token, name.as_bytes(), "{case} at {place}"),
                    None => lost += 1,
                }
            }
            // If only the line end at the very end is cut off, nothing is lost.
            assert!(
                lost <= if case == "cut" { 3 } else { 2 },
                "{case} at {place}: {lost} lost"
            );
            assert!(
                lost == 0 || set_aside(&dir) == 1,
                "{case} at {place}: lost and not told"
            );
            assert_eq!(visited.is_err(), set_aside(&dir) == 1, "{case} at {place}");
            drop(file);
            assert_eq!(open(&dir).tokens().len(), 3 - lost, "told once");
            assert!(set_aside(&dir) <= 1);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_written_changes_nothing_and_is_an_alarm() {
    let dir = with(&["eva"]).await;
    let file = open(&dir);
    assert_eq!(file.unwritable_since(), None);
    fs::create_dir(dir.path().join(UNFINISHED)).unwrap();
    let failed = file.set(&consent("eva"), Some(b"eva"), Some(b"new")).await;
    assert_eq!(failed, Err(Unavailable::Failed));
    assert_eq!(file.get(&consent("eva")).unwrap(), b"eva");
    assert!(file.unwritable_since().is_some());
    fs::remove_dir(dir.path().join(UNFINISHED)).unwrap();
    file.set(&consent("eva"), Some(b"eva"), Some(b"new")).await.unwrap();
    assert_eq!(file.unwritable_since(), None);
    assert_eq!(open(&dir).get(&consent("eva")).unwrap(), b"new");
}

/// The new file takes the place of a link that somebody has made.
#[cfg(unix)]
#[tokio::test]
async fn a_link_to_another_file_is_not_written_to() {
    let dir = with(&["eva"]).await;
    let target = dir.path().join("target");
    fs::write(&target, "another's").unwrap();
    std::os::unix::fs::symlink(&target, dir.path().join(UNFINISHED)).unwrap();
    open(&dir)
        .set(&consent("eva"), Some(b"eva"), Some(b"new"))
        .await
        .unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"another's");
    assert_eq!(open(&dir).get(&consent("eva")).unwrap(), b"new");
}

#[cfg(unix)]
#[tokio::test]
async fn it_is_for_its_owner_only() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let dir = with(&["eva"]).await;
    let path = dir.path().join(FILE);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    if fs::metadata(dir.path()).unwrap().uid() != 0 {
        return; // Only root can give files away.
    }
    chown(&path, Some(4321), Some(4322)).unwrap();
    open(&dir)
        .set(&consent("eva"), Some(b"eva"), Some(b"new"))
        .await
        .unwrap();
    let owned = fs::metadata(&path).unwrap();
    assert_eq!((owned.uid(), owned.gid()), (4321, 4322));
}
