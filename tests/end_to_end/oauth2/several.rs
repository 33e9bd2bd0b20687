//! Gateways that share state: a consent is renewed by one of them, because the provider takes each refresh token once.

use super::{Lab, XOAUTH2, lets_in, log_in_at_once};
use crate::support::{gateway::Gateway, redis::Redis};

/// Three gateways whose clocks are ahead by this number of days. `None` if there is nothing to move clocks with.
fn gateways(lab: &Lab, redis: &Redis, days: u32) -> Option<Vec<Gateway>> {
    let start = |name: &&str| {
        let setup = lab.setup_with(&lab.device_keys(), &redis.table(name));
        Some(setup.limit("sessions = 200").days_ahead(days)?.start())
    };
    ["a", "b", "c"].iter().map(start).collect()
}

#[test]
fn a_token_is_renewed_once_for_all_gateways() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    let Some(redis) = Redis::start() else { return };
    let gateway = lab.setup_with(&lab.device_keys(), &redis.table("a")).start();
    lab.sign_in(&gateway, "pbx", "eva");
    gateway.stop();
    for days in 1..=3 {
        let Some(gateways) = gateways(&lab, &redis, days) else {
            return;
        };
        log_in_at_once(&lab, gateways.iter().map(Gateway::address).cycle().take(30));
        assert_eq!(lab.provider.asked("refresh_token"), days as usize);
        // A second use of a refresh token would have ended the consent.
        for gateway in &gateways {
            lets_in(gateway, "pbx");
        }
        assert_eq!(lab.provider.asked("refresh_token"), days as usize);
        gateways.into_iter().for_each(Gateway::stop);
    }
}
