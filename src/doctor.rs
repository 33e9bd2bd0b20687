//! Tries one login end to end, step by step. Reports the result of each step, how long it took, and what to do if it
//! failed. Changes nothing in the mailbox, in state, or in what devices see.
//!
//! The steps and their results are data: `popgate doctor` prints them, and the web page shows them.

mod chart;
mod words;

use std::{net::SocketAddr, time::Instant};

use futures_util::future::join_all;

pub(crate) use chart::{Outcome, Step};

use self::chart::Chart;
use crate::{
    accounts::Account,
    config::{self, Listener},
    health,
    imap::{self, Approach, Greeted, Transport},
    maildrop::{self, Look, Maildrops},
};

/// Called with each step when it is done.
pub(crate) type Report<'a> = &'a mut (dyn FnMut(Step) + Send);

/// Tries logins as a gateway would.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doctor<'a> {
    maildrops: &'a Maildrops,
}

impl<'a> Doctor<'a> {
    /// In a running gateway `maildrops` must be the gateway's own, so that its limits on connections hold.
    pub(crate) fn new(maildrops: &'a Maildrops) -> Self {
        Self { maildrops }
    }

    /// Tries the login of `account`, from DNS to a message that is fetched and discarded. Returns whether every step
    /// worked.
    pub(crate) async fn examine(self, account: &Account, report: Report<'_>) -> bool {
        self.visit(account, true, report).await
    }

    /// Like [`Self::examine`], without fetching a message.
    pub(crate) async fn examine_folders(self, account: &Account, report: Report<'_>) -> bool {
        self.visit(account, false, report).await
    }

    /// Tries to connect to `upstream`, including TLS and the greeting. Returns whether every step worked.
    pub(crate) async fn examine_upstream(self, upstream: &config::Upstream, report: Report<'_>) -> bool {
        let mut chart = Chart::new(report);
        let failed = |error| maildrop::Error::unauthenticated(upstream, error);
        match self.maildrops.connector_of(upstream) {
            Ok(connector) => {
                if let Some(greeted) = connect(connector.approach(), upstream, failed, &mut chart).await {
                    greeted.leave().await;
                }
            }
            Err(error) => chart.fail("upstream", Instant::now(), &error),
        }
        chart.is_good()
    }

    async fn visit(self, account: &Account, fetches: bool, report: Report<'_>) -> bool {
        let mut chart = Chart::new(report);
        let begun = Instant::now();
        match self.maildrops.look(account).await {
            Ok(mut look) => {
                // The chart has recorded a step that failed.
                let _ = steps(&mut look, account, fetches, &mut chart).await;
                look.leave().await;
            }
            Err(error) => chart.fail("connection", begun, &error),
        }
        chart.is_good()
    }
}

/// Asks each of `listeners` of a running gateway whether it answers. Returns whether all do.
pub(crate) async fn examine_listeners(listeners: &[Listener], report: Report<'_>) -> bool {
    let mut chart = Chart::new(report);
    for listener in listeners {
        let begun = Instant::now();
        let answer = health::ask(listener.into()).await;
        chart.note(words::listener(listener, begun.elapsed(), answer));
    }
    chart.is_good()
}

/// Does the steps in order. Returns `None` as soon as a step fails that a later one needs.
async fn steps(look: &mut Look, account: &Account, fetches: bool, chart: &mut Chart<'_>) -> Option<()> {
    let failed = |error| look.failed(error);
    let greeted = connect(look.approach(), &account.upstream, failed, chart).await?;
    let token = match account.credential {
        config::Credential::OAuth2 { .. } => {
            let token = look.approach().token(&account.credential);
            let given = |_: &_| Outcome::passed("the provider gives a token");
            chart
                .imap_step("token", token, |error| look.failed(error), given)
                .await?
        }
        config::Credential::Password(_) | config::Credential::Token(_) => None,
    };
    let logged_in = |_: &_| Outcome::passed(format!("as {}", account.user));
    let connection = chart.step("login", look.log_in(greeted, token), logged_in).await?;
    let mut connection = Some(connection);
    while let Some(folder) = look.folders_left().first().cloned() {
        let select = look.select(connection.take());
        chart.step(&format!("SELECT {folder}"), select, words::folder).await?;
    }
    chart
        .step("listing", look.list(), |&(messages, octets)| {
            words::listing(messages, octets)
        })
        .await?;
    let begun = Instant::now();
    match look.preview_delete().await {
        Ok(preview) => chart.note(words::delete(&preview, account, begun.elapsed())),
        Err(error) => chart.fail("delete", begun, &error),
    }
    if fetches {
        chart.step("RETR", look.retrieve(), words::fetched).await?;
    }
    Some(())
}

