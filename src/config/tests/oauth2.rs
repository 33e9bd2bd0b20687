use std::path::Path;

use super::errors::error;
use crate::config::{
    ClientAuthentication, ClientProof, Config, Credential, Grant, OAuth2, OnDelete, Upstream, UpstreamTls,
    load::layered,
};

/// Puts `text`, which is an upstream with OAuth2, behind a state and an account that suit it.
fn around(text: &str) -> String {
    format!(
        "[state]\ndir = \"data\"\nkey = \"0123456789abcdef0123456789abcdef\"\n[[account]]\nlogin = \"pbx\"\npassword = \"p\"\n\
         upstream = \"home\"\nuser = \"voice@example.org\"\n{text}"
    )
}

#[track_caller]
fn parsed(text: &str, directory: &Path) -> (Config, Vec<String>) {
    let loaded = layered(Path::new("gateway.toml"), around(text), directory, Vec::new());
    let loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
    (loaded.config, loaded.warnings)
}

#[track_caller]
fn upstream(text: &str) -> (std::sync::Arc<Upstream>, std::sync::Arc<OAuth2>) {
    let (config, _) = parsed(text, Path::new(""));
    let upstream = config.upstreams[0].clone();
    let oauth2 = upstream.oauth2.clone().unwrap();
    (upstream, oauth2)
}

/// Expects an error about `key` of `[upstream.home.oauth2]` that contains `part`.
#[track_caller]
fn expect(text: &str, key: &str, part: &str) {
    let error = error(&around(text));
    assert!(error.contains(&format!("`upstream.home.oauth2{key}`: ")), "{error}");
    assert!(error.contains(part), "{error}");
    assert!(error.contains("\nhelp: "), "{error}");
}

#[test]
fn gmail_needs_no_more_than_a_client() {
    let (upstream, oauth2) = upstream(
        "[upstream.home]\npreset = \"gmail\"\n[upstream.home.oauth2]\nclient_id = \"id\"\nclient_secret = \"s\"",
    );
    assert_eq!((upstream.host.as_str(), upstream.port), ("imap.gmail.com", 993));
    assert_eq!(upstream.tls, UpstreamTls::Implicit);
    assert_eq!(upstream.connections_per_user, 10);
    assert_eq!(upstream.maildrop.on_delete, OnDelete::Trash);
    assert!(matches!(&oauth2.grant, Grant::Code { authorize_url } if authorize_url.contains("access_type=offline")));
    assert_eq!(oauth2.token_url, "https://oauth2.googleapis.com/token");
    assert_eq!(oauth2.scopes, ["https://mail.google.com/"]);
    assert!(matches!(&oauth2.proof, ClientProof::Secret(secret, _) if secret.expose() == b"s"));
    expect(
        "[upstream.home]\npreset = \"gmail\"\n[upstream.home.oauth2]\ngrant = \"device\"\nclient_id = \"id\"",
        ".device_url",
        "gmail gives no device codes for mail: take grant = \"code\"",
    );
}

#[test]
fn microsoft_needs_no_more_than_a_client() {
    let (upstream, oauth2) =
        upstream("[upstream.home]\npreset = \"microsoft365\"\n[upstream.home.oauth2]\nclient_id = \"id\"");
    assert_eq!(upstream.host, "outlook.office365.com");
    let Grant::Device {
        device_url,
        authorize_url,
    } = &oauth2.grant
    else {
        panic!("{:?}", oauth2.grant);
    };
    assert_eq!(
        device_url,
        "https://login.microsoftonline.com/organizations/oauth2/v2.0/devicecode"
    );
    assert!(authorize_url.is_some());
    assert!(oauth2.scopes.contains(&"offline_access".to_owned()));
    assert!(matches!(oauth2.proof, ClientProof::Public));

    let own = "[upstream.home]\npreset = \"microsoft365\"\n[upstream.home.oauth2]\ngrant = \"client-credentials\"\n\
               client_id = \"id\"\nclient_secret = \"s\"\n";
    expect(own, ".tenant", "is missing");
    let (_, oauth2) = super::oauth2::upstream(&format!("{own}tenant = \"example.org\""));
    assert_eq!(
        oauth2.token_url,
        "https://login.microsoftonline.com/example.org/oauth2/v2.0/token"
    );
    assert_eq!(oauth2.scopes, ["https://outlook.office365.com/.default"]);
    expect(&format!("{own}tenant = \"a/b\""), ".tenant", "is not a valid tenant");
}

