//! Starts a run of a unit's live version, whatever the reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::act::Target;
use crate::model::id::UnitId;
use crate::model::unit::Version;
use crate::plan::params;
use crate::record::Along;

use super::core::Core;
use super::message::{Refusal, RefusalKind};
use super::runs::{Asked, Order, StartError, chain};

/// Why a run shall begin, and with what.
#[derive(Clone, Debug)]
pub struct Fire<'a> {
    /// What starts it: `manual`, `cron`, `chain` or `webhook`.
    pub trigger: &'static str,
    /// More of it: for `chain` the id of the run before, for `cron` the instant that was due, for `webhook` method and path.
    pub detail: String,
    /// Values of parameters by name.
    pub params: &'a BTreeMap<String, String>,
    /// The input: JSON text.
    pub input: Arc<str>,
}

impl<T: Target> Core<T> {
    /// Starts a run of a task's live version. In the transaction that records the run `along` is recorded too: a
    /// trigger that must not fire twice marks there that it has fired.
    ///
    /// # Errors
    /// The task is not registered, is a daemon, its parameters do not fit, its input is too large, too many runs wait
    /// already (what the clock starts is skipped then), or the run could not be recorded. Then nothing is recorded and
    /// nothing was started.
    pub async fn fire(&self, task: &UnitId, fire: Fire<'_>, along: &dyn Along) -> Result<Asked, Refusal> {
        let Some(version) = self.registry.get(task) else {
            let message = format!("task {task} is not registered");
            return Err(Refusal::new(RefusalKind::Conflict, message).hint(format!("kindling why {task}")));
        };
        if version.spec.is_daemon() {
            let message = format!("task {task} is a daemon: kindling runs it itself");
            return Err(Refusal::new(RefusalKind::Conflict, message).hint(format!("kindling logs {task}")));
        }
        self.fire_version(version, fire, along).await
    }

    /// Starts a run of just this version, which was live when it was looked up.
    ///
    /// # Errors
    /// Its parameters do not fit, or the run could not be recorded. Then nothing is recorded and nothing was started.
    pub async fn fire_version(
        &self,
        version: Arc<Version>,
        fire: Fire<'_>,
        along: &dyn Along,
    ) -> Result<Asked, Refusal> {
        let params = params::resolve(&version.spec, fire.params)
            .map_err(|problems| Refusal::new(RefusalKind::Invalid, problems.join("; ")))?;
        if let Some(why) = self.runner.oversized(&fire.input) {
            return Err(Refusal::new(RefusalKind::Invalid, why));
        }
        let Fire { trigger, detail, params: given, input } = fire;
        let given = Arc::new(given.clone());
        let order = Order { given, input, detail, ..Order::new(version, params, trigger) };
        self.runner.start(order, along).await.map_err(|error| match error {
            StartError::Full(why) => Refusal::new(RefusalKind::Busy, why).hint("kindling get runs"),
            StartError::Store(error) => Refusal::new(RefusalKind::Failed, chain(&error)),
        })
    }
}