/// Connects to the upstream: DNS, TCP, TLS and the greeting.
async fn connect(
    approach: Approach<'_>,
    upstream: &config::Upstream,
    failed: impl Fn(imap::Error) -> maildrop::Error,
    chart: &mut Chart<'_>,
) -> Option<Greeted> {
    let name = match upstream.proxy {
        None => "DNS",
        Some(_) => "DNS of the proxy",
    };
    let resolved = |addresses: &Vec<SocketAddr>| words::addresses(upstream, addresses);
    let addresses = chart.imap_step(name, approach.resolve(), &failed, resolved).await?;
    let transport = open(approach, addresses, &failed, chart).await?;
    let transport = if approach.begins_with_tls() {
        let agreed = |(_, agreement): &(_, _)| words::agreement(agreement);
        chart
            .imap_step("TLS", approach.secure(transport), &failed, agreed)
            .await?
            .0
    } else {
        transport
    };
    let said = |_: &_| Outcome::passed("the server greets, and tells what it can do");
    let greeted = chart
        .imap_step("greeting", approach.greet(transport), &failed, said)
        .await?;
    if !approach.has_start_tls() {
        return Some(greeted);
    }
    let agreed = |(_, agreement): &(_, _)| words::agreement(agreement);
    let secured = chart
        .imap_step("STARTTLS", approach.start_tls(greeted), &failed, agreed)
        .await?;
    Some(secured.0)
}

/// Tries all addresses at once. Returns a connection to the first address in the list that answers. If one answers,
/// failures of the others are only warnings.
async fn open(
    approach: Approach<'_>,
    addresses: Vec<SocketAddr>,
    failed: impl Fn(imap::Error) -> maildrop::Error,
    chart: &mut Chart<'_>,
) -> Option<Transport> {
    let attempts = addresses.into_iter().map(|address| async move {
        let begun = Instant::now();
        (address, approach.open(address).await, begun.elapsed())
    });
    let attempts = join_all(attempts).await;
    let is_reached = attempts.iter().any(|(_, opened, _)| opened.is_ok());
    let mut transport = None;
    for (address, opened, took) in attempts {
        let step = match opened {
            Ok(opened) => {
                transport.get_or_insert(opened);
                Step::new(format!("TCP {address}"), took, Outcome::passed("connected"))
            }
            Err(error) => {
                let error = failed(error);
                let step = Step::failed(format!("TCP {address}"), took, &error);
                if is_reached { step.mitigated() } else { step }
            }
        };
        chart.note(step);
    }
    transport
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    /// The web page needs the steps as data, from a task of its own.
    #[tokio::test]
    async fn steps_are_data() {
        // Nobody listens at port 1.
        let text = "[upstream.home]\nhost = \"127.0.0.1\"\nport = 1\n[[account]]\nlogin = \"pbx\"\npassword = \"p\"\n\
                    upstream = \"home\"\nuser = \"eva\"\nupstream_password = \"q\"\n";
        let config = Config::parse(text, Path::new("")).unwrap();
        let task = tokio::spawn(async move {
            let maildrops = Maildrops::in_memory(&config);
            let mut steps = Vec::new();
            let account = Account::from(&config.accounts[0]);
            let works = Doctor::new(&maildrops)
                .examine(&account, &mut |step| steps.push(step))
                .await;
            (works, steps)
        });
        let (works, steps) = task.await.unwrap();
        let names: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!((works, &names[..]), (false, &["DNS", "TCP 127.0.0.1:1"][..]));
        assert!(!steps[0].outcome.is_failure() && steps[1].outcome.is_failure());
        assert!(
            steps[1]
                .advice
                .as_deref()
                .unwrap()
                .contains("check `port` and `host` of [upstream.home]")
        );
    }
}
