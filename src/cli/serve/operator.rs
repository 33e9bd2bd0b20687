//! What an administrator can ask of the gateway while it serves.

use std::{path::PathBuf, sync::Arc};

use tokio::sync::Mutex;

use super::signals::Hangups;
use crate::{
    admin::{self, Reloaded, Traced},
    cli::Failure,
    config::{self, Config, Loaded},
    gateway::{self, Gateway},
    sandbox::Boundary,
    systemd,
    telemetry::{self, trace::Tracer},
};

/// Reads the configuration; called at each reload.
type Load = dyn Fn() -> Result<Loaded, config::Error> + Send + Sync;

/// Carries out an administrator's requests.
pub(super) struct Operator {
    gateway: Arc<Gateway>,
    load: Arc<Load>,
    boundary: Boundary,
    /// Held during a reload. Two reloads run one after the other, so that the later reading of the file is in force.
    turn: Mutex<()>,
}

impl Operator {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        load: impl Fn() -> Result<Loaded, config::Error> + Send + Sync + 'static,
        boundary: Boundary,
    ) -> Self {
        Self {
            gateway,
            load: Arc::new(load),
            boundary,
            turn: Mutex::default(),
        }
    }

    /// Reloads the configuration at each SIGHUP.
    pub(super) async fn reload_upon(self: Arc<Self>, mut hangups: Hangups) {
        loop {
            hangups.next().await;
            // `reload` has logged the outcome.
            let _ = self.reload().await;
        }
    }

    /// Reads the configuration again and applies it. The reload runs to its end even if the caller does not wait for
    /// it. If the reload fails, nothing has changed. The outcome is logged.
    async fn reload(self: &Arc<Self>) -> Result<Reloaded, String> {
        let operator = self.clone();
        let reload = tokio::spawn(async move {
            let _turn = operator.turn.lock().await;
            operator.reload_in_turn().await
        });
        reload.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    async fn reload_in_turn(&self) -> Result<Reloaded, String> {
        if self.gateway.draining().is_cancelled() {
            return Err(gateway::Error::Draining.to_string());
        }
        systemd::reloading();
        let outcome = self.read_and_apply().await;
        match &outcome {
            Ok(Reloaded { summary, warnings }) => {
                tracing::info!(now = summary, "configuration reloaded");
                for warning in warnings {
                    tracing::warn!(what = warning, "not all of the configuration is in force");
                }
                systemd::ready(summary);
            }
            Err(error) => {
                tracing::error!(%error, "configuration not reloaded: the one before stays in force");
                systemd::ready("the last reload failed, see the log: the configuration before it stays in force");
            }
        }
        outcome
    }

    async fn read_and_apply(&self) -> Result<Reloaded, String> {
        let load = self.load.clone();
        let loaded = tokio::task::spawn_blocking(move || load()).await;
        let loaded = loaded.map_err(|error| error.to_string())?;
        let Loaded { config, .. } = loaded.map_err(|error| self.explain_unread(&error))?;
        let (summary, level) = (summary(&config), config.log.level.clone());
        let reloaded = self.gateway.reload(config).await;
        let warnings = reloaded.map_err(|error| self.explain_not_applied(error))?;
        // The level was verified along with the rest of the configuration.
        telemetry::set_level(&level).map_err(|error| error.to_string())?;
        Ok(Reloaded { summary, warnings })
    }

    fn explain_unread(&self, error: &config::Error) -> String {
        let forbidden = error.denied().iter().filter(|file| self.boundary.forbids_file(file));
        let forbidden: Vec<_> = forbidden.map(|file| file.display().to_string()).collect();
        if forbidden.is_empty() {
            return error.to_string();
        }
        format!(
            "{error}\nhelp: needs a restart: the running gateway has given up the right to read other directories than those of \
             the files that it was started with, and these are elsewhere: {}",
            forbidden.join(", ")
        )
    }

    fn explain_not_applied(&self, error: gateway::Error) -> String {
        let forbidden = match &error {
            gateway::Error::Bind { address, source } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Some(address.port()).filter(|port| self.boundary.forbids_port(*port))
            }
            _ => None,
        };
        match forbidden {
            Some(port) => format!(
                "{error}\nhelp: needs a restart: the running gateway has given up the right to listen at other ports than those \
                 that it was started with, 110 and 995; {port} is not one of these"
            ),
            None => Failure::from(error).to_string(),
        }
    }

    /// Answers commands at the socket in `dir` while `serving` runs.
    #[cfg(unix)]
    pub(super) async fn answer_while(self: Arc<Self>, dir: Option<PathBuf>, serving: impl Future<Output = ()>) {
        use tokio_util::sync::CancellationToken;

        let ended = CancellationToken::new();
        let answering = async {
            if let Some(dir) = dir {
                admin::serve(self, &dir, ended.clone()).await;
            }
        };
        let serving = async {
            serving.await;
            ended.cancel();
        };
        tokio::join!(answering, serving);
    }

    /// Only Unix has the sockets that commands need.
    #[cfg(not(unix))]
    pub(super) async fn answer_while(self: Arc<Self>, _: Option<PathBuf>, serving: impl Future<Output = ()>) {
        serving.await;
    }
}

#[cfg(unix)]
#[async_trait::async_trait]
impl admin::Verbs for Operator {
    async fn carry_out(self: Arc<Self>, verb: admin::Verb, answers: &mut admin::Answers) -> Result<(), String> {
        match verb {
            admin::Verb::Reload => answers.send(&self.reload().await?).await,
            admin::Verb::Sessions => answers.send(&telemetry::sessions()).await,
            admin::Verb::Trace { login } => {
                let mut tracer = Tracer::new(&self.gateway.canonical_login(&login));
                answers.send(&Traced::Begun).await?;
                loop {
                    let traced = tracer.next().await.map_or_else(Traced::Lost, Traced::Line);
                    answers.send(&traced).await?;
                }
            }
        }
    }
}

/// Counts what a configuration has: `1 listener, 2 upstreams, 3 accounts`.
pub(super) fn summary(config: &Config) -> String {
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    [
        count(config.listeners.len(), "listener"),
        count(config.upstreams.len(), "upstream"),
        count(config.accounts.len(), "account"),
    ]
    .join(", ")
}
