//! Grants to the application itself: client credentials by secret and by key, and service accounts.

use aws_lc_rs::{
    encoding::{AsDer, EcPrivateKeyRfc5915Der},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rcgen::{CertificateParams, KeyPair};

use super::{LOCAL, Lab, SignIn, XOAUTH2, account, lets_in, refuses};
use crate::support::{
    mail,
    provider::{CLIENT, CLIENT_SECRET, Entra, Trouble},
};

fn own(lab: &Lab, keys: &str) -> crate::support::gateway::Setup {
    lab.setup(&format!(
        "grant = \"client-credentials\"\nscopes = [\"mail/.default\"]\n{keys}"
    ))
}

#[test]
fn client_credentials_by_secret() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    lab.dovecot
        .user_with("adam", &[mail::simple(1), mail::simple(2), mail::simple(3)]);
    let gateway = own(&lab, &format!("client_secret = \"{CLIENT_SECRET}\""))
        .table(&account("fax", "adam", ""))
        .start();
    let printed = SignIn::begin(&gateway.file(), &["pbx"]).succeed();
    assert!(
        printed.contains("nobody needs to sign in") && printed.contains("the mailbox opens, 3 messages"),
        "{printed}"
    );
    let before = lab.provider.asked("client_credentials");
    lets_in(&gateway, "pbx");
    lets_in(&gateway, "fax");
    lets_in(&gateway, "pbx");
    assert_eq!(
        lab.provider.asked("client_credentials"),
        before + 1,
        "one token serves all accounts"
    );
}

#[test]
fn of_what_another_key_sealed_nobody_has_to_sign_in() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let gateway = own(&lab, &format!("client_secret = \"{CLIENT_SECRET}\"")).start();
    lets_in(&gateway, "pbx");
    let text = std::fs::read_to_string(gateway.file()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text.replace(lab.key, "another key of at least 32 octets")).unwrap();
    let list = SignIn::begin(file.path(), &["--list"]).succeed();
    assert!(!list.contains("sign-in"), "{list}");
}

#[test]
fn a_wrong_secret_is_for_people_to_mend() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let gateway = own(&lab, "client_secret = \"wrong\"").start();
    refuses(&gateway, "pbx", "SYS/PERM");
    let printed = SignIn::begin(&gateway.file(), &["pbx"]).fail();
    assert!(
        printed.contains("somebody") || printed.contains("provider"),
        "{printed}"
    );
    let warnings = gateway.events("popgate got no token", 1);
    let why = warnings[0]["error"].as_str().unwrap();
    assert!(why.contains("check client_id and client_secret_file"), "{why}");
}

fn pem(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        BASE64.encode(der)
    )
}

/// A key as `openssl ecparam -genkey` writes it: the name of the curve, and the key as in RFC 5915.
fn sec1(key: &KeyPair) -> String {
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.serialized_der()).unwrap();
    let key = AsDer::<EcPrivateKeyRfc5915Der>::as_der(&key.private_key()).unwrap();
    let curve = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    pem("EC PARAMETERS", &curve) + &pem("EC PRIVATE KEY", key.as_ref())
}

/// An RSA key as in RFC 8017 §A.1.2, which is the end of its PKCS #8 form.
fn pkcs1(key: &KeyPair) -> String {
    let der = key.serialized_der();
    let begin = der
        .windows(2)
        .skip(1)
        .position(|octets| octets == [0x30, 0x82])
        .unwrap()
        + 1;
    pem("RSA PRIVATE KEY", &der[begin..])
}

#[test]
fn client_credentials_by_key() {
    type Write = fn(&KeyPair) -> String;
    for (algorithm, write) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, KeyPair::serialize_pem as Write),
        (&rcgen::PKCS_ECDSA_P256_SHA256, sec1),
        (&rcgen::PKCS_RSA_SHA256, KeyPair::serialize_pem),
        (&rcgen::PKCS_RSA_SHA256, pkcs1),
    ] {
        let Some(lab) = Lab::new(XOAUTH2) else { return };
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let (key_file, certificate_file) = (lab.state.path().join("key.pem"), lab.state.path().join("crt.pem"));
        // Often one file contains both.
        std::fs::write(&key_file, certificate.pem() + &write(&key)).unwrap();
        std::fs::write(&certificate_file, certificate.pem()).unwrap();
        let keys = format!("private_key_file = {key_file:?}\ncertificate_file = {certificate_file:?}");
        // At first the provider knows another key.
        lab.provider.book().public_key = Some(KeyPair::generate_for(algorithm).unwrap().public_key_pem());
        refuses(&own(&lab, &keys).start(), "pbx", "SYS/PERM");
        lab.provider.book().public_key = Some(key.public_key_pem());
        lets_in(&own(&lab, &keys).start(), "pbx");
    }
}

/// Google answers `invalid_grant` for an unknown key or user too. A service account has no consent, so the gateway must
/// not ask for a sign-in.
#[test]
fn a_service_account_that_is_refused_needs_no_sign_in() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let file = lab.key_file();
    let setup = || {
        lab.setup(&format!(
            "grant = \"service-account\"\nscopes = [\"mail\"]\nprivate_key_file = {file:?}\nkey_id = \"k1\""
        ))
    };
    let gateway = setup().start();
    let unknown = Trouble::Refusal("invalid_grant", "Invalid email or User ID");
    lab.provider.book().troubles.push_back(unknown);
    for _ in 0..3 {
        refuses(&gateway, "pbx", "SYS/PERM");
    }
    // After the refusal the provider is not asked again for a moment.
    assert_eq!(lab.provider.asked("urn:ietf:params:oauth:grant-type:jwt-bearer"), 1);
    let told = gateway.events("popgate got no token", 1);
    let why = told[0]["error"].as_str().unwrap();
    assert!(why.contains("no such user") && !why.contains("sign-in"), "{why}");
    let list = SignIn::begin(&gateway.file(), &["--list"]).succeed();
    assert!(list.contains("no such user") && !list.contains("sign-in"), "{list}");
    gateway.stop();
    lets_in(&setup().start(), "pbx");
}

