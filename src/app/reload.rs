//! Follows the configuration file: a valid edit takes effect at once, an invalid one changes nothing and is told.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::api::Webhooks;
use crate::config::secret::Secret;
use crate::config::{self, ConfigError, Role, Settings};
use crate::model::condition::{ConditionStatus, ConditionType};
use crate::model::id::SourceName;
use crate::model::limits::Limits;
use crate::model::retention::Retention;
use crate::model::source::Declared;
use crate::observe::file::{FileWatch, Stamps};
use crate::reconcile::core::Live;
use crate::reconcile::message::Refusal;
use crate::support::lifecycle::Lifecycle;

use super::Service;
use super::relay::Relays;
use super::told::ToldBy;

/// The file is read when it has held still for this long.
const QUIET: Duration = Duration::from_millis(50);
/// A file that never holds still is read after this long all the same.
const LONGEST: Duration = Duration::from_secs(1);
/// What would take a source away is read again after this long, and counts if it still says so: a save may be half
/// done.
const SECOND_LOOK: Duration = Duration::from_millis(500);
/// Looks at a file that says something else each time.
const MOST_LOOKS: usize = 10;
/// What could not be applied is tried again after this long.
const AGAIN: Duration = Duration::from_secs(5);

/// What the service was started with, and what it read since.
pub(super) struct Reload {
    file: PathBuf,
    service: Service,
    shared: Shared,
    started: Started,
    /// The file's bytes that were read last.
    read: Option<Vec<u8>>,
    /// How the files of secrets stood when they were read.
    secrets: Stamps,
    /// What was wrong with them.
    wrong: Vec<ConfigError>,
    /// Whether something of them could not be applied.
    owes: bool,
    /// Sources that left the file and whose units are being taken away: a process may take its time to end.
    leaving: HashSet<SourceName>,
    withdrawals: JoinSet<(SourceName, bool)>,
}

/// What parts of the service read anew whenever they use it.
pub(super) struct Shared {
    pub limits: Live<Limits>,
    pub retention: LiveRetention,
    pub webhooks: Arc<Webhooks>,
    pub relays: Relays,
    pub told: ToldBy,
}

/// How long and how much is kept, and that it was changed.
#[derive(Clone)]
pub(super) struct LiveRetention {
    pub kept: Live<Retention>,
    pub changed: Arc<Notify>,
}

impl LiveRetention {
    pub fn new(kept: Retention) -> Self {
        Self { kept: Live::from(kept), changed: Arc::default() }
    }

    fn set(&self, kept: Retention) {
        if *self.kept.get() != kept {
            tracing::info!("retention changed");
            self.kept.set(kept);
            self.changed.notify_one();
        }
    }
}

/// What holds until the service is started again.
struct Started {
    listen: std::net::SocketAddr,
    insecure_http: bool,
    data_dir: PathBuf,
    token: Option<Secret>,
    programs: BTreeMap<String, PathBuf>,
}

/// Why the file is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Changed,
    Signal,
    Again,
}

impl Reload {
    pub(super) fn new(settings: &Settings, service: Service, shared: Shared) -> Self {
        let started = Started {
            listen: settings.listen,
            insecure_http: settings.insecure_http,
            data_dir: settings.data_dir.clone(),
            token: settings.token.clone(),
            programs: settings.programs.clone(),
        };
        let file = settings.file.clone();
        let secrets = Stamps::default().of(&settings.secret_files);
        let (read, wrong, owes, leaving, withdrawals) = Default::default();
        let made = Self { file, service, shared, started, read, secrets, wrong, owes, leaving, withdrawals };
        made.set_webhooks(settings);
        made.shared.relays.set(&settings.relays, settings.webhook_bytes);
        made.shared.told.follow(settings, &made.service);
        made.show_read(settings);
        made
    }

    /// Follows the file until `closing`.
    pub(super) async fn follow(mut self, signals: &Lifecycle, closing: &CancellationToken) {
        let mut watch = FileWatch::new(self.file.clone());
        // It may have been saved between the start and the watch.
        let mut why = Some(Why::Changed);
        loop {
            if let Some(why) = why.take() {
                self.reload(why).await;
            }
            // What is wrong may be a file that it names, which nobody watches; secrets are given anew the same way.
            let is_owed = self.owes || !self.wrong.is_empty();
            let is_due = is_owed || !self.secrets.is_empty();
            let wait = if is_due { AGAIN } else { Duration::from_secs(3600) };
            // Cancel safe: all of them are.
            tokio::select! {
                () = closing.cancelled() => return,
                () = signals.hung_up() => why = Some(Why::Signal),
                () = watch.changed() => {
                    settle(&mut watch).await;
                    why = Some(Why::Changed);
                }
                Some(left) = self.withdrawals.join_next() => {
                    why = (self.note_left(left) && self.owes).then_some(Why::Again);
                }
                () = tokio::time::sleep(wait) => why = (is_owed || self.is_secret_new()).then_some(Why::Again),
            }
        }
    }