#[test]
fn explicit_keys_win_over_the_preset() {
    let (upstream, oauth2) = upstream(
        "[upstream.home]\npreset = \"gmail\"\nhost = \"127.0.0.1\"\nport = 1993\nmaildrop = { on_delete = \"hide\" }\n\
         [upstream.home.oauth2]\nclient_id = \"id\"\ntoken_url = \"http://127.0.0.1:1/token\"\nscopes = [\"x\"]",
    );
    assert_eq!((upstream.host.as_str(), upstream.port), ("127.0.0.1", 1993));
    assert_eq!(upstream.maildrop.on_delete, OnDelete::Hide);
    assert_eq!(oauth2.token_url, "http://127.0.0.1:1/token");
    assert_eq!(oauth2.scopes, ["x"]);
}

#[test]
fn a_provider_of_ones_own() {
    let own = "[upstream.home]\nhost = \"imap.example.org\"\n[upstream.home.oauth2]\nclient_id = \"id\"\n";
    expect(own, ".grant", "is missing");
    expect(
        &format!("{own}grant = \"devise\""),
        ".grant",
        "did you mean \"device\"?",
    );
    expect(
        &format!("{own}device_url = \"https://x/d\""),
        ".token_url",
        "is missing",
    );
    expect(
        &format!("{own}device_url = \"http://x/d\"\ntoken_url = \"https://x/t\""),
        ".device_url",
        "is not an https:// URL",
    );
    expect(
        &format!("{own}authorize_url = \"/a\"\ntoken_url = \"https://x/t\""),
        ".authorize_url",
        "is not a valid URL",
    );
    expect(
        &format!("{own}grant = \"client-credentials\"\ntoken_url = \"https://x/t\""),
        ".client_secret",
        "is missing",
    );
    expect(
        &format!("{own}grant = \"service-account\"\ntoken_url = \"https://x/t\""),
        ".private_key_file",
        "is missing",
    );
    expect(
        &format!("{own}device_url = \"https://x/d\"\ntoken_url = \"https://x/t\"\nscopes = [\"a b\"]"),
        ".scopes",
        "holds a space",
    );
    expect(
        &format!("{own}device_url = \"https://x/d\"\ntoken_url = \"https://x/t\"\ntenant = \"t\""),
        ".tenant",
        "has no meaning here",
    );
    let (_, oauth2) = upstream(&format!(
        "{own}device_url = \"https://x/d\"\ntoken_url = \"https://x/t\""
    ));
    assert!(matches!(
        &oauth2.grant,
        Grant::Device {
            authorize_url: None,
            ..
        }
    ));
    let (_, oauth2) = upstream(&format!(
        "{own}authorize_url = \"https://x/a\"\ntoken_url = \"https://x/t\""
    ));
    assert!(matches!(oauth2.grant, Grant::Code { .. }));
}

