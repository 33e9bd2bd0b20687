//! Where the application itself is trusted: client credentials by secret and by key, and service accounts.

use rcgen::{CertificateParams, KeyPair};

use super::{Lab, SignIn, XOAUTH2, account, lets_in, refuses};
use crate::support::{
    mail,
    provider::{CLIENT, CLIENT_SECRET},
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
        printed.contains("nobody needs to sign in") && printed.contains("it opens, 3 messages"),
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
fn a_wrong_secret_is_for_people_to_mend() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let gateway = own(&lab, "client_secret = \"wrong\"").start();
    refuses(&gateway, "pbx", "SYS/PERM");
    let printed = SignIn::begin(&gateway.file(), &["pbx"]).fail();
    assert!(
        printed.contains("somebody") || printed.contains("provider"),
        "{printed}"
    );
    let warnings = gateway.events("no token", 1);
    let why = warnings[0]["error"].as_str().unwrap();
    assert!(why.contains("check client_id and client_secret_file"), "{why}");
}

#[test]
fn client_credentials_by_key() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_RSA_SHA256] {
        let Some(lab) = Lab::new(XOAUTH2) else { return };
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let (key_file, certificate_file) = (lab.state.path().join("key.pem"), lab.state.path().join("crt.pem"));
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        std::fs::write(&certificate_file, certificate.pem()).unwrap();
        let keys = format!("private_key_file = {key_file:?}\ncertificate_file = {certificate_file:?}");
        // Of another key first.
        lab.provider.book().public_key = Some(KeyPair::generate_for(algorithm).unwrap().public_key_pem());
        refuses(&own(&lab, &keys).start(), "pbx", "SYS/PERM");
        lab.provider.book().public_key = Some(key.public_key_pem());
        lets_in(&own(&lab, &keys).start(), "pbx");
    }
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
