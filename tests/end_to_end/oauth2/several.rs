//! Gateways that share state: a consent is renewed by one of them, because the provider takes each refresh token once.

use std::thread;

use super::{LOCAL, Lab, XOAUTH2, lets_in};
use crate::support::{gateway::Gateway, pop::Pop, provider::Hold, redis::Redis};

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
        lab.provider.book().hold = Hold::Before;
        let devices: Vec<_> = (0..30)
            .map(|number| {
                let address = gateways[number % 3].address();
                thread::spawn(move || Pop::connect(address).try_log_in("pbx", LOCAL))
            })
            .collect();
        lab.provider.wait_held(1);
        lab.provider.release();
        let replies: Vec<String> = devices.into_iter().map(|device| device.join().unwrap()).collect();
        assert!(replies.iter().any(|reply| reply.starts_with("+OK 3 ")), "{replies:?}");
        let is_expected = |reply: &String| {
            reply.starts_with("+OK 3 ") || reply.starts_with("-ERR [IN-USE] ") || reply.contains("too many connections")
        };
        assert!(replies.iter().all(is_expected), "{replies:?}");
        assert_eq!(lab.provider.asked("refresh_token"), days as usize);
        // A second use of a refresh token would have ended the consent.
        for gateway in &gateways {
            lets_in(gateway, "pbx");
        }
        assert_eq!(lab.provider.asked("refresh_token"), days as usize);
        gateways.into_iter().for_each(Gateway::stop);
    }
}
