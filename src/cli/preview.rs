//! What switching a source to a directory would change, without a service: against what the last one recorded.
//!
//! The store is copied and the copy is read, so that nothing in the data directory is written.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::api::wire::ReportView;
use crate::app::{DATABASE_FILE, LOCK_FILE};
use crate::config::{Role, Settings};
use crate::model::hook::HookPath;
use crate::model::id::{SourceName, UnitId};
use crate::model::problem::Problem;
use crate::model::source::{Allow, Declared};
use crate::model::step::{Action, Generation};
use crate::model::unit::Version;
use crate::plan::catalog::{Catalog, Entry, Resolved};
use crate::plan::decide::{self, Facts, Live};
use crate::plan::{guard, hook, trust};
use crate::reconcile::held_back;
use crate::reconcile::message::{Done, Report};
use crate::reconcile::trust::token_variable;
use crate::record::{Store, StoreError, UnitRecord};

use super::Context;
use super::error::CliError;
use super::look;

/// What a store has of a source: its units with what is deployed, and the generations of those that are gone.
#[derive(Default)]
struct Recorded {
    is_known: bool,
    units: HashMap<Arc<str>, (UnitRecord, Option<Version>)>,
    gone: HashMap<Arc<str>, Generation>,
    /// The units that are deployed at paths of webhooks, of every source.
    hooks: BTreeMap<HookPath, UnitId>,
}

/// What a pass would do if the tree of `source` were taken from `path`, and what was not looked at, in words.
/// `not_reached` is why no service was asked.
pub(super) async fn preview(
    context: &Context,
    source: &str,
    path: &Path,
    not_reached: CliError,
) -> Result<(ReportView, Option<String>), CliError> {
    let settings = context.settings(Role::Client)?;
    let name = SourceName::new(source).map_err(|_| unknown(source))?;
    let Some(recorded) = read(&settings, &name).await? else { return Err(not_reached) };
    if !recorded.is_known && !settings.sources.iter().any(|spec| spec.name == name) {
        return Err(unknown(source));
    }
    let looked = look::look(path, std::slice::from_ref(&settings.data_dir), &settings.limits, true).await?;
    let may = May::of(&name, &settings);
    Ok((ReportView::from(&compare(&name, &looked.catalog, &recorded, &may)), looked.elsewhere()))
}

fn unknown(source: &str) -> CliError {
    CliError::usage(format!("there is no source {}", source.escape_debug())).hint(
        "without a service, --local takes the name of a source in kindling.yaml or in its data directory",
    )
}

/// What the units of a source may have, as far as the configuration says it.
struct May<'a> {
    allow: Cow<'a, Allow>,
    declared: Declared,
    own: BTreeSet<String>,
}

impl<'a> May<'a> {
    fn of(name: &SourceName, settings: &'a Settings) -> Self {
        let known = settings.sources.iter().find(|spec| spec.name == *name);
        let mut own = settings.own_variables.clone();
        own.extend(settings.sources.iter().filter_map(token_variable));
        Self {
            allow: known.map_or_else(Cow::default, |spec| Cow::Borrowed(&spec.allow)),
            declared: if known.is_some() { Declared::File } else { Declared::Command },
            own,
        }
    }

    fn refusal(&self, source: &SourceName, unit: &Resolved) -> Option<Problem> {
        trust::beyond(&unit.spec, source, &self.allow, self.declared, &self.own)
    }
}

fn compare(source: &SourceName, catalog: &Catalog, recorded: &Recorded, may: &May<'_>) -> Report {
    let mut report = Report::default();
    let of_source: Vec<_> = catalog.homeless_problems().cloned().collect();
    if !of_source.is_empty() {
        report.of_sources.push((source.clone(), of_source));
    }
    let mut taken = hook::of_source(source, catalog, &recorded.hooks);
    let found = catalog.iter().map(|(key, _)| Arc::clone(key));
    let keys: BTreeSet<Arc<str>> = found.chain(recorded.units.keys().cloned()).collect();
    for key in keys {
        let id = UnitId { source: source.clone(), key: Arc::clone(&key) };
        let desired = match catalog.get(&key) {
            Some(Entry { state: Err(problems), .. }) => {
                report.problems.push((id, problems.clone()));
                continue;
            }
            Some(Entry { state: Ok(resolved), .. }) => {
                if let Some(problem) = may.refusal(source, resolved).or_else(|| taken.remove(&key)) {
                    report.problems.push((id, vec![problem]));
                    continue;
                }
                Some(resolved)
            }
            // Below a set that cannot be read, and in other repositories, nobody knows.
            None if catalog.is_kept(&key) => continue,
            None => None,
        };
        let known = recorded.units.get(&key);
        let (record, deployed) =
            (known.map(|(record, _)| record), known.and_then(|(_, version)| version.as_ref()));
        let step = decide::decide(&Facts {
            unit: &id,
            desired,
            deployed,
            generation: record
                .map(|record| record.generation)
                .or_else(|| recorded.gone.get(&key).copied())
                .unwrap_or_default(),
            // As a service finds it that was just started.
            live: Live { registered: deployed.map(|version| version.hash), supervised: true },
            hold: record.and_then(|record| record.hold.as_ref()).map(|hold| hold.hash),
            suspended: record.is_some_and(|record| record.suspended.is_some()),
            forced: false,
            backing_off: false,
            in_progress: None,
            is_leaving: false,
        });
        if step.action != Action::Noop {
            report.steps.push(Done { step, error: None });
        }
    }
    report.guarded.extend(guarded(source, recorded, &report));
    report
}