#[test]
fn keys_and_certificates_come_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let pair = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
    let pem = pair.signing_key.serialize_pem();
    write("key.pem", &pem);
    write("certificate.pem", &pair.cert.pem());
    write("none.pem", "nothing");
    let other = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
    write("other.pem", &other.cert.pem());
    let unusual = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    write("ed25519.pem", &unusual.serialize_pem());
    let google = serde_json::json!({
        "type": "service_account", "client_email": "robot@example.org", "private_key": pem, "private_key_id": "k1",
        "token_uri": "https://oauth2.googleapis.com/token",
    });
    write("google.json", &google.to_string());

    let service = "[upstream.home]\npreset = \"gmail\"\n[upstream.home.oauth2]\ngrant = \"service-account\"\n";
    let (config, warnings) = parsed(
        &format!("{service}private_key_file = \"google.json\""),
        directory.path(),
    );
    let oauth2 = config.upstreams[0].oauth2.as_ref().unwrap();
    assert_eq!(oauth2.client_id, "robot@example.org");
    assert_eq!(oauth2.scopes, ["https://mail.google.com/"]);
    let ClientProof::Key(key) = &oauth2.proof else { panic!() };
    assert_eq!(key.key_id.as_deref(), Some("k1"));
    let kept = rcgen::KeyPair::from_pem(std::str::from_utf8(key.pem.expose()).unwrap()).unwrap();
    assert_eq!(kept.public_key_pem(), pair.signing_key.public_key_pem());
    assert!(
        warnings.iter().any(|warning| warning.contains("google.json")),
        "{warnings:?}"
    );

    let own = "[upstream.home]\npreset = \"microsoft365\"\n[upstream.home.oauth2]\ngrant = \"client-credentials\"\n\
               client_id = \"id\"\ntenant = \"example.org\"\n";
    let keys = "private_key_file = \"key.pem\"\ncertificate_file = \"certificate.pem\"\n";
    let (config, _) = parsed(&format!("{own}{keys}"), directory.path());
    let ClientProof::Key(key) = &config.upstreams[0].oauth2.as_ref().unwrap().proof else {
        panic!()
    };
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, pair.cert.der());
    assert_eq!(key.thumbprint.unwrap(), digest.as_ref());

    let failure = |keys: &str| {
        let text = around(&format!("{own}{keys}"));
        layered(Path::new("gateway.toml"), text, directory.path(), Vec::new())
            .unwrap_err()
            .to_string()
    };
    assert!(failure("private_key_file = \"none.pem\"").contains("holds no private key"));
    let unusual = failure("private_key_file = \"ed25519.pem\"");
    assert!(
        unusual.contains("neither RSA of at least 2048 bits nor EC P-256"),
        "{unusual}"
    );
    let foreign = failure("private_key_file = \"key.pem\"\ncertificate_file = \"other.pem\"");
    assert!(
        foreign.contains("`upstream.home.oauth2.certificate_file`: other.pem: does not belong to the key"),
        "{foreign}"
    );
    assert!(
        failure("private_key_file = \"key.pem\"\ncertificate_file = \"none.pem\"").contains("holds no certificate")
    );
    assert!(
        failure("certificate_file = \"certificate.pem\"")
            .contains("`upstream.home.oauth2.private_key_file`: is missing")
    );
    assert!(failure("private_key_file = \"key.pem\"\nclient_secret = \"s\"").contains("is given too"));
}

#[test]
fn accounts_have_a_consent_instead_of_a_password() {
    let text = "[upstream.home]\npreset = \"gmail\"\n[upstream.home.oauth2]\nclient_id = \"id\"\n";
    let (config, _) = parsed(text, Path::new(""));
    assert!(matches!(&config.accounts[0].credential, Credential::OAuth2 { consent } if consent == "voice@example.org"));
    let more = "[[account]]\nlogin = \"b\"\npassword = \"p\"\nupstream = \"home\"\n";
    let (config, _) = parsed(&format!("{text}{more}signed_in_as = \"admin\""), Path::new(""));
    assert!(matches!(&config.accounts[1].credential, Credential::OAuth2 { consent } if consent == "admin"));
    let error_of = |text: &str| error(&around(text));
    let wrong = error_of(&format!("{text}{more}upstream_password = \"p\""));
    assert!(
        wrong.contains("`account[1].upstream_password`: has no meaning here"),
        "{wrong}"
    );
    let none = error_of("[upstream.home]\nhost = \"imap.example.org\"\n");
    assert!(none.contains("`account[0].upstream_password`: is missing"), "{none}");
    let none = error_of("[upstream.home]\npreset = \"outlook\"\n");
    assert!(none.contains("takes none: add [upstream.home.oauth2]"), "{none}");
    let none = error_of("[upstream.home]\npreset = \"icloud\"\n");
    assert!(none.contains("app-specific password"), "{none}");
    let unknown = error_of("[upstream.home]\npreset = \"gmial\"\n");
    assert!(unknown.contains("did you mean `gmail`?"), "{unknown}");
    let forwarded = error_of(&text.replace("preset", "logins = [\"*\"]\npreset"));
    assert!(forwarded.contains("takes no `logins`"), "{forwarded}");
}

