//! Lists and fetches what is followed with gix.
//!
//! One explicit refspec with `+`, no tags but the one that is followed, no submodules. What was fetched is what the
//! attempt's own ref says afterwards, whatever gix answered: it reports success for refs that it left alone.

use std::num::NonZeroU32;
use std::path::Path;

use gix::bstr::{BStr, ByteSlice};
use gix::objs::Kind;
use gix::progress::Discard;
use gix::protocol::handshake::Ref;
use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::blocking_io::{Transport, connect, http};
use gix::remote::fetch::{RefMap, Shallow, Tags};
use gix::remote::{Direction, ref_map};
use gix::{ObjectId, Repository};
use semver::VersionReq;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Place;
use super::credential::{Login, key_file};
use super::error::{Trouble, flat};
use super::http::{Verdict, Wire};
use super::job::Control;
use super::plain;
use super::reference::{Followed, TAGS, highest};
use super::remote::Remote;
use super::slots::HostSlots;
use super::ssh::Session;
use super::store::{self, Store};

/// One attempt to bring the repository up to date.
pub(super) struct Fetch<'a> {
    pub(super) repo: &'a Repository,
    pub(super) store: &'a Store,
    pub(super) place: &'a Place,
    /// What is here already.
    pub(super) have: Option<ObjectId>,
    /// Whether only the newest commit is fetched, and not its history.
    pub(super) shallow: bool,
    /// The deadline once the refs are listed.
    pub(super) until: Instant,
    pub(super) attempt: u64,
    /// The folder of what ssh needs.
    pub(super) ssh_dir: &'a Path,
    pub(super) slots: &'a HostSlots,
    pub(super) runtime: &'a Handle,
    pub(super) control: &'a Control,
}

const HEADS: &str = "refs/heads/";

type Connection<'a> = gix::remote::Connection<'a, 'static, 'a, Box<dyn Transport + Send>>;

/// What one attempt needs to connect, and what went wrong on its way.
struct Line {
    login: Option<Login>,
    verdict: Verdict,
    session: Option<Session>,
}

