//! What is asked for: passes, rollback, suspension, sources.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State as AxumState;
use futures_util::future::join_all;

use crate::act::Target;
use crate::config::{self, duration, remote};
use crate::model::hash::UnitHash;
use crate::model::id::{SourceName, UnitId};
use crate::model::path::RelPath;
use crate::model::source::{
    Allow, DEFAULT_POLL_INTERVAL, GitOrigin, GitRef, LocalOrigin, Origin, Rewrite, SourceSpec,
};
use crate::reconcile::handle::{Reconcile, Subject};
use crate::reconcile::message::{Refusal, Report};

use super::State;
use super::error::Failure;
use super::given::{Body, Part};
use super::subject;
use super::wire::{
    DevRequest, DiffRequest, NewSource, ReconcileRequest, ReportView, RollbackRequest, SubjectRequest,
    SuspendRequest, UnitRequest,
};

type Answer = Result<Json<ReportView>, Failure>;

pub(super) async fn reconcile<T: Target>(
    AxumState(api): State<T>,
    Body(request): Body<ReconcileRequest>,
) -> Answer {
    let subjects = subject::subjects(&api.service, request.subject.as_deref())?;
    let ReconcileRequest { rescan, force, allow_removals, allow_rewrite, .. } = request;
    let options = Reconcile { rescan, force, allow_removals, allow_rewrite };
    gather(&subjects, join_all(subjects.iter().map(|subject| api.service.reconcile(subject, options))).await)
}

pub(super) async fn wait<T: Target>(AxumState(api): State<T>, Body(request): Body<SubjectRequest>) -> Answer {
    let subjects = subject::subjects(&api.service, request.subject.as_deref())?;
    gather(&subjects, join_all(subjects.iter().map(|subject| api.service.settle(subject))).await)
}

pub(super) async fn diff<T: Target>(AxumState(api): State<T>, Body(request): Body<DiffRequest>) -> Answer {
    let subjects = subject::subjects(&api.service, request.subject.as_deref())?;
    if let Some(path) = &request.local {
        let (Some(_), [subject]) = (&request.subject, &subjects[..]) else {
            return Err(Failure::invalid("a directory is compared with one source: name it"));
        };
        working_copy(path, &api.data_dir)?;
        return gather(&subjects, vec![api.service.preview(subject.source(), path).await]);
    }
    gather(&subjects, join_all(subjects.iter().map(|subject| api.service.diff(subject.source()))).await)
}

/// One report out of several. A unit's report says only what is about the unit; the first failure is the answer, for
/// nobody may take a part for the whole.
fn gather(subjects: &[Subject], reports: Vec<Result<Report, Refusal>>) -> Answer {
    let mut whole = Report::default();
    for (subject, report) in subjects.iter().zip(reports) {
        let mut report = report?;
        if let Some(unit) = subject.unit() {
            only_about(&mut report, unit);
        }
        whole.steps.append(&mut report.steps);
        whole.problems.append(&mut report.problems);
        whole.of_sources.append(&mut report.of_sources);
        whole.unready.append(&mut report.unready);
        whole.guarded.append(&mut report.guarded);
    }
    Ok(Json((&whole).into()))
}

fn only_about(report: &mut Report, unit: &UnitId) {
    let id = unit.to_string();
    report.steps.retain(|done| done.step.unit == *unit);
    report.problems.retain(|(of, _)| of == unit);
    report.of_sources.clear();
    report.unready.retain(|(name, _)| *name == id);
    if report.steps.is_empty() {
        report.guarded.clear();
    }
}

pub(super) async fn rollback<T: Target>(
    AxumState(api): State<T>,
    Body(request): Body<RollbackRequest>,
) -> Answer {
    let unit = subject::unit(&api.service, &request.unit)?;
    let to = match &request.to {
        Some(prefix) => Some(version(&api, &unit.id, prefix).await?),
        None => None,
    };
    let report = api.service.roll_back(&unit.id, to).await?;
    Ok(Json((&report).into()))
}

async fn version<T: Target>(api: &super::Api<T>, unit: &UnitId, prefix: &str) -> Result<UnitHash, Failure> {
    if prefix.len() < 4 || !prefix.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(Failure::invalid("a version is named by at least 4 hexadecimal digits of its hash"));
    }
    let prefix = prefix.to_ascii_lowercase();
    let versions = api.service.core().store.versions(unit).await?;
    let mut found = versions.iter().filter(|version| version.hash.to_string().starts_with(&prefix));
    match (found.next(), found.next()) {
        (Some(version), None) => Ok(version.hash),
        (Some(_), Some(_)) => {
            Err(Failure::ambiguous(format!("more than one version of {unit} begins with {prefix}")))
        }
        (None, _) => {
            let message = format!("{unit} has no version {prefix} that is kept");
            Err(Failure::not_found(message).hint(format!("kindling history {unit}")))
        }
    }
}

pub(super) async fn restart<T: Target>(AxumState(api): State<T>, Body(request): Body<UnitRequest>) -> Answer {
    let unit = subject::unit(&api.service, &request.unit)?;
    let subject = Subject::Unit(unit.id.clone());
    gather(std::slice::from_ref(&subject), vec![api.service.restart(&unit.id).await])
}