#[test]
fn a_service_account_speaks_for_each_user() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    lab.dovecot
        .user_with("adam", &[mail::simple(1), mail::simple(2), mail::simple(3)]);
    let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    lab.provider.book().public_key = Some(key.public_key_pem());
    let file = lab.state.path().join("robot.json");
    let json = serde_json::json!({
        "type": "service_account", "client_email": CLIENT, "private_key": key.serialize_pem(), "private_key_id": "k1",
        "token_uri": "https://oauth2.example.org/token",
    });
    std::fs::write(&file, json.to_string()).unwrap();
    let gateway = lab
        .setup(&format!(
            "grant = \"service-account\"\nscopes = [\"mail\"]\nprivate_key_file = {file:?}"
        ))
        .table(&account("fax", "adam", ""))
        .start();
    lets_in(&gateway, "pbx");
    lets_in(&gateway, "fax");
    assert_eq!(lab.bearer.seen(), ["XOAUTH2 eva in", "XOAUTH2 adam in"]);
    assert_eq!(lab.provider.asked("urn:ietf:params:oauth:grant-type:jwt-bearer"), 2);
}

#[test]
fn a_secret_in_the_header() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    lab.provider.book().basic_only = true;
    let secret = format!("client_secret = \"{CLIENT_SECRET}\"");
    refuses(&own(&lab, &secret).start(), "pbx", "SYS/PERM");
    let gateway = own(&lab, &format!("{secret}\nclient_authentication = \"basic\"")).start();
    lets_in(&gateway, "pbx");
}

/// The two forms of assertions that Entra documents. Entra accepts only the form that it expects.
#[test]
fn a_certificate_as_entra_takes_it() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap();
    let (key_file, certificate_file) = (lab.state.path().join("key.pem"), lab.state.path().join("crt.pem"));
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    std::fs::write(&certificate_file, certificate.pem()).unwrap();
    lab.provider.book().public_key = Some(key.public_key_pem());
    for (is_old_form, form, other) in [
        (false, "", "certificate_form = \"rs256\""),
        (true, "certificate_form = \"rs256\"", "certificate_form = \"ps256\""),
    ] {
        lab.provider.book().entra = Some(Entra {
            certificate: certificate.der().to_vec(),
            is_old_form,
        });
        let keys = format!("private_key_file = {key_file:?}\ncertificate_file = {certificate_file:?}");
        lab.provider.end_access("*");
        refuses(&own(&lab, &format!("{keys}\n{other}")).start(), "pbx", "SYS/PERM");
        lets_in(&own(&lab, &format!("{keys}\n{form}")).start(), "pbx");
    }
}

/// One rule for a whole domain. The passwords of the devices come from a file, which changes while the gateway runs.
#[test]
fn one_rule_for_many_mailboxes() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    lab.dovecot
        .user_with("adam", &[mail::simple(1), mail::simple(2), mail::simple(3)]);
    let file = lab.state.path().join("devices");
    let line = |login: &str, password: &str| {
        let secret = popgate::config::Secret::from(password);
        format!("{login}:{}\n", popgate::accounts::hash_password(&secret).unwrap())
    };
    let eva = line("eva@example.org", LOCAL);
    std::fs::write(&file, &eva).unwrap();
    for (grant, logins) in [("client-credentials", 1), ("service-account", 2)] {
        let key = lab.key_file();
        let rule = format!(
            "[[account]]\nlogin = \"*@example.org\"\npasswords_file = {file:?}\nupstream = \"lab\"\nuser = \"*\""
        );
        let keys = format!("grant = {grant:?}\nscopes = [\"mail\"]\nprivate_key_file = {key:?}\nkey_id = \"k1\"");
        let gateway = lab.setup(&keys).table(&rule).start();
        std::fs::write(&file, &eva).unwrap();
        lets_in(&gateway, "eva@EXAMPLE.org".to_lowercase().as_str());
        assert_eq!(lab.bearer.seen().last().unwrap(), "XOAUTH2 eva in");
        for unknown in ["adam@example.org", "eva@example.com", "*@example.org", "eva"] {
            refuses(&gateway, unknown, "AUTH");
        }
        std::fs::write(&file, format!("{eva}{}", line("adam@example.org", LOCAL))).unwrap();
        lets_in(&gateway, "adam@example.org");
        assert_eq!(lab.bearer.seen().last().unwrap(), "XOAUTH2 adam in");
        // A file that cannot be read changes nothing.
        std::fs::write(&file, "nonsense").unwrap();
        lets_in(&gateway, "eva@example.org");
        std::fs::write(&file, line("adam@example.org", LOCAL)).unwrap();
        refuses(&gateway, "eva@example.org", "AUTH");
        lets_in(&gateway, "adam@example.org");
        let asked = ["client_credentials", "urn:ietf:params:oauth:grant-type:jwt-bearer"]
            .map(|grant| lab.provider.asked(grant));
        assert_eq!(
            asked.iter().sum::<usize>(),
            logins + usize::from(grant == "service-account")
        );
    }
}
