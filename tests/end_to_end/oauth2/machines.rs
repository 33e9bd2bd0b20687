//! What programs are told of consents, and odd answers of providers.

use std::{path::Path, process::Command, time::Duration};

use serde_json::json;

use super::{Lab, XOAUTH2, lets_in, refuses, safety::Full};
use crate::support::{
    gateway::{Gateway, wind_on},
    provider::Trouble,
};

/// Some providers label their JSON as text, and some send an error with a status of success.
#[test]
fn answers_that_say_that_they_are_something_else_are_read() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    {
        let mut book = lab.provider.book();
        book.content_type = Some("text/plain; charset=utf-8");
        book.device_oddities = json!({ "expires_in": "900", "interval": "1", "verification_uri_complete": null });
    }
    let Some(gateway) = lab.after_a_day() else { return };
    lets_in(&gateway, "pbx");
    gateway.stop();
    let Some(gateway) = lab.days_later(2) else { return };
    let ended = Trouble::ErrorIn200("invalid_grant", "Token has been expired or revoked.");
    lab.provider.book().troubles.push_back(ended);
    refuses(&gateway, "pbx", "SYS/PERM");
    let told = gateway.events(
        "the consent has ended: somebody must sign in again (popgate sign-in)",
        1,
    );
    assert!(told[0]["error"].as_str().unwrap().contains("last 7 days"), "{told:?}");
}

/// If `check` needs a token beside a running gateway, the gateway renews it.
#[test]
fn check_beside_a_gateway_asks_the_gateway() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    lab.provider.book().grace = Some(Duration::ZERO);
    let Some(gateway) = lab.after_a_day() else { return };
    let check = || {
        let (status, printed) = popgate(&["check", "--connect"], &gateway.file());
        (status == Some(0), printed)
    };
    let (success, printed) = check();
    assert!(success && printed.contains("pbx → eva at 127.0.0.1"), "{printed}");
    assert_eq!(lab.provider.asked("refresh_token"), 1);
    lets_in(&gateway, "pbx");
    assert_eq!(lab.provider.asked("refresh_token"), 1);
    lab.provider.revoke("eva");
    let (success, printed) = check();
    assert!(!success && printed.contains("run popgate sign-in pbx"), "{printed}");
}

/// Runs `popgate` with its clock a day ahead. Returns its exit status and what it prints.
fn popgate(arguments: &[&str], config: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_popgate"));
    command.args(arguments).arg("--config").arg(config);
    wind_on(&mut command, 1);
    let output = command.output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(printed).unwrap())
}

/// Like [`popgate`], beside the running gateway, with its ports in the configuration.
fn beside(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, String) {
    popgate(arguments, &gateway.file_with_ports())
}

fn listed(printed: &str) -> serde_json::Value {
    let end = printed.rfind(']').map_or(0, |at| at + 1);
    serde_json::from_str(&printed[..end]).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

#[test]
fn programs_see_how_consents_stand() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(gateway) = lab.after_a_day() else { return };
    lets_in(&gateway, "pbx");
    let (status, printed) = beside(&gateway, &["sign-in", "--list", "--json"]);
    let list = listed(&printed);
    assert_eq!((status, list.as_array().unwrap().len()), (Some(0), 1), "{printed}");
    let entry = &list[0];
    for (key, value) in [
        ("login", json!("pbx")),
        ("upstream", json!("lab")),
        ("user", json!("eva")),
        ("signed_in_as", json!("eva")),
        ("state", json!("good")),
        ("renews", json!(true)),
        ("why", json!(null)),
    ] {
        assert_eq!(entry[key], value, "{key}: {printed}");
    }
    assert!(entry["signed_in"].as_str().unwrap().ends_with('Z'), "{printed}");
    assert_eq!(beside(&gateway, &["health", "--strict"]), (Some(0), String::new()));

    // A full disk is reported, until it has room again.
    lab.provider.end_access("eva");
    let full = Full::new(&lab);
    refuses(&gateway, "pbx", "SYS/TEMP");
    let (status, printed) = beside(&gateway, &["health", "--strict"]);
    assert!(
        status == Some(1) && printed.contains("tokens cannot be written"),
        "{printed}"
    );
    let (status, printed) = beside(&gateway, &["sign-in", "--list", "--json"]);
    assert!(
        status == Some(1) && listed(&printed)[0]["unwritable_since"].is_string(),
        "{printed}"
    );
    full.end();
    lets_in(&gateway, "pbx");
    assert_eq!(beside(&gateway, &["health", "--strict"]).0, Some(0));
    gateway.stop();

    lab.provider.revoke("eva");
    let Some(gateway) = lab.days_later(2) else { return };
    refuses(&gateway, "pbx", "SYS/PERM");
    let (status, printed) = beside(&gateway, &["sign-in", "--list", "--json"]);
    assert_eq!(
        (status, &listed(&printed)[0]["state"]),
        (Some(1), &json!("ended")),
        "{printed}"
    );
    assert!(printed.contains("last 7 days"), "{printed}");
    let (status, printed) = beside(&gateway, &["health", "--strict"]);
    assert!(
        status == Some(1) && printed.contains("pbx: needs a new sign-in since "),
        "{printed}"
    );
    assert_eq!(beside(&gateway, &["health"]).0, Some(0));
}
