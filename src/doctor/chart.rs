//! The steps of an examination, reported as they are done.

use std::time::{Duration, Instant};

use super::Report;
use crate::{imap, maildrop};

/// One step and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// What was tried: `DNS`, `TCP 192.0.2.1:993`, `login`, …
    pub name: String,
    pub took: Duration,
    pub outcome: Outcome,
    /// What to do about the result, if anything.
    pub advice: Option<String>,
}

/// The result of a step, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed(String),
    /// The step worked, but something is not as it should be.
    Warned(String),
    Failed(String),
}

impl Outcome {
    pub(super) fn passed(text: impl Into<String>) -> Self {
        Self::Passed(text.into())
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Passed(text) | Self::Warned(text) | Self::Failed(text) => text,
        }
    }

    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

impl Step {
    pub(super) fn new(name: impl Into<String>, took: Duration, outcome: Outcome) -> Self {
        Self {
            name: name.into(),
            took,
            outcome,
            advice: None,
        }
    }

    pub(super) fn advised(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    pub(super) fn failed(name: impl Into<String>, took: Duration, error: &maildrop::Error) -> Self {
        Self {
            name: name.into(),
            took,
            outcome: Outcome::Failed(error.cause().to_string()),
            advice: error.advice().map(str::to_owned),
        }
    }

    /// Turns a failure into a warning, because something else works in place of this step.
    pub(super) fn mitigated(mut self) -> Self {
        if let Outcome::Failed(text) = self.outcome {
            self.outcome = Outcome::Warned(text);
        }
        self
    }
}

/// Measures how long steps take, reports them, and remembers whether one has failed.
pub(super) struct Chart<'a> {
    report: Report<'a>,
    is_good: bool,
}

impl<'a> Chart<'a> {
    pub(super) fn new(report: Report<'a>) -> Self {
        Self { report, is_good: true }
    }

    /// Whether no step has failed.
    pub(super) fn is_good(&self) -> bool {
        self.is_good
    }

    pub(super) fn note(&mut self, step: Step) {
        self.is_good &= !step.outcome.is_failure();
        (self.report)(step);
    }

    pub(super) fn fail(&mut self, name: &str, begun: Instant, error: &maildrop::Error) {
        self.note(Step::failed(name, begun.elapsed(), error));
    }

    /// Does `work` as a step whose result `outcome` describes. Returns `None` if the work failed.
    pub(super) async fn step<T>(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<T, maildrop::Error>>,
        outcome: impl FnOnce(&T) -> Outcome,
    ) -> Option<T> {
        let begun = Instant::now();
        match work.await {
            Ok(done) => {
                self.note(Step::new(name, begun.elapsed(), outcome(&done)));
                Some(done)
            }
            Err(error) => {
                self.fail(name, begun, &error);
                None
            }
        }
    }

    /// Like [`Self::step`], for work whose errors do not name an account or upstream; `failed` adds the name.
    pub(super) async fn imap_step<T>(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<T, imap::Error>>,
        failed: impl FnOnce(imap::Error) -> maildrop::Error,
        outcome: impl FnOnce(&T) -> Outcome,
    ) -> Option<T> {
        let work = async { work.await.map_err(failed) };
        self.step(name, work, outcome).await
    }
}