#[test]
fn tokens_must_be_kept_and_sealed() {
    let text = "[upstream.home]\npreset = \"gmail\"\n[upstream.home.oauth2]\nclient_id = \"id\"\n[[account]]\nlogin = \"a\"\n\
                password = \"p\"\nupstream = \"home\"\n";
    assert!(error(text).contains("needs `dir` in [state]"));
    assert!(error(&format!("{text}[state]\ndir = \"d\"\n")).contains("needs `key_file` (or `key`) in [state]"));
    let short = error(&format!("{text}[state]\ndir = \"d\"\nkey = \"short\"\n"));
    assert!(short.contains("`state.key`: has less than 32 octets"), "{short}");
}

#[test]
fn the_page_needs_an_address_and_a_password() {
    let text = "[upstream.home]\npreset = \"gmail\"\n[upstream.home.oauth2]\nclient_id = \"id\"\n[web]\n";
    let wrong = |web: &str| error(&around(&format!("{text}{web}")));
    assert!(wrong("admin_password = \"a\"").contains("`web.address`: is missing"));
    assert!(wrong("address = \"8080\"\nadmin_password = \"a\"").contains("is not a valid address with a port"));
    assert!(wrong("address = \"127.0.0.1:8080\"").contains("`web.admin_password`: is missing"));
    let right = "address = \"127.0.0.1:8080\"\nadmin_password = \"a\"\n";
    assert!(wrong(&format!("{right}public_url = \"mail.example.org\"")).contains("is not a valid URL of a page"));
    let (config, warnings) = parsed(
        &format!("{text}{right}public_url = \"https://mail.example.org/popgate/\""),
        Path::new(""),
    );
    assert_eq!(
        config.web.unwrap().public_url.as_deref(),
        Some("https://mail.example.org/popgate")
    );
    assert!(
        !warnings.iter().any(|warning| warning.contains("web.address")),
        "{warnings:?}"
    );
    let (_, warnings) = parsed(
        &format!("{text}address = \"0.0.0.0:8080\"\nadmin_password = \"a\"\n"),
        Path::new(""),
    );
    assert!(
        warnings.iter().any(|warning| warning.contains("in plain text")),
        "{warnings:?}"
    );
}

