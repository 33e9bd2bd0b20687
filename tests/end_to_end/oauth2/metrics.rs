//! What probes and metrics say about consents and tokens.

use super::{Lab, XOAUTH2, account, lets_in, refuses};
use crate::support::web::{self, Web};

#[test]
fn consents_and_tokens_are_counted_and_one_that_has_ended_is_told() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    lab.consent_of(90);
    // The access token has expired meanwhile.
    let Some(setup) = lab.by_device().days_ahead(1) else {
        return;
    };
    let gateway = setup.table(&account("fax", "adam", "")).table(&web::table()).start();
    let web = Web::of(&gateway);
    let consents = |state: &str| web.metric(&format!("popgate_consents{{upstream=\"lab\",state=\"{state}\"}}"));
    let tokens = |outcome: &str| {
        let series = format!("popgate_token_refreshes_total{{upstream=\"lab\",outcome=\"{outcome}\"}}");
        web.metric(&series)
    };
    assert_eq!(
        (consents("good"), consents("missing"), consents("ended")),
        (Some(1.0), Some(1.0), None)
    );
    assert_eq!(
        web.get("/readyz").json()["status"],
        "ready",
        "nobody has signed in for fax yet"
    );
    lets_in(&gateway, "pbx");
    assert!(tokens("ok") >= Some(1.0));
    let text = web.get("/metrics").body;
    for secret in ["pbx", "eva", "fax", "adam"] {
        assert!(!text.contains(secret), "{secret} in\n{text}");
    }
    gateway.stop();

    lab.provider.revoke("eva");
    let Some(setup) = lab.by_device().days_ahead(2) else {
        return;
    };
    let gateway = setup.table(&web::table()).start();
    let web = Web::of(&gateway);
    refuses(&gateway, "pbx", "SYS/PERM");
    let answer = web.get("/readyz");
    let told = answer.json();
    assert_eq!((answer.status, &told["status"]), (200, &"degraded".into()), "{told}");
    let what = told["degraded"]["consents of lab"].as_str().unwrap();
    assert!(
        what.contains("popgate sign-in --list") && !answer.body.contains("pbx"),
        "{what}"
    );
    assert_eq!(web.get("/readyz?strict").status, 503);
    assert_eq!(
        web.metric("popgate_consents{upstream=\"lab\",state=\"ended\"}"),
        Some(1.0)
    );
    assert_eq!(
        web.metric("popgate_unhealthy{part=\"consents of lab\",severity=\"degraded\"}"),
        Some(1.0)
    );
    assert!(web.metric("popgate_token_refreshes_total{upstream=\"lab\",outcome=\"sign-in\"}") >= Some(1.0));
}
