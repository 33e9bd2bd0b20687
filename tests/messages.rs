//! What `popgate check` says of wrong and risky files: each of `tests/wrong/` beside its message.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

/// Puts the files that configurations name into `directory`.
fn make_files(directory: &Path) {
    let write = |name: &str, content: &[u8]| fs::write(directory.join(name), content).unwrap();
    let key = KeyPair::generate().unwrap();
    let other = KeyPair::generate().unwrap();
    let certificate = |key: &KeyPair, from: i32, to: i32| {
        let mut parameters = CertificateParams::new(["mail.example.org".to_owned()]).unwrap();
        parameters.not_before = date_time_ymd(from, 1, 1);
        parameters.not_after = date_time_ymd(to, 1, 1);
        parameters.self_signed(key).unwrap()
    };
    let valid = certificate(&key, 2020, 2120);
    write("key.pem", key.serialize_pem().as_bytes());
    write("certificate.pem", valid.pem().as_bytes());
    write("certificate.der", valid.der());
    write("other.key", other.serialize_pem().as_bytes());
    write("other.pem", certificate(&other, 2020, 2120).pem().as_bytes());
    write("expired.pem", certificate(&key, 2020, 2021).pem().as_bytes());
    write("future.pem", certificate(&key, 2100, 2105).pem().as_bytes());
    write("secret", b"0123456789abcdef0123456789abcdef\n");
    fs::create_dir(directory.join("files")).unwrap();
    for file in fs::read_dir(wrong().join("files")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), directory.join(file.file_name())).unwrap();
    }
    for file in fs::read_dir(directory).unwrap() {
        for_us_alone(&file.unwrap().path());
    }
}

#[cfg(unix)]
fn for_us_alone(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o700)).unwrap();
}

#[cfg(not(unix))]
fn for_us_alone(_: &Path) {}

fn wrong() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong")
}

/// Look at a difference, and accept it by `INSTA_UPDATE=always`.
#[test]
fn messages() {
    let directory = tempfile::tempdir().unwrap();
    make_files(directory.path());
    let mut files: Vec<_> = fs::read_dir(wrong())
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    assert!(files.len() >= 100, "only {} files", files.len());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("wrong");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for file in files {
            let name = file.file_stem().unwrap().to_str().unwrap();
            // The message of a popgate that has no old TLS.
            if cfg!(feature = "legacy-tls") && name.starts_with("legacy-") {
                continue;
            }
            let configuration = directory.path().join("gateway.toml");
            fs::copy(&file, &configuration).unwrap();
            for_us_alone(&configuration);
            let output = Command::new(env!("CARGO_BIN_EXE_popgate"))
                .arg("check")
                .current_dir(directory.path())
                .env_clear()
                .output()
                .unwrap();
            let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
            let said = format!("{out}{err}");
            let secret = ["hunter2", "hunter3"].into_iter().find(|secret| said.contains(secret));
            assert_eq!(secret, None, "{name} shows a secret:\n{said}");
            insta::assert_snapshot!(name, format!("exit {}\n{said}", output.status.code().unwrap_or(-1)));
        }
    });
}