#[test]
fn risks_of_tokens() {
    let risk = |text: &str, part: &str| {
        let (_, warnings) = parsed(text, Path::new(""));
        assert!(warnings.iter().any(|warning| warning.contains(part)), "{warnings:?}");
    };
    risk(
        "[upstream.home]\npreset = \"gmail\"\n[upstream.home.oauth2]\nclient_id = \"id\"\nscopes = [\"email\"]",
        "scopes lack \"https://mail.google.com/\"",
    );
    risk(
        "[upstream.home]\npreset = \"outlook\"\n[upstream.home.oauth2]\nclient_id = \"id\"\nscopes = [\"x\"]",
        "the consent ends with its first token",
    );
    let (_, warnings) = parsed(
        "[upstream.home]\npreset = \"gmail\"\n[upstream.home.oauth2]\nclient_id = \"id\"",
        Path::new(""),
    );
    let others: Vec<_> = warnings
        .iter()
        .filter(|warning| !warning.contains("holds passwords"))
        .collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn providers_as_they_are() {
    let own = "[upstream.home]\nhost = \"imap.example.org\"\n[upstream.home.oauth2]\nclient_id = \"id\"\n\
               authorize_url = \"https://x/a\"\ntoken_url = \"https://x/t\"\n";
    let (_, oauth2) = upstream(&format!(
        "{own}client_secret = \"s\"\nclient_authentication = \"basic\"\nredirect_url = \"https://x/verification_code\"\n\
         revoke_url = \"https://x/r\"\nissuer = \"https://x/issuer\""
    ));
    assert!(matches!(
        &oauth2.proof,
        ClientProof::Secret(_, ClientAuthentication::Basic)
    ));
    assert_eq!(oauth2.redirect_url.as_deref(), Some("https://x/verification_code"));
    assert_eq!(oauth2.revoke_url.as_deref(), Some("https://x/r"));
    assert_eq!(oauth2.issuer.as_deref(), Some("https://x/issuer"));
    expect(
        &format!("{own}client_authentication = \"basic\""),
        ".client_authentication",
        "has no meaning",
    );
    expect(
        &format!("{own}client_secret = \"s\"\nclient_authentication = \"digest\""),
        ".client_authentication",
        "digest",
    );
    expect(
        &format!("{own}redirect_url = \"verification_code\""),
        ".redirect_url",
        "is not a valid URL",
    );
    expect(
        &format!("{own}certificate_form = \"rs256\""),
        ".certificate_form",
        "has no meaning",
    );
}

#[test]
fn a_grant_that_a_provider_has_not_is_an_error() {
    for (preset, grant, others) in [
        ("gmail", "client-credentials", "\"code\", \"service-account\""),
        (
            "microsoft365",
            "service-account",
            "\"device\", \"code\", \"client-credentials\"",
        ),
        ("outlook", "client-credentials", "\"device\", \"code\""),
        ("yahoo", "device", "take grant = \"code\""),
        ("fastmail", "client-credentials", "\"code\""),
        ("mailru", "service-account", "\"code\""),
    ] {
        let text = format!(
            "[upstream.home]\npreset = \"{preset}\"\n[upstream.home.oauth2]\nclient_id = \"id\"\nclient_secret = \"s\"\n\
             grant = \"{grant}\""
        );
        let error = error(&around(&text));
        assert!(error.contains(others), "{preset} {grant}: {error}");
    }
    let (_, yandex) = upstream(
        "[upstream.home]\npreset = \"yandex\"\n[upstream.home.oauth2]\nclient_id = \"id\"\ngrant = \"device\"",
    );
    assert!(
        matches!(&yandex.grant, Grant::Device { device_url, .. } if device_url == "https://oauth.yandex.com/device/code")
    );
    let (_, mailru) = upstream("[upstream.home]\npreset = \"mailru\"\n[upstream.home.oauth2]\nclient_id = \"id\"");
    assert_eq!(mailru.scopes, ["userinfo", "mail.imap"]);
    let (_, zoho) = upstream("[upstream.home]\npreset = \"zoho\"\n[upstream.home.oauth2]\nclient_id = \"id\"");
    assert_eq!(zoho.token_url, "https://accounts.zoho.com/oauth/v2/token");
}

#[test]
fn a_rule_needs_a_trusted_application_and_a_file() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("devices"), "").unwrap();
    let own = "[upstream.own]\npreset = \"microsoft365\"\n[upstream.own.oauth2]\ngrant = \"client-credentials\"\ntenant = \"t\"\n\
               client_id = \"id\"\nclient_secret = \"s\"\n[upstream.home]\npreset = \"gmail\"\n[upstream.home.oauth2]\n\
               client_id = \"id\"\n";
    let rule = |keys: &str| {
        let text = around(&format!("{own}[[account]]\n{keys}"));
        layered(Path::new("gateway.toml"), text, directory.path(), Vec::new())
    };
    let file = "passwords_file = \"devices\"\n";
    let loaded = rule(&format!("login = \"*@example.org\"\n{file}upstream = \"own\"")).unwrap();
    assert_eq!(loaded.config.accounts[1].user, "*@example.org");
    assert!(loaded.config.accounts[1].is_rule());
    for (keys, key, part) in [
        (
            format!("login = \"*@*\"\n{file}upstream = \"own\""),
            "login",
            "more than one",
        ),
        (
            "login = \"*@x\"\npassword = \"p\"\nupstream = \"own\"".into(),
            "passwords_file",
            "is missing",
        ),
        (
            format!("login = \"*@x\"\n{file}upstream = \"home\""),
            "login",
            "has no meaning here",
        ),
        (
            format!("login = \"a\"\n{file}password = \"p\"\nupstream = \"own\""),
            "passwords_file",
            "is given too",
        ),
    ] {
        let error = rule(&keys).unwrap_err().to_string();
        assert!(
            error.contains(&format!("`account[1].{key}`: ")) && error.contains(part),
            "{error}"
        );
    }
    std::fs::write(directory.path().join("devices"), "eva:plain").unwrap();
    let error = rule(&format!("login = \"*@x\"\n{file}upstream = \"own\""))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("devices: line 1: is not a valid PHC string") && !error.contains("plain"),
        "{error}"
    );
}
