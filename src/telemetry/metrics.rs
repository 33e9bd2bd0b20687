//! Metrics for Prometheus. The values of labels are bounded: never a login, never the address of a device.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, prometheus_text::encode},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
        info::Info,
    },
    registry::{Registry, Unit},
};

use super::Outcome;

/// The content type of [`Metrics::encode`].
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of this process.
pub(crate) fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    &METRICS
}

/// The bounds of a histogram's buckets, in seconds.
#[derive(Clone, Copy)]
struct Seconds(&'static [f64]);

/// For a command to an upstream, or an access to state.
const SHORT: Seconds = Seconds(&[
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
]);
/// For a session.
const LONG: Seconds = Seconds(&[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0]);

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabel {
    listener: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SessionLabels {
    listener: Arc<str>,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabels {
    verb: &'static str,
    ok: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyLabel {
    policy: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabel {
    upstream: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamOutcome {
    upstream: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamState {
    upstream: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamCommand {
    upstream: Arc<str>,
    command: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamKind {
    upstream: String,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NameLabel {
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabels {
    part: String,
    severity: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

/// All metrics, with `popgate_` before each name.
pub(crate) struct Metrics {
    registry: Registry,
    /// Locked while gauges are replaced and while all metrics are written, so that nobody sees only a part of the new
    /// values.
    replacing: Mutex<()>,
    sessions: Family<ListenerLabel, Gauge>,
    sessions_total: Family<SessionLabels, Counter>,
    session_seconds: Histogram,
    commands: Family<CommandLabels, Counter>,
    messages_retrieved: Counter,
    octets_retrieved: Counter,
    messages_deleted: Family<PolicyLabel, Counter>,
    logins: Family<UpstreamOutcome, Counter>,
    upstream_connections: Family<UpstreamState, Gauge>,
    upstream_command_seconds: Family<UpstreamCommand, Histogram, Seconds>,
    upstream_errors: Family<UpstreamKind, Counter>,
    backoff_seconds: Family<UpstreamLabel, Gauge>,
    token_refreshes: Family<UpstreamOutcome, Counter>,
    consents: Family<UpstreamState, Gauge>,
    certificate_expiry_seconds: Family<NameLabel, Gauge>,
    unhealthy: Family<PartLabels, Gauge>,
    state_seconds: Family<OperationLabel, Histogram, Seconds>,
}

impl Metrics {
    fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("popgate"),
            replacing: Mutex::new(()),
            sessions: Family::default(),
            sessions_total: Family::default(),
            session_seconds: LONG.new_metric(),
            commands: Family::default(),
            messages_retrieved: Counter::default(),
            octets_retrieved: Counter::default(),
            messages_deleted: Family::default(),
            logins: Family::default(),
            upstream_connections: Family::default(),
            upstream_command_seconds: Family::new_with_constructor(SHORT),
            upstream_errors: Family::default(),
            backoff_seconds: Family::default(),
            token_refreshes: Family::default(),
            consents: Family::default(),
            certificate_expiry_seconds: Family::default(),
            unhealthy: Family::default(),
            state_seconds: Family::new_with_constructor(SHORT),
        };
        metrics.register();
        metrics
    }

    /// Registers all metrics. When they are written, a counter's name gets `_total`, and a name with a unit gets that
    /// unit.
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("sessions", "Sessions now", self.sessions.clone());
        registry.register("sessions", "Sessions that have ended", self.sessions_total.clone());
        registry.register_with_unit(
            "session",
            "How long sessions lasted",
            Unit::Seconds,
            self.session_seconds.clone(),
        );
        registry.register("commands", "POP3 commands by their replies", self.commands.clone());
        registry.register(
            "messages_retrieved",
            "Messages that devices have retrieved",
            self.messages_retrieved.clone(),
        );
        registry.register(
            "octets_retrieved",
            "Octets of the messages that devices have retrieved",
            self.octets_retrieved.clone(),
        );
        registry.register(
            "messages_deleted",
            "Messages removed for devices, by on_delete",
            self.messages_deleted.clone(),
        );
        registry.register("logins", "Logins by how they ended", self.logins.clone());
        registry.register(
            "upstream_connections",
            "Connections to upstreams now",
            self.upstream_connections.clone(),
        );
        registry.register_with_unit(
            "upstream_command",
            "How long upstreams took to answer; commands sent together count once, as the first of them",
            Unit::Seconds,
            self.upstream_command_seconds.clone(),
        );
        registry.register("upstream_errors", "Failures of upstreams", self.upstream_errors.clone());
        registry.register_with_unit(
            "backoff",
            "How long upstreams want to be left alone, by the user for whom it is longest",
            Unit::Seconds,
            self.backoff_seconds.clone(),
        );
        registry.register(
            "token_refreshes",
            "OAuth2 tokens asked for",
            self.token_refreshes.clone(),
        );
        registry.register("consents", "OAuth2 consents by their state", self.consents.clone());
        registry.register_with_unit(
            "certificate_expiry",
            "Seconds until a certificate expires",
            Unit::Seconds,
            self.certificate_expiry_seconds.clone(),
        );
        registry.register(
            "unhealthy",
            "Parts that do not work, as /readyz tells: failing or degraded",
            self.unhealthy.clone(),
        );
        registry.register_with_unit(
            "state",
            "How long accesses to state took",
            Unit::Seconds,
            self.state_seconds.clone(),
        );
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", build);
    }

    pub(crate) fn session_began(&self, listener: &Arc<str>) {
        self.sessions.get_or_create(&label(listener)).inc();
    }

    pub(crate) fn session_ended(&self, listener: &Arc<str>, outcome: Outcome, lasted: Duration) {
        self.sessions.get_or_create(&label(listener)).dec();
        self.session_seconds.observe(lasted.as_secs_f64());
        self.refused(listener, outcome);
    }

    /// Counts a connection of `listener` by its outcome: a session that has ended, or a connection that was not let in.
    pub(crate) fn refused(&self, listener: &Arc<str>, outcome: Outcome) {
        let labels = SessionLabels {
            listener: listener.clone(),
            outcome: outcome.as_str(),
        };
        self.sessions_total.get_or_create(&labels).inc();
    }

    /// Counts a command of a device; `ok` if the reply was `+OK`.
    pub(crate) fn command(&self, verb: &'static str, ok: bool) {
        self.commands.get_or_create(&CommandLabels { verb, ok }).inc();
    }

    /// Counts one message that a device has retrieved.
    pub(crate) fn retrieved(&self, octets: u64) {
        self.messages_retrieved.inc();
        self.octets_retrieved.inc_by(octets);
    }

    /// Counts messages that QUIT has removed; `policy` is the kind of `on_delete`.
    pub(crate) fn deleted(&self, policy: &'static str, messages: u64) {
        self.messages_deleted
            .get_or_create(&PolicyLabel { policy })
            .inc_by(messages);
    }

    /// Counts a login that has ended; `upstream` is empty if the login leads to none.
    pub(crate) fn login(&self, upstream: &str, outcome: Outcome) {
        let labels = UpstreamOutcome {
            upstream: upstream.to_owned(),
            outcome: outcome.as_str(),
        };
        self.logins.get_or_create(&labels).inc();
    }

    /// Counts a connection to `upstream` until the result is dropped.
    pub(crate) fn connection(&'static self, upstream: &str) -> CountedConnection {
        CountedConnection::new(self, upstream)
    }

    pub(crate) fn upstream_command(&self, upstream: &Arc<str>, command: &'static str, took: Duration) {
        let labels = UpstreamCommand {
            upstream: upstream.clone(),
            command,
        };
        let histogram = self.upstream_command_seconds.get_or_create(&labels);
        histogram.observe(took.as_secs_f64());
    }

    pub(crate) fn upstream_error(&self, upstream: &str, kind: &'static str) {
        let labels = UpstreamKind {
            upstream: upstream.to_owned(),
            kind,
        };
        self.upstream_errors.get_or_create(&labels).inc();
    }

    /// Takes the name of each upstream, and the longest pause that it has asked any of its users for.
    pub(crate) fn set_backoff<'a>(&self, pauses: impl IntoIterator<Item = (&'a str, Duration)>) {
        let label = |upstream: &str| UpstreamLabel {
            upstream: upstream.to_owned(),
        };
        let seconds = |left: Duration| left.as_secs().try_into().unwrap_or(i64::MAX);
        let pauses = pauses.into_iter();
        self.replace(
            &self.backoff_seconds,
            pauses.map(|(upstream, left)| (label(upstream), seconds(left))),
        );
    }

    /// Counts that a provider was asked for a token.
    pub(crate) fn token_refresh(&self, upstream: &str, outcome: &'static str) {
        let labels = UpstreamOutcome {
            upstream: upstream.to_owned(),
            outcome,
        };
        self.token_refreshes.get_or_create(&labels).inc();
    }

    /// Takes the upstream and the state of every consent.
    pub(crate) fn set_consents<'a>(&self, consents: impl IntoIterator<Item = (&'a str, &'static str)>) {
        let mut counts = BTreeMap::new();
        for consent in consents {
            *counts.entry(consent).or_default() += 1;
        }
        let label = |upstream: &str, state| UpstreamState {
            upstream: upstream.to_owned(),
            state,
        };
        let counts = counts.into_iter();
        self.replace(
            &self.consents,
            counts.map(|((upstream, state), count)| (label(upstream, state), count)),
        );
    }

    /// Takes the name of each certificate and the seconds until it expires, negative if it has expired.
    pub(crate) fn set_certificates(&self, certificates: impl IntoIterator<Item = (String, i64)>) {
        let certificates = certificates.into_iter();
        self.replace(
            &self.certificate_expiry_seconds,
            certificates.map(|(name, seconds)| (NameLabel { name }, seconds)),
        );
    }

    /// Takes all parts that do not work, each with `failing` or `degraded`.
    pub(crate) fn set_unhealthy<'a>(&self, parts: impl IntoIterator<Item = (&'a str, &'static str)>) {
        let label = |part: &str, severity| PartLabels {
            part: part.to_owned(),
            severity,
        };
        let parts = parts.into_iter();
        self.replace(
            &self.unhealthy,
            parts.map(|(part, severity)| (label(part, severity), 1)),
        );
    }

    /// Replaces everything in `gauges` by `values`, so that no old series is shown any more.
    fn replace<L>(&self, gauges: &Family<L, Gauge>, values: impl Iterator<Item = (L, i64)>)
    where
        L: Clone + Eq + std::hash::Hash,
    {
        let _replacing = self.replacing();
        gauges.clear();
        for (labels, value) in values {
            gauges.get_or_create(&labels).set(value);
        }
    }

    fn replacing(&self) -> MutexGuard<'_, ()> {
        self.replacing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self, operation: &'static str, took: Duration) {
        let histogram = self.state_seconds.get_or_create(&OperationLabel { operation });
        histogram.observe(took.as_secs_f64());
    }

    /// All metrics, in Prometheus' text format.
    pub(crate) fn encode(&self) -> String {
        let _replacing = self.replacing();
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn label(listener: &Arc<str>) -> ListenerLabel {
    let listener = listener.clone();
    ListenerLabel { listener }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// A connection to an upstream, counted as busy or as parked until it is dropped.
#[derive(Debug)]
pub(crate) struct CountedConnection {
    busy: Gauge,
    parked: Gauge,
    is_parked: bool,
}

impl CountedConnection {
    fn new(metrics: &Metrics, upstream: &str) -> Self {
        let gauge = |state| {
            let upstream = upstream.to_owned();
            metrics
                .upstream_connections
                .get_or_create_owned(&UpstreamState { upstream, state })
        };
        let (busy, parked) = (gauge("busy"), gauge("parked"));
        busy.inc();
        Self {
            busy,
            parked,
            is_parked: false,
        }
    }

    pub(crate) fn set_parked(&mut self, is_parked: bool) {
        if self.is_parked != is_parked {
            self.gauge().dec();
            self.is_parked = is_parked;
            self.gauge().inc();
        }
    }

    fn gauge(&self) -> &Gauge {
        if self.is_parked { &self.parked } else { &self.busy }
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.gauge().dec();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn value(metrics: &Metrics, series: &str) -> Option<String> {
        let text = metrics.encode();
        let line = text.lines().find(|line| line.starts_with(&format!("{series} ")))?;
        line.rsplit(' ').next().map(str::to_owned)
    }

    fn shown(metrics: &Metrics, series: &str, expected: &str) {
        let text = metrics.encode();
        assert_eq!(value(metrics, series).as_deref(), Some(expected), "{series} in\n{text}");
    }

    /// Metrics that all have a value, and two connections that are counted until they are dropped.
    fn counted() -> (&'static Metrics, [CountedConnection; 2]) {
        let metrics: &'static Metrics = Box::leak(Box::new(Metrics::new()));
        let listener: Arc<str> = "0.0.0.0:110".into();
        metrics.session_began(&listener);
        metrics.session_began(&listener);
        metrics.session_ended(&listener, Outcome::InUse, Duration::from_secs(2));
        metrics.refused(&listener, Outcome::Refused);
        metrics.command("RETR", true);
        metrics.command("?", false);
        metrics.retrieved(1000);
        metrics.deleted("trash", 3);
        metrics.login("home", Outcome::Ok);
        metrics.upstream_command(&"home".into(), "NOOP", Duration::from_millis(2));
        metrics.upstream_error("home", "lost");
        metrics.set_backoff([("home", Duration::from_secs(30))]);
        metrics.token_refresh("home", "ok");
        metrics.set_consents([("home", "good"), ("home", "good"), ("home", "ended")]);
        metrics.set_certificates([("mail.example.org".to_owned(), -5)]);
        metrics.set_unhealthy([("state", "failing")]);
        metrics.state("marks", Duration::from_millis(3));
        let mut connection = metrics.connection("home");
        connection.set_parked(true);
        (metrics, [connection, metrics.connection("home")])
    }

    #[test]
    fn every_metric_has_the_name_that_dashboards_ask_for() {
        let (metrics, connections) = counted();
        for (series, expected) in [
            ("popgate_sessions{listener=\"0.0.0.0:110\"}", "1"),
            (
                "popgate_sessions_total{listener=\"0.0.0.0:110\",outcome=\"in-use\"}",
                "1",
            ),
            (
                "popgate_sessions_total{listener=\"0.0.0.0:110\",outcome=\"refused\"}",
                "1",
            ),
            ("popgate_session_seconds_count", "1"),
            ("popgate_commands_total{verb=\"RETR\",ok=\"true\"}", "1"),
            ("popgate_commands_total{verb=\"?\",ok=\"false\"}", "1"),
            ("popgate_messages_retrieved_total", "1"),
            ("popgate_octets_retrieved_total", "1000"),
            ("popgate_messages_deleted_total{policy=\"trash\"}", "3"),
            ("popgate_logins_total{upstream=\"home\",outcome=\"ok\"}", "1"),
            ("popgate_upstream_connections{upstream=\"home\",state=\"busy\"}", "1"),
            ("popgate_upstream_connections{upstream=\"home\",state=\"parked\"}", "1"),
            (
                "popgate_upstream_command_seconds_count{upstream=\"home\",command=\"NOOP\"}",
                "1",
            ),
            ("popgate_upstream_errors_total{upstream=\"home\",kind=\"lost\"}", "1"),
            ("popgate_backoff_seconds{upstream=\"home\"}", "30"),
            ("popgate_token_refreshes_total{upstream=\"home\",outcome=\"ok\"}", "1"),
            ("popgate_consents{upstream=\"home\",state=\"good\"}", "2"),
            ("popgate_consents{upstream=\"home\",state=\"ended\"}", "1"),
            ("popgate_certificate_expiry_seconds{name=\"mail.example.org\"}", "-5"),
            ("popgate_unhealthy{part=\"state\",severity=\"failing\"}", "1"),
            ("popgate_state_seconds_count{operation=\"marks\"}", "1"),
            (
                concat!("popgate_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"),
                "1",
            ),
        ] {
            shown(metrics, series, expected);
        }
        drop(connections);
        shown(
            metrics,
            "popgate_upstream_connections{upstream=\"home\",state=\"parked\"}",
            "0",
        );
    }

    /// The words of a PromQL text.
    fn words(text: &str) -> impl Iterator<Item = &str> {
        text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
    }

    #[test]
    fn dashboard_and_alerts_ask_for_what_there_is() {
        let (metrics, _connections) = counted();
        let text = metrics.encode();
        let names: BTreeSet<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split(['{', ' ']).next())
            .collect();
        for (file, content) in [
            ("grafana.json", include_str!("../../docker/grafana.json")),
            ("alerts.yml", include_str!("../../docker/alerts.yml")),
            ("alerts_test.yml", include_str!("../../docker/alerts_test.yml")),
        ] {
            let asked: BTreeSet<&str> = words(content).filter(|word| word.starts_with("popgate_")).collect();
            assert!(asked.len() > 8, "{file}: {asked:?}");
            let unknown: Vec<_> = asked.difference(&names).collect();
            assert!(
                unknown.is_empty(),
                "{file} asks for {unknown:?}, which is not in\n{text}"
            );
        }
        let shown: BTreeSet<&str> = words(include_str!("../../docker/grafana.json")).collect();
        for name in names {
            // A histogram is shown by its buckets.
            let histogram = name.strip_suffix("_sum").or(name.strip_suffix("_count"));
            let name = histogram.map_or(name.to_owned(), |name| format!("{name}_bucket"));
            assert!(shown.contains(&*name), "the dashboard does not show {name}");
        }
    }

    #[test]
    fn what_is_gone_is_not_shown() {
        let metrics = Metrics::new();
        metrics.set_consents([("home", "ended")]);
        metrics.set_certificates([("old.example.org".to_owned(), -5)]);
        metrics.set_unhealthy([("certificate old.example.org", "failing")]);
        metrics.set_backoff([("away", Duration::from_secs(30))]);
        metrics.set_consents([("home", "good")]);
        metrics.set_certificates([("new.example.org".to_owned(), 5)]);
        metrics.set_unhealthy([]);
        metrics.set_backoff([("home", Duration::ZERO)]);
        let text = metrics.encode();
        for gone in ["ended", "old.example.org", "away"] {
            assert!(!text.contains(gone), "{gone} in\n{text}");
        }
        shown(&metrics, "popgate_consents{upstream=\"home\",state=\"good\"}", "1");
        shown(
            &metrics,
            "popgate_certificate_expiry_seconds{name=\"new.example.org\"}",
            "5",
        );
    }
}
