use rcgen::{CertificateParams, KeyPair};

use super::{answer::DEVICES, *};
use crate::config::{Credential, Grant, LocalSecret, OnDelete};

/// Asks for a configuration with these answers; returns the result and what was printed.
fn answered(answers: &str) -> (Result<Answers, Failure>, String) {
    let mut out = Vec::new();
    let mut questions = Questions::new(answers.as_bytes(), &mut out, false);
    let answers = ask(&mut questions, Path::new("/nowhere/gateway.toml"));
    (answers, String::from_utf8(out).unwrap())
}

#[track_caller]
fn accepted(answers: &str) -> Answers {
    let (result, printed) = answered(answers);
    result.unwrap_or_else(|failure| panic!("{failure}\n{printed}"))
}

/// Writes the files to a new directory and reads them as `serve` does.
fn configuration(draft: &Draft) -> (Config, Vec<PathBuf>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.toml");
    let written = write(&file, draft).unwrap_or_else(|failure| panic!("{failure}\n{}", draft.text()));
    let text = fs::read_to_string(&file).unwrap();
    (Config::parse(&text, directory.path()).unwrap(), written, directory)
}

#[test]
fn every_provider_and_policy_gives_a_valid_configuration() {
    let policies = [
        ("", None),
        ("trash", Some(OnDelete::Trash)),
        ("expunge", Some(OnDelete::Expunge)),
        ("hide", Some(OnDelete::Hide)),
        ("move:Done \"here\"\\", Some(OnDelete::MoveTo("Done \"here\"\\".into()))),
    ];
    let mut devices = (1..=DEVICES.len()).cycle();
    let mut count = 0;
    for preset in Preset::all() {
        for (policy, expected) in &policies {
            let device = devices.next().unwrap();
            let secrets = match (&preset.passwords, preset.tenant()) {
                (Some(_), _) => "kestrel\n1234",
                (None, Some(_)) => "id-7\n\n\n1234",
                (None, None) => "id-7\n\n1234",
            };
            let answers = format!("office@example.org\n{}\n{device}\n\n{policy}\n{secrets}\n", preset.name);
            let (config, ..) = configuration(&accepted(&answers).draft);
            let account = &config.accounts[0];
            let by_device = match DEVICES[device - 1].policy {
                "trash" => OnDelete::Trash,
                "hide" => OnDelete::Hide,
                _ => OnDelete::Expunge,
            };
            assert_eq!(
                account.maildrop.on_delete,
                expected.clone().unwrap_or(by_device),
                "{}",
                preset.name
            );
            assert_eq!(account.upstream.host, preset.host);
            assert!(matches!(account.secret, LocalSecret::Hash(_)));
            match &account.credential {
                Credential::Password(password) => assert_eq!(password.expose(), b"kestrel", "{}", preset.name),
                Credential::OAuth2 { .. } => assert!(config.state.key.is_some(), "{}", preset.name),
                other => panic!("{other:?}"),
            }
            count += 1;
        }
    }
    assert!(count > 100, "only {count}");
}