/// What a service would not do unasked.
fn guarded(source: &SourceName, recorded: &Recorded, report: &Report) -> Option<(SourceName, String)> {
    let removed = report.steps.iter().filter(|done| done.step.action == Action::Remove);
    let gone: Vec<UnitId> = removed.map(|done| done.step.unit.clone()).collect();
    let deployed = recorded.units.values().filter(|(_, version)| version.is_some()).count();
    guard::needs_permission(deployed, gone.len()).then(|| (source.clone(), held_back(source, &gone)))
}

/// What the data directory has of a source; `None` while a service holds it.
async fn read(settings: &Settings, source: &SourceName) -> Result<Option<Recorded>, CliError> {
    of_copy(settings, async |store| of_source(store, source).await).await
}

/// The versions that are deployed by the data directory; `None` while a service holds it.
pub(super) async fn deployed(settings: &Settings) -> Result<Option<Vec<Version>>, CliError> {
    of_copy(settings, async |store| store.deployed_versions().await).await
}

/// What is read from a copy of the store; nothing where there is no store, `None` while a service holds it.
async fn of_copy<R: Default>(
    settings: &Settings,
    read: impl AsyncFnOnce(&Store) -> Result<R, StoreError>,
) -> Result<Option<R>, CliError> {
    let failed = |error: &io::Error| {
        let dir = settings.data_dir.display();
        CliError::outside(format!("the store in {dir} cannot be copied to be read")).because(error)
    };
    let database = settings.data_dir.join(DATABASE_FILE);
    if !database.exists() {
        return Ok(Some(R::default()));
    }
    // Given back when it is dropped.
    let lock = File::open(settings.data_dir.join(LOCK_FILE)).map_err(|error| failed(&error))?;
    match lock.try_lock_shared() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
        Err(fs::TryLockError::Error(error)) => return Err(failed(&error)),
    }
    let copy = Copy::of(&database).map_err(|error| failed(&error))?;
    drop(lock);
    let told = |error: StoreError| CliError::outside("the store cannot be read").because_of(&error);
    let store = Store::open(&copy.0.join(DATABASE_FILE)).await.map_err(told)?;
    let read = read(&store).await.map_err(told);
    store.close().await.map_err(told)?;
    read.map(Some)
}

async fn of_source(store: &Store, source: &SourceName) -> Result<Recorded, StoreError> {
    let is_known = store.sources().await?.iter().any(|record| record.spec.name == *source);
    let versions = store.deployed_versions().await?;
    let at_path = |version: &Version| Some((version.spec.hook()?.path.clone(), version.unit.clone()));
    let hooks = versions.iter().filter_map(at_path).collect();
    let versions = versions.into_iter();
    let mut versions: HashMap<UnitId, Version> =
        versions.map(|version| (version.unit.clone(), version)).collect();
    let units = store.units().await?.into_iter().filter(|unit| unit.id.source == *source);
    let units = units
        .map(|unit| {
            let version = versions.remove(&unit.id);
            (Arc::clone(&unit.id.key), (unit, version))
        })
        .collect();
    let gone = store.removed_units().await?.into_iter().filter(|unit| unit.id.source == *source);
    let gone = gone.map(|unit| (unit.id.key, unit.generation.next())).collect();
    Ok(Recorded { is_known, units, gone, hooks })
}

/// A folder of our own with a copy of the store; goes with this value.
struct Copy(PathBuf);

impl Copy {
    fn of(database: &Path) -> io::Result<Self> {
        let mut bytes = [0_u8; 8];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let name = format!("kindling-diff-{:016x}", u64::from_be_bytes(bytes));
        let copy = Self(std::env::temp_dir().join(name));
        DirBuilder::new().mode(0o700).create(&copy.0)?;
        let to = copy.0.join(DATABASE_FILE);
        fs::copy(database, &to)?;
        // What a killed service wrote last.
        let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
        match fs::copy(log(database), log(&to)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(copy),
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What is left lies in the system's folder for such.
        let _ = fs::remove_dir_all(&self.0);
    }
}