    /// A source has left, or could not; gives back whether it has.
    fn note_left(&mut self, left: Result<(SourceName, bool), JoinError>) -> bool {
        let has_left = match left {
            Ok((name, has_left)) => {
                self.leaving.remove(&name);
                has_left
            }
            Err(error) => {
                tracing::error!("a source could not be removed: {error}");
                self.leaving.clear();
                false
            }
        };
        self.owes |= !has_left;
        has_left
    }

    fn is_secret_new(&self) -> bool {
        let changed = self.secrets.changed();
        if let Some(path) = changed {
            tracing::info!("{} changed: {} is read again", path.display(), self.file.display());
        }
        changed.is_some()
    }

    async fn reload(&mut self, why: Why) {
        // Before they are read: what changes meanwhile is read once more.
        let secrets = self.secrets.again();
        let Some((text, settings)) = self.settled_text(why).await else { return };
        let is_known = self.read.as_ref() == Some(&text);
        match settings {
            Err(wrong) => {
                self.secrets = secrets;
                let is_told = is_known && self.wrong == wrong && why != Why::Signal;
                self.read = Some(text);
                if !is_told {
                    self.show_wrong(wrong);
                }
            }
            Ok(settings) => {
                if why == Why::Signal && is_known && self.wrong.is_empty() {
                    tracing::info!("{} was read again; nothing changed", self.file.display());
                }
                self.read = Some(text);
                self.secrets = secrets.of(&settings.secret_files);
                self.wrong.clear();
                self.show_read(&settings);
                self.show_restart(&settings);
                self.owes = !self.apply(settings).await;
            }
        }
    }

    /// What the file says, once it can be believed; `None` if that is what it said before.
    async fn settled_text(&self, why: Why) -> Option<(Vec<u8>, Result<Settings, Vec<ConfigError>>)> {
        let mut last = None;
        for _ in 0..MOST_LOOKS {
            let (text, settings) = self.look().await;
            let is_same = why == Why::Changed && !self.owes && self.read.as_ref() == Some(&text);
            if is_same && self.wrong.is_empty() {
                return None;
            }
            let doubtful = match &settings {
                Ok(settings) => self.takes_away(settings),
                Err(_) => why != Why::Signal,
            };
            if !doubtful || last.as_ref() == Some(&text) {
                return Some((text, settings));
            }
            last = Some(text);
            tokio::time::sleep(SECOND_LOOK).await;
        }
        // It never holds still. What it says when it does is an event again.
        None
    }

    async fn look(&self) -> (Vec<u8>, Result<Settings, Vec<ConfigError>>) {
        let file = self.file.clone();
        let work = tokio::task::spawn_blocking(move || match text_of(&file) {
            Err(wrong) => (Vec::new(), Err(wrong)),
            Ok(text) if text.trim_ascii().is_empty() => {
                let message = "is empty: a save is not finished, or went wrong".into();
                let hint = Some("a configuration without sources says `sources: []`".into());
                (text, Err(vec![ConfigError { file, at: None, message, hint }]))
            }
            Ok(text) => {
                let settings = config::parse(&file, &text, &|name| std::env::var_os(name), Role::Service);
                (text, settings)
            }
        });
        work.await.unwrap_or_else(|_| {
            let (file, message) = (self.file.clone(), "could not be read".into());
            (Vec::new(), Err(vec![ConfigError { file, at: None, message, hint: None }]))
        })
    }

    /// The sources of the file that runs which these settings lack.
    fn gone(&self, settings: &Settings) -> Vec<SourceName> {
        let kept: HashSet<&SourceName> = settings.sources.iter().map(|spec| &spec.name).collect();
        let all = self.service.core().board.sources().into_iter();
        let gone = all.filter(|record| {
            let name = &record.spec.name;
            record.declared == Declared::File && !kept.contains(name) && !self.leaving.contains(name)
        });
        gone.map(|record| record.spec.name.clone()).collect()
    }

    fn set_webhooks(&self, settings: &Settings) {
        self.service.core().webhooks.set(settings.webhooks.keys().cloned().collect());
        self.shared.webhooks.set(&settings.webhooks, settings.webhook_bytes);
        self.shared.webhooks.set_open_hooks(settings.open_hooks.clone());
    }

    fn takes_away(&self, settings: &Settings) -> bool {
        !self.gone(settings).is_empty()
    }