#[test]
fn mere_line_ends_take_what_is_suggested() {
    let (result, printed) = answered("office@example.org\n\n\n\n\nkestrel\n\n");
    let answers = result.unwrap_or_else(|failure| panic!("{failure}\n{printed}"));
    for suggested in ["[imap.example.org] > ", "[1] > ", "[127.0.0.1:1110] > ", "[trash] > "] {
        assert!(printed.contains(suggested), "{printed}");
    }
    let made = answers.made.as_ref().unwrap().clone();
    assert_eq!((made.len(), made.split('-').count()), (19, 4), "{}", *made);
    let (config, written, directory) = configuration(&answers.draft);
    assert_eq!(config.upstreams[0].host, "imap.example.org");
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:1110");
    assert_eq!(config.state.dir, Some(directory.path().join("state")));
    let names: Vec<_> = written
        .iter()
        .map(|file| file.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(names, ["upstream-password", "gateway.toml"]);
    let text = fs::read_to_string(directory.path().join("gateway.toml")).unwrap();
    assert!(!text.contains("kestrel") && !text.contains(&**made), "{text}");
    let told = answers.conclusion(Path::new(CONFIG), &written);
    assert!(told.contains(&format!("password  {} (note it now", *made)), "{told}");
    assert!(
        told.contains("server    this machine (127.0.0.1), port 1110, without TLS"),
        "{told}"
    );
    assert!(
        told.ends_with("Next:\n  popgate check --connect\n  popgate serve"),
        "{told}"
    );
    assert!(!told.contains("kestrel"), "{told}");
}

#[cfg(unix)]
#[test]
fn files_are_for_our_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let draft = accepted("office@example.org\ngmail\npbx\n110\n\n\nid-7\nshh\n1234\n").draft;
    let (_, written, _directory) = configuration(&draft);
    assert_eq!(written.len(), 3);
    for file in written {
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

#[test]
fn where_no_password_works_somebody_signs_in() {
    let answers = accepted("office@example.com\noffice365\npbx\n\n\nid-7\nexample.com\n\n1234\n");
    let (config, written, _directory) = configuration(&answers.draft);
    let oauth2 = config.upstreams[0].oauth2.as_ref().unwrap();
    assert_eq!(oauth2.client_id, "id-7");
    assert!(oauth2.token_url.contains("/example.com/"), "{}", oauth2.token_url);
    assert!(matches!(oauth2.grant, Grant::Device { .. }));
    let told = answers.conclusion(Path::new("/etc/my gateway/a.toml"), &written);
    assert!(
        told.contains("  popgate sign-in office@example.com --config '/etc/my gateway/a.toml'\n  popgate check"),
        "{told}"
    );
    assert!(told.contains("password  the one that you gave"), "{told}");
    // Gmail takes passwords too; here the user chooses tokens.
    let answers = accepted("anna@gmail.com\n\nold\n\n\n\nid-8\nshh\n\n");
    let (config, ..) = configuration(&answers.draft);
    assert!(matches!(config.accounts[0].credential, Credential::OAuth2 { .. }));
}

#[test]
fn the_logins_of_a_domain_are_forwarded() {
    let answers = accepted("*@example.org\nimap.example.org:143\nold\n[::]:1110\n\n");
    let (config, written, _directory) = configuration(&answers.draft);
    assert_eq!(config.upstreams[0].logins, ["*@example.org"]);
    assert_eq!(
        (config.upstreams[0].port, config.accounts.len(), written.len()),
        (143, 0, 1)
    );
    let told = answers.conclusion(Path::new("other.toml"), &written);
    assert!(
        told.contains("user      that of the user at the IMAP server (*@example.org)"),
        "{told}"
    );
    assert!(told.contains("password  that of the user at the IMAP server"), "{told}");
    assert!(told.contains("popgate serve --config other.toml"), "{told}");
}

#[test]
fn a_wrong_answer_is_asked_again_with_what_is_wrong() {
    let answers = "\nnobody here\noffice@example.org\ngmial\nimap.example.org\nscanner\n2\nport\n110\nburn\nhide\n\nkestrel\n1234\n";
    let (result, printed) = answered(answers);
    let draft = result.unwrap_or_else(|failure| panic!("{failure}\n{printed}")).draft;
    for wrong in [
        "an answer is needed",
        "\"nobody here\" is not an address",
        "did you mean `gmail`?",
        "\"scanner\" is not in the list",
        "\"port\" is not a port",
        "\"burn\" is not one of these",
    ] {
        assert_eq!(
            printed.matches(wrong).count(),
            if wrong.starts_with("an ") { 2 } else { 1 },
            "{wrong}:\n{printed}"
        );
    }
    assert_eq!(draft.listener.address.to_string(), "0.0.0.0:110");
    assert_eq!(draft.policy, "hide");
}

#[test]
fn answers_that_end_too_soon_are_one_error() {
    let all = "office@example.org\n\n\n\n\nkestrel\n1234\n";
    let lines: Vec<&str> = all.lines().collect();
    for count in 0..lines.len() {
        let some: String = lines[..count].iter().map(|line| format!("{line}\n")).collect();
        let (result, _) = answered(&some);
        let failure = result.map(drop).unwrap_err().to_string();
        assert!(
            failure.starts_with("the answers end before this question: "),
            "{failure}"
        );
        assert!(
            failure.ends_with("Nothing was written") && !failure.contains('\n'),
            "{failure}"
        );
    }
}

#[test]
fn a_certificate_is_tried_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let parameters = CertificateParams::new(["mail.example.org".to_owned()]).unwrap();
    fs::write(path("chain"), parameters.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(path("key"), key.serialize_pem()).unwrap();
    fs::write(path("other"), other.serialize_pem()).unwrap();
    let [chain, key, other] = ["chain", "key", "other"].map(|name| path(name).display().to_string());
    let answers = format!("office@example.org\n\n\n995\n{chain}\n{other}\n/nowhere\n{chain}\n{key}\n\nkestrel\n1234\n");
    let (result, printed) = answered(&answers);
    let draft = result.unwrap_or_else(|failure| panic!("{failure}\n{printed}")).draft;
    assert!(printed.contains("/nowhere cannot be read: "), "{printed}");
    let (config, ..) = configuration(&draft);
    assert_eq!(config.listeners[0].tls, ListenerTls::Implicit);
    assert_eq!(config.tls[0].key, path("key"));
}

#[test]
fn what_is_there_stays_and_nothing_else_is_left() {
    let draft = accepted("office@example.org\ngmail\npbx\n110\n\n\nid-7\nshh\n1234\n").draft;
    for taken in ["gateway.toml", "state-key", "client-secret"] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(taken);
        fs::write(&file, "mine").unwrap();
        let configuration = directory.path().join("gateway.toml");
        for refused in [may_be_written(&configuration), write(&configuration, &draft).map(drop)] {
            let failure = refused.unwrap_err().to_string();
            assert!(
                failure.contains(taken) && failure.contains("is there already"),
                "{failure}"
            );
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "{taken}");
    }
    let failure = may_be_written(Path::new("/nowhere/gateway.toml"))
        .unwrap_err()
        .to_string();
    assert_eq!(failure, "there is no directory /nowhere: make it first");
    let failure = write(Path::new("/nowhere/gateway.toml"), &draft)
        .unwrap_err()
        .to_string();
    assert!(failure.starts_with("cannot write /nowhere/state-key: "), "{failure}");
}

#[test]
fn a_configuration_of_the_system_has_its_state_elsewhere() {
    let mut questions = Questions::new(&b"*@example.org\n\n\n\n\n"[..], io::sink(), false);
    let answers = ask(&mut questions, Path::new("/etc/popgate/gateway.toml")).unwrap_or_else(|_| unreachable!());
    assert!(answers.draft.text().contains("dir = \"/var/lib/popgate\"\n"));
}
