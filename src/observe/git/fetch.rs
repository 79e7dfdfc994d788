//! Lists and fetches one branch with gix.
//!
//! One explicit refspec with `+`, no tags, no submodules, no credentials. What was fetched is what the attempt's own
//! ref says afterwards, whatever gix answered: it reports success for refs that it left alone.

use std::num::NonZeroU32;

use gix::bstr::ByteSlice;
use gix::progress::Discard;
use gix::protocol::handshake::Ref;
use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::blocking_io::{Transport, connect, http};
use gix::refs::FullName;
use gix::remote::fetch::{RefMap, Shallow, Tags};
use gix::remote::{Direction, ref_map};
use gix::{ObjectId, Repository};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::error::{Trouble, flat};
use super::http::{Verdict, Wire};
use super::job::Control;
use super::remote::Remote;
use super::slots::HostSlots;
use super::store;

/// One attempt to bring the repository up to date.
pub(super) struct Fetch<'a> {
    pub(super) repo: &'a Repository,
    pub(super) remote: &'a Remote,
    /// The full ref; `None` for the one that the remote's HEAD names.
    pub(super) branch: Option<&'a FullName>,
    /// What is here already.
    pub(super) have: Option<ObjectId>,
    /// Whether only the newest commit is fetched, and not its history.
    pub(super) shallow: bool,
    /// The deadline once the refs are listed.
    pub(super) until: Instant,
    pub(super) attempt: u64,
    pub(super) slots: &'a HostSlots,
    pub(super) runtime: &'a Handle,
    pub(super) control: &'a Control,
}

type Connection<'a> = gix::remote::Connection<'a, 'static, 'a, Box<dyn Transport + Send>>;

impl Fetch<'_> {
    /// Fetches; gives back the commit that the branch is at, which is in the repository then.
    pub(super) fn run(&self) -> Result<ObjectId, Trouble> {
        let verdict = Verdict::default();
        self.try_run(&verdict).map_err(|trouble| match (trouble, verdict.fault()) {
            // What the server did tells more than what gix made of it.
            (Trouble::Fetch(_), Some(fault)) => fault.into(),
            (Trouble::Fetch(_), None) if self.control.is_abandoned() => Trouble::TimedOut,
            (Trouble::Fetch(why), None) => self.diagnose(why),
            (other, _) => other,
        })
    }

    fn try_run(&self, verdict: &Verdict) -> Result<ObjectId, Trouble> {
        let failed = |error: gix::Error| Trouble::fetch(&error);
        let source = self.branch.map_or("HEAD", |branch| branch.as_bstr().to_str().unwrap_or_default());
        let mine = store::attempt_ref(self.attempt);
        let remote = self.remote(&format!("+{source}:{mine}"))?;
        let listing = self
            .connect(&remote, verdict)?
            .prepare_fetch(Discard, ref_map::Options::default())
            .map_err(failed)?;
        let Some(target) = target(listing.ref_map()) else {
            return Err(self.missing(listing.ref_map(), verdict));
        };
        if Some(target) == self.have {
            return Ok(target);
        }
        self.control.extend_to(self.until);
        let depth = if self.shallow { Shallow::DepthAtRemote(NonZeroU32::MIN) } else { Shallow::NoChange };
        listing.with_shallow(depth).receive(Discard, self.control.interrupted()).map_err(failed)?;
        match store::read_ref(self.repo, &mine)? {
            Some(fetched) if fetched == target => Ok(target),
            _ => Err(Trouble::Fetch("the branch moved while it was fetched".to_owned())),
        }
    }

    fn remote(&self, refspec: &str) -> Result<gix::Remote<'_>, Trouble> {
        let url = match self.remote {
            Remote::File(path) => gix::Url::try_from(path.as_path()),
            Remote::Http(url) => gix::Url::try_from(url.as_str()),
        };
        let build = |url: gix::Url| {
            self.repo
                .remote_at_without_url_rewrite(url)?
                .with_fetch_tags(Tags::None)
                .with_refspecs([refspec], Direction::Fetch)
        };
        url.and_then(build).map_err(|error| Trouble::fetch(&error))
    }

    /// A connection to the remote. A file remote is served by git itself.
    fn connect<'a>(
        &'a self,
        remote: &'a gix::Remote<'a>,
        verdict: &Verdict,
    ) -> Result<Connection<'a>, Trouble> {
        let unreachable = |error: gix::Error| Trouble::Unreachable(flat(&error));
        let (url, _) = remote.sanitized_url_and_version(Direction::Fetch).map_err(unreachable)?;
        let transport: Box<dyn Transport + Send> = match self.remote {
            Remote::File(_) => {
                let options = connect::Options { version: Protocol::V2, ..Default::default() };
                connect::connect(url, options).map_err(unreachable)?
            }
            Remote::Http(_) => {
                let (slots, runtime) = (self.slots.clone(), self.runtime.clone());
                let wire = Wire::new(slots, runtime, self.control.clone(), verdict.clone());
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

    /// Tells an empty remote from a missing branch: lists all refs.
    fn missing(&self, listed: &RefMap, verdict: &Verdict) -> Trouble {
        let list = || -> Result<Vec<Ref>, Trouble> {
            let remote = self.remote("+refs/heads/*:refs/kindling/never/*")?;
            let options =
                ref_map::Options { prefix_from_spec_as_filter_on_remote: false, ..Default::default() };
            let connection = self.connect(&remote, verdict)?;
            let (map, _) = connection.ref_map(Discard, options).map_err(|error| Trouble::fetch(&error))?;
            Ok(map.remote_refs)
        };
        let refs = match list() {
            Ok(refs) => refs,
            Err(trouble) => return trouble,
        };
        let there: Vec<String> = refs.iter().filter_map(branch).collect();
        if refs.iter().all(|found| matches!(found, Ref::Unborn { .. })) {
            return Trouble::Empty;
        }
        let head = listed.remote_refs.iter().chain(&refs).find_map(unborn_head);
        let wanted = self.branch.map(|branch| short(branch.as_bstr())).or(head);
        Trouble::BranchMissing { branch: wanted.unwrap_or_else(|| "HEAD".to_owned()), there }
    }

    /// Says more about a failure that gix does not explain.
    fn diagnose(&self, why: String) -> Trouble {
        match self.remote {
            Remote::File(path) if is_foreign(path) => Trouble::Fetch(format!(
                "{why} (the repository belongs to another user: `git config --global --add safe.directory {}` \
                 lets git read it)",
                path.display()
            )),
            Remote::File(_) | Remote::Http(_) => Trouble::Fetch(why),
        }
    }
}

/// The commit that the one ref that was asked for is at.
fn target(map: &RefMap) -> Option<ObjectId> {
    let ids = map.mappings.iter().filter_map(|mapping| mapping.remote.as_id());
    ids.map(ToOwned::to_owned).next()
}

fn branch(found: &Ref) -> Option<String> {
    let (name, _, _) = found.unpack();
    name.strip_prefix(b"refs/heads/").map(|name| name.as_bstr().to_string())
}

fn unborn_head(found: &Ref) -> Option<String> {
    match found {
        Ref::Unborn { full_ref_name, target } if full_ref_name == "HEAD" => Some(short(target.as_bstr())),
        _ => None,
    }
}

fn short(name: &gix::bstr::BStr) -> String {
    name.strip_prefix(b"refs/heads/").unwrap_or(name).as_bstr().to_string()
}

fn is_foreign(path: &std::path::Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let own = rustix::process::geteuid().as_raw();
    std::fs::metadata(path).is_ok_and(|meta| meta.uid() != own)
}