pub(super) async fn suspend<T: Target>(
    AxumState(api): State<T>,
    Body(request): Body<SuspendRequest>,
) -> Answer {
    if request.reason.trim().is_empty() {
        return Err(Failure::invalid("a suspension needs a reason"));
    }
    let subject = subject::subject(&api.service, &request.subject)?;
    let report = api.service.suspend(&subject, request.reason).await?;
    Ok(Json((&report).into()))
}

pub(super) async fn resume<T: Target>(
    AxumState(api): State<T>,
    Body(request): Body<SubjectRequest>,
) -> Answer {
    let Some(typed) = request.subject else { return Err(Failure::invalid("a subject is needed")) };
    let subject = subject::subject(&api.service, &typed)?;
    gather(std::slice::from_ref(&subject), vec![api.service.resume(&subject).await])
}

pub(super) async fn add_source<T: Target>(AxumState(api): State<T>, Body(new): Body<NewSource>) -> Answer {
    let spec = spec_of(new)?;
    if let Origin::Local(local) = &spec.origin
        && config::is_inside(&local.path, &api.data_dir)
    {
        let path = local.path.display();
        return Err(Failure::invalid(format!(
            "{path} is the data directory or lies inside it, where no unit is looked for"
        )));
    }
    let report = api.service.add_source(spec).await?;
    Ok(Json((&report).into()))
}

fn spec_of(new: NewSource) -> Result<SourceSpec, Failure> {
    let name = SourceName::new(&new.name).map_err(|why| Failure::invalid(why.to_string()))?;
    let origin = match (new.git, new.local) {
        (Some(url), None) => git_origin(url, new.branch, new.path.as_deref())?,
        (None, Some(_)) if new.branch.is_some() || new.path.is_some() => {
            return Err(Failure::invalid("a branch and a path go with a repository"));
        }
        (None, Some(path)) if PathBuf::from(&path).is_absolute() => {
            Origin::Local(LocalOrigin { path: path.into(), debounce: None })
        }
        (None, Some(_)) => return Err(Failure::invalid("a local directory must be absolute")),
        _ => return Err(Failure::invalid("a source is either a git repository or a local directory")),
    };
    Ok(SourceSpec { name, origin, allow: Allow::default() })
}

fn git_origin(url: String, branch: Option<String>, path: Option<&str>) -> Result<Origin, Failure> {
    remote::check_url(&url).map_err(|why| Failure::invalid(format!("the URL {why}")))?;
    if let Some(branch) = &branch {
        remote::check_branch(branch).map_err(|why| Failure::invalid(format!("the branch {why}")))?;
    }
    let path = RelPath::parse(path.unwrap_or("."))
        .map_err(|why| Failure::invalid(format!("the path must stay inside the repository: {why}")))?;
    Ok(Origin::Git(GitOrigin {
        url,
        reference: branch.map_or(GitRef::Head, GitRef::Branch),
        path,
        poll_interval: DEFAULT_POLL_INTERVAL,
        auth: None,
        rewrite: Rewrite::default(),
    }))
}

pub(super) async fn dev_on<T: Target>(
    AxumState(api): State<T>,
    Part(name): Part,
    Body(request): Body<DevRequest>,
) -> Answer {
    let name = source_name(&name)?;
    let length = match request.length.as_deref().map(|text| (text, duration::duration(text))) {
        None => None,
        Some((_, Some(length))) if !length.is_zero() => Some(length),
        Some(_) => return Err(Failure::invalid(format!("`for` takes {}", duration::DURATION))),
    };
    // What is wrong with the source is told before what is wrong with the path.
    if api.service.core().board.source(&name).is_some_and(|s| matches!(s.spec.origin, Origin::Git(_))) {
        working_copy(&request.path, &api.data_dir)?;
    }
    let report = api.service.dev_on(&name, &request.path, length).await?;
    Ok(Json((&report).into()))
}

pub(super) async fn dev_off<T: Target>(AxumState(api): State<T>, Part(name): Part) -> Answer {
    let report = api.service.dev_off(&source_name(&name)?).await?;
    Ok(Json((&report).into()))
}

/// Refuses a path that cannot stand for a source's tree.
fn working_copy(path: &str, data_dir: &std::path::Path) -> Result<(), Failure> {
    let shown = path.escape_debug();
    let path = std::path::Path::new(path);
    if !path.is_absolute() || path.to_str().is_some_and(|text| text.contains('\0')) {
        return Err(Failure::invalid("the path of a directory must be absolute"));
    }
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(Failure::invalid(format!("{shown} is not a directory"))),
        Err(error) => return Err(Failure::invalid(format!("there is no directory {shown}: {error}"))),
    }
    if config::is_inside(path, data_dir) {
        return Err(Failure::invalid(format!(
            "{shown} is the data directory or lies inside it, where no unit is looked for"
        )));
    }
    Ok(())
}

pub(super) async fn remove_source<T: Target>(AxumState(api): State<T>, Part(name): Part) -> Answer {
    let report = api.service.remove_source(&source_name(&name)?).await?;
    Ok(Json((&report).into()))
}

/// The name in a path; one that cannot be a name is no source's.
fn source_name(text: &str) -> Result<SourceName, Failure> {
    let unknown = || {
        Failure::not_found(format!("there is no source {}", text.escape_debug())).hint("kindling get sources")
    };
    SourceName::new(text).map_err(|_| unknown())
}