impl Fetch<'_> {
    /// Fetches; gives back the commit that is followed, which is in the repository then.
    pub(super) fn run(&self) -> Result<ObjectId, Trouble> {
        let auth = self.place.auth.as_ref();
        let session = match &self.place.remote {
            Remote::Ssh(url) => Some(Session::begin(
                url,
                key_file(auth)?,
                self.ssh_dir,
                self.attempt,
                self.runtime,
                self.control,
            )?),
            Remote::File(_) | Remote::Http(_) => None,
        };
        let line =
            Line { login: Login::read(auth, &self.place.remote)?, verdict: Verdict::default(), session };
        self.try_run(&line).map_err(|trouble| self.explain(trouble, &line))
    }

    /// What the server did tells more than what gix made of it.
    fn explain(&self, trouble: Trouble, line: &Line) -> Trouble {
        let why = match trouble {
            Trouble::Fetch(why) => why,
            Trouble::Unreachable(why) if line.session.is_some() => why,
            other => return other,
        };
        if let Some(fault) = line.verdict.fault() {
            return match fault.into() {
                Trouble::Refused { how, .. } => Trouble::Refused { how, asked: line.login.is_some() },
                other => other,
            };
        }
        if self.control.is_abandoned() {
            return Trouble::TimedOut;
        }
        match &line.session {
            Some(session) => session.explain(why),
            None => self.diagnose(why),
        }
    }

    fn try_run(&self, line: &Line) -> Result<ObjectId, Trouble> {
        match &self.place.followed {
            Followed::Head => self.one("HEAD", line),
            Followed::Ref(name) => self.one(name.as_bstr().to_str().unwrap_or_default(), line),
            Followed::Highest(range) => {
                let (name, at) = self.highest(range, line)?;
                if Some(at) == self.have { Ok(at) } else { self.one(&name, line) }
            }
            Followed::Commit(id) => self.commit(*id, line),
        }
    }

    /// Fetches one ref, or the commit with an id, into the attempt's own ref.
    fn one(&self, source: &str, line: &Line) -> Result<ObjectId, Trouble> {
        let failed = |error: gix::Error| Trouble::fetch(&error);
        let mine = store::attempt_ref(self.attempt);
        let remote = self.remote(&[format!("+{source}:{mine}")])?;
        let listing = self
            .connect(&remote, line)?
            .prepare_fetch(Discard, ref_map::Options::default())
            .map_err(failed)?;
        let Some(target) = target(listing.ref_map()) else {
            return Err(self.missing(listing.ref_map(), line));
        };
        if Some(target) == self.have {
            return Ok(target);
        }
        self.control.extend_to(self.until);
        let depth = if self.shallow { Shallow::DepthAtRemote(NonZeroU32::MIN) } else { Shallow::NoChange };
        listing.with_shallow(depth).receive(Discard, self.control.interrupted()).map_err(failed)?;
        let fetched = store::read_ref(self.repo, &mine)?;
        match fetched.map(|id| store::peel(self.repo, id)).transpose()?.flatten() {
            Some(fetched) if fetched == target => Ok(target),
            _ => Err(Trouble::Fetch("the ref moved while it was fetched".to_owned())),
        }
    }

    /// The full name of the tag with the highest version in the range, and what it leads to.
    fn highest(&self, range: &VersionReq, line: &Line) -> Result<(String, ObjectId), Trouble> {
        let refs = self.list(&format!("+{TAGS}*:refs/kindling/never/*"), true, line)?;
        let tag = |found: &Ref| {
            let (name, id, peeled) = found.unpack();
            let name = name.strip_prefix(TAGS.as_bytes())?.to_str().ok()?.to_owned();
            Some((name, peeled.or(id)?.to_owned()))
        };
        if let Some((name, id)) = highest(range, refs.iter().filter_map(tag)) {
            return Ok((format!("{TAGS}{name}"), id));
        }
        let all = self.list("+refs/heads/*:refs/kindling/never/*", false, line)?;
        if is_empty(&all) {
            return Err(Trouble::Empty);
        }
        Err(Trouble::version_missing(range, names(&all, TAGS)))
    }

    /// Fetches a commit by its id, or where the server does not give it out so, with all branches and tags.
    fn commit(&self, id: ObjectId, line: &Line) -> Result<ObjectId, Trouble> {
        match self.one(&id.to_string(), line) {
            Err(Trouble::Fetch(why)) if line.verdict.fault().is_none() && !self.control.is_abandoned() => {
                tracing::debug!(remote = %self.place.remote, why, "the commit is looked for on all branches and tags");
            }
            done => return done,
        }
        let all = store::all_refs(self.attempt);
        let specs = ["heads", "tags"].map(|kind| format!("+refs/{kind}/*:{all}/{kind}/*"));
        let remote = self.remote(&specs)?;
        let options = ref_map::Options::default();
        let failed = |error: gix::Error| Trouble::fetch(&error);
        let listing = self.connect(&remote, line)?.prepare_fetch(Discard, options).map_err(failed)?;
        if listing.ref_map().mappings.is_empty() {
            return Err(if is_empty(&listing.ref_map().remote_refs) {
                Trouble::Empty
            } else {
                Trouble::CommitMissing(id)
            });
        }
        self.control.extend_to(self.until);
        listing.receive(Discard, self.control.interrupted()).map_err(failed)?;
        let found = self.repo.try_find_object(id).map_err(|error| Trouble::damaged(&error))?;
        let is_here = found.is_some_and(|found| found.kind == Kind::Commit);
        // What was fetched stays the base of the next attempt, until the commit is found.
        self.store.forget_all(Some(self.attempt).filter(|_| !is_here));
        if is_here { Ok(id) } else { Err(Trouble::CommitMissing(id)) }
    }

    fn remote(&self, refspecs: &[String]) -> Result<gix::Remote<'_>, Trouble> {
        let url = match &self.place.remote {
            Remote::File(path) => gix::Url::try_from(path.as_path()),
            Remote::Http(url) => gix::Url::try_from(url.as_str()),
            Remote::Ssh(url) => gix::Url::from_parts(
                gix::url::Scheme::Ssh,
                url.user.clone(),
                None,
                Some(url.host.clone()),
                url.port,
                url.path.clone().into(),
                !url.path.starts_with('/'),
            ),
        };
        let build = |url: gix::Url| {
            self.repo
                .remote_at_without_url_rewrite(url)?
                .with_fetch_tags(Tags::None)
                .with_refspecs(refspecs.iter().map(String::as_str), Direction::Fetch)
        };
        url.and_then(build).map_err(|error| Trouble::fetch(&error))
    }

    /// A connection to the remote. A file remote is served by git itself.
    fn connect<'a>(&'a self, remote: &'a gix::Remote<'a>, line: &Line) -> Result<Connection<'a>, Trouble> {
        let unreachable = |error: gix::Error| {
            let why = flat(&error);
            Trouble::Unreachable(plain::fetch(&why).unwrap_or(why))
        };
        let (url, _) = remote.sanitized_url_and_version(Direction::Fetch).map_err(unreachable)?;
        let transport: Box<dyn Transport + Send> = match &line.session {
            Some(session) => session.connect(url)?,
            None if matches!(self.place.remote, Remote::File(_)) => {
                let options = connect::Options { version: Protocol::V2, ..Default::default() };
                connect::connect(url, options).map_err(unreachable)?
            }
            None => {
                let (slots, runtime) = (self.slots.clone(), self.runtime.clone());
                let (control, verdict) = (self.control.clone(), line.verdict.clone());
                let wire = Wire::new(slots, runtime, control, verdict, line.login.clone());
                Box::new(http::connect_http(wire, url, Protocol::V2, false))
            }
        };
        Ok(remote
            .to_connection_with_transport(transport)
            // No helper and no prompt is ever asked.
            .with_credentials(|_| Ok(None))
            // Given, so that gix reads none from a configuration.
            .with_transport_options(Box::new(())))
    }

    /// Lists refs; only those that `spec` is about where `filtered`.
    fn list(&self, spec: &str, filtered: bool, line: &Line) -> Result<Vec<Ref>, Trouble> {
        let remote = self.remote(&[spec.to_owned()])?;
        let options =
            ref_map::Options { prefix_from_spec_as_filter_on_remote: filtered, ..Default::default() };
        let connection = self.connect(&remote, line)?;
        let (map, _) = connection.ref_map(Discard, options).map_err(|error| Trouble::fetch(&error))?;
        Ok(map.remote_refs)
    }

    /// Tells an empty remote from a missing branch or tag: lists all refs.
    fn missing(&self, listed: &RefMap, line: &Line) -> Trouble {
        let refs = match self.list("+refs/heads/*:refs/kindling/never/*", false, line) {
            Ok(refs) => refs,
            Err(trouble) => return trouble,
        };
        if is_empty(&refs) {
            return Trouble::Empty;
        }
        let wanted = match &self.place.followed {
            Followed::Ref(name) => Some(name.as_bstr().to_string()),
            Followed::Head | Followed::Highest(_) | Followed::Commit(_) => None,
        };
        if let Some(tag) = wanted.as_ref().and_then(|name| name.strip_prefix(TAGS)) {
            return Trouble::tag_missing(tag, names(&refs, TAGS));
        }
        let head = || listed.remote_refs.iter().chain(&refs).find_map(unborn_head);
        let branch = wanted.or_else(head).unwrap_or_else(|| "HEAD".to_owned());
        Trouble::branch_missing(branch.strip_prefix(HEADS).unwrap_or(&branch), names(&refs, HEADS))
    }

    fn is_near(&self) -> bool {
        matches!(self.place.remote, Remote::File(_))
    }

    /// Says more about a failure that gix does not explain.
    fn diagnose(&self, why: String) -> Trouble {
        let is_cut = why.contains("failed to fill whole buffer");
        if let Some(plainly) = plain::fetch(&why).filter(|_| !(is_cut && self.is_near())) {
            return Trouble::Fetch(plainly);
        }
        match &self.place.remote {
            Remote::File(path) if is_foreign(path) => Trouble::Fetch(format!(
                "{why} (the repository belongs to another user: `git config --global --add safe.directory {}` \
                 lets git read it)",
                path.display()
            )),
            Remote::File(path) if is_cut => Trouble::Fetch(format!(
                "git broke its answer off: `git -C {} fsck` says what is wrong with the repository",
                path.display()
            )),
            // gix's words for an answer of another type.
            Remote::Http(_) if why.contains("to indicate 'smart' protocol") => Trouble::Fetch(
                "what answers there is no git server, or wants a login in a browser: correct the URL"
                    .to_owned(),
            ),
            Remote::File(_) | Remote::Http(_) | Remote::Ssh(_) => Trouble::Fetch(why),
        }
    }
}

/// What the one ref that was asked for leads to.
fn target(map: &RefMap) -> Option<ObjectId> {
    let ids = map.mappings.iter().filter_map(|mapping| mapping.remote.peeled_id());
    ids.map(ToOwned::to_owned).next()
}

/// Whether a listing of all refs has none that leads anywhere.
fn is_empty(refs: &[Ref]) -> bool {
    refs.iter().all(|found| matches!(found, Ref::Unborn { .. }))
}

/// The short names of the refs below `prefix`.
fn names(refs: &[Ref], prefix: &str) -> Vec<String> {
    let short = |found: &Ref| {
        let name: &BStr = found.unpack().0;
        name.strip_prefix(prefix.as_bytes()).map(|name| name.as_bstr().to_string())
    };
    refs.iter().filter_map(short).collect()
}

fn unborn_head(found: &Ref) -> Option<String> {
    match found {
        Ref::Unborn { full_ref_name, target } if full_ref_name == "HEAD" => Some(target.to_string()),
        _ => None,
    }
}

/// Whether a file belongs to another user.
pub(super) fn is_foreign(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let own = rustix::process::geteuid().as_raw();
    std::fs::metadata(path).is_ok_and(|meta| meta.uid() != own)
}