    /// Makes the sources and limits those of the settings; gives back whether all of it could be done.
    async fn apply(&mut self, settings: Settings) -> bool {
        let mut anew = *self.shared.limits.get() != settings.limits;
        if anew {
            tracing::info!("limits changed");
            self.shared.limits.set(settings.limits.clone());
        }
        self.shared.retention.set(settings.retention);
        self.set_webhooks(&settings);
        if self.shared.told.follow(&settings, &self.service) {
            self.service.hosted_elsewhere();
        }
        // Before any source: no unit may read what is kindling's own from now on.
        anew |= self.service.core().trust.reserve(settings.own_variables.clone());
        for name in self.gone(&settings) {
            self.withdrawals.spawn(withdraw(self.service.clone(), name.clone()));
            self.leaving.insert(name);
        }
        let (relays, webhook_bytes) = (settings.relays, settings.webhook_bytes);
        let names: HashSet<SourceName> = settings.sources.iter().map(|spec| spec.name.clone()).collect();
        // One that comes back begins when it has left.
        let declared = join_all(settings.sources.into_iter().map(|spec| async {
            let name = spec.name.clone();
            !self.leaving.contains(&name)
                && told(&name, self.service.declare(spec, anew).await.err().as_ref())
        }))
        .await;
        // Each looks at its source, which is there now.
        self.shared.relays.set(&relays, webhook_bytes);
        let mut others = Vec::new();
        if anew {
            let all = self.service.core().board.sources().into_iter().map(|record| record.spec.name.clone());
            let is_other = |name: &SourceName| !names.contains(name) && !self.leaving.contains(name);
            let added: Vec<SourceName> = all.filter(is_other).collect();
            others = join_all(
                added
                    .iter()
                    .map(|name| async { told(name, self.service.look_anew(name).await.err().as_ref()) }),
            )
            .await;
        }
        declared.into_iter().chain(others).all(|done| done)
    }

    fn show_read(&self, settings: &Settings) {
        let place =
            |(name, line): (&SourceName, &u32)| (name.clone(), format!("{}:{line}", self.file.display()));
        self.service.core().board.set_declared_at(settings.source_lines.iter().map(place).collect());
        let message = format!("{} is applied", self.file.display());
        self.service.core().board.change_service(|conditions| {
            let now = self.service.core().now();
            conditions.set(now, ConditionType::Ready, ConditionStatus::True, "Configured", &message);
        });
    }

    fn show_wrong(&mut self, wrong: Vec<ConfigError>) {
        for error in &wrong {
            let hint = error.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
            tracing::error!("{error}{hint}; what was read before holds");
        }
        let more = match wrong.len() {
            0 | 1 => String::new(),
            some => format!(" (and {} more)", some - 1),
        };
        let first = wrong.first().map(ToString::to_string).unwrap_or_default();
        let message = format!("{first}{more}; what was read before holds");
        self.service.core().board.change_service(|conditions| {
            let (now, reason) = (self.service.core().now(), "InvalidConfiguration");
            conditions.set(now, ConditionType::Ready, ConditionStatus::False, reason, &message);
        });
        self.wrong = wrong;
    }

    /// Says what of the settings needs a start of the service.
    fn show_restart(&self, settings: &Settings) {
        let Started { listen, insecure_http, data_dir, token, programs } = &self.started;
        let text = |token: &Option<Secret>| token.as_ref().map(|token| token.reveal().to_owned());
        let changed = [
            ("server.listen", settings.listen != *listen),
            ("server.insecure_http", settings.insecure_http != *insecure_http),
            ("the token of server", text(&settings.token) != text(token)),
            ("data_dir", settings.data_dir != *data_dir),
            ("runtimes", settings.programs != *programs),
        ];
        let keys: Vec<&str> = changed.iter().filter(|(_, is)| *is).map(|(key, _)| *key).collect();
        self.service.core().board.change_service(|conditions| {
            if keys.is_empty() {
                conditions.clear(ConditionType::RestartRequired);
                return;
            }
            let file = self.file.display();
            let message = format!("{} changed in {file}: start kindling again to use it", keys.join(", "));
            let (now, kind) = (self.service.core().now(), ConditionType::RestartRequired);
            if conditions.set(now, kind, ConditionStatus::True, "ConfigurationChanged", &message) {
                tracing::warn!("{message}");
            }
        });
    }
}

/// Takes a source away that left the file; gives back its name, and whether it has left.
async fn withdraw(service: Service, name: SourceName) -> (SourceName, bool) {
    let all = service.core().board.units();
    let units: Vec<String> =
        all.iter().filter(|unit| unit.id.source == name).map(|unit| unit.id.to_string()).collect();
    let done = service.withdraw(&name).await;
    if done.is_ok() {
        let units = if units.is_empty() { "it had no units".into() } else { units.join(", ") };
        tracing::info!("source {name} left the configuration and was removed with its units: {units}");
    }
    let has_left = told(&name, done.as_ref().err());
    (name, has_left)
}

/// The file's text. Opening a pipe would wait for somebody who writes, and the service for that when it ends.
fn text_of(file: &Path) -> Result<Vec<u8>, Vec<ConfigError>> {
    if std::fs::metadata(file).is_ok_and(|there| !there.is_file()) {
        let message = "is no regular file".into();
        return Err(vec![ConfigError { file: file.to_owned(), at: None, message, hint: None }]);
    }
    config::text(file)
}

/// Waits until the file holds still.
async fn settle(watch: &mut FileWatch) {
    let quiet = async { while tokio::time::timeout(QUIET, watch.changed()).await.is_ok() {} };
    // Read as it is when it never holds still.
    let _ = tokio::time::timeout(LONGEST, quiet).await;
}

/// Tells what could not be done; gives back whether it could.
fn told(name: &SourceName, refusal: Option<&Refusal>) -> bool {
    if let Some(refusal) = refusal {
        tracing::error!("source {name} cannot be configured differently: {refusal}");
    }
    refusal.is_none()
}
