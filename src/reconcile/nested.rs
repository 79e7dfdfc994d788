//! The repositories that a source's sets lead to: observed beside the source, each by itself, and read where its files
//! are wanted. Decides nothing of units.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::act::Target;
use crate::model::condition::ConditionType;
use crate::model::history::{Cause, TriggerKind};
use crate::model::path::RelPath;
use crate::model::source::{Declared, Revision, SourceSpec};
use crate::model::tree::{Changes, Refused, Tree};
use crate::observe::{Ask, Observation, ObserveError, ReadRefusal, Reading, Sink, Source, Want};
use crate::plan::nested::{Repositories, as_source};

use crate::record::SourceRecord;

use super::message::{Look, PassOrder};
use super::runs::chain;
use super::source_loop::{Open, SourceLoop, retry_after};

/// How long a pass waits for a repository that it hears of for the first time. One that takes longer has a pass of its
/// own when it comes in, so it holds up nobody.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a command waits for repositories that are looked at because of it.
const PATIENCE_OF_COMMAND: Duration = Duration::from_secs(10);
/// How long somebody waits who only wants to know what a pass would do.
const PATIENCE_OF_TRIAL: Duration = Duration::from_secs(60);
/// How long one is waited for of which a copy is kept here: then the copy is taken, and it is looked at afterwards.
const PATIENCE_BESIDE_COPY: Duration = Duration::from_secs(1);
/// How long the files of a credential may take to be looked at.
const PATIENCE_OF_POLL: Duration = Duration::from_millis(100);

/// The end of a look at one repository.
pub(super) struct Seen<S> {
    root: RelPath,
    source: S,
    /// `None` where nothing changed that an attempt depends on, or no answer came before that of the copy.
    looked: Option<Result<Observation, ObserveError>>,
    /// What was fetched of it last, where it was never seen since and cannot be had.
    kept: Option<Observation>,
}

struct Repository<S> {
    /// `None` while it is looked at.
    source: Option<S>,
    /// Its tree when it was last seen, with every path below its root.
    tree: Option<Tree>,
    revision: Option<Revision>,
    /// Whether that does not descend from the one before.
    rewritten: bool,
    /// Why the last look failed.
    trouble: Option<String>,
    failures: u32,
    next_look: Instant,
    /// Whether a look is owed to it: its copy was taken before it answered.
    is_owed: bool,
    /// Whether a person is needed to reach it at all.
    needs_person: bool,
}

/// All repositories that a source's sets lead to.
pub(super) struct Nested<S> {
    all: BTreeMap<RelPath, Repository<S>>,
    outbox: mpsc::UnboundedSender<Seen<S>>,
    inbox: mpsc::UnboundedReceiver<Seen<S>>,
    /// How many are being looked at.
    busy: Arc<watch::Sender<usize>>,
}

impl<S: Source> Nested<S> {
    pub fn new() -> Self {
        let (outbox, inbox) = mpsc::unbounded_channel();
        Self { all: BTreeMap::new(), outbox, inbox, busy: Arc::new(watch::Sender::new(0)) }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Waits for the end of a look. Cancel safe.
    pub async fn next(&mut self) -> Seen<S> {
        match self.inbox.recv().await {
            Some(seen) => seen,
            // Its other end is kept here.
            None => std::future::pending().await,
        }
    }

    /// Begins to follow a repository.
    fn open(&mut self, root: &RelPath, source: &SourceSpec, open: &Open<S>, beside_copy: Duration) {
        if self.all.contains_key(root) {
            return;
        }
        let Some(spec) = as_source(source, root) else { return };
        let repository = Repository {
            source: Some(open(&spec)),
            tree: None,
            revision: None,
            rewritten: false,
            trouble: None,
            failures: 0,
            next_look: Instant::now(),
            is_owed: false,
            needs_person: false,
        };
        self.all.insert(root.clone(), repository);
        self.look_first(root, beside_copy);
    }

    /// The first look: where it does not answer, what was fetched of it last stands for it.
    fn look_first(&mut self, root: &RelPath, beside_copy: Duration) {
        self.begin(root, move |mut source| async move {
            let mut kept = source.recall(None).await.ok();
            let looked = match &kept {
                Some(kept) => {
                    let observed = source.observe(Ask::Full, kept.revision.clone());
                    timeout(beside_copy, observed).await.ok()
                }
                None => Some(source.observe(Ask::Full, None).await),
            };
            kept = kept.filter(|_| !matches!(looked, Some(Ok(_))));
            (source, looked, kept)
        });
    }

    fn look(&mut self, root: &RelPath, ask: Ask, is_asked: bool) {
        let Some(one) = self.all.get(root) else { return };
        let (is_barred, before) = (one.needs_person && !is_asked, one.revision.clone());
        self.begin(root, move |mut source| async move {
            let looked = if is_barred && timeout(PATIENCE_OF_POLL, source.mended()).await.is_err() {
                None
            } else {
                Some(source.observe(ask, before).await)
            };
            (source, looked, None)
        });
    }

    /// Begins a look, unless one is under way.
    fn begin<F>(&mut self, root: &RelPath, look: impl FnOnce(S) -> F)
    where
        F: Future<Output = (S, Option<Result<Observation, ObserveError>>, Option<Observation>)>
            + Send
            + 'static,
    {
        let Some(source) = self.all.get_mut(root).and_then(|one| one.source.take()) else { return };
        let (root, outbox, busy) = (root.clone(), self.outbox.clone(), Arc::clone(&self.busy));
        busy.send_modify(|count| *count += 1);
        let look = look(source);
        tokio::spawn(async move {
            let (source, looked, kept) = look.await;
            // Who closed it meanwhile is not told.
            let _ = outbox.send(Seen { root, source, looked, kept });
            busy.send_modify(|count| *count -= 1);
        });
    }

    /// Ends when none is looked at any more; soon, in any case.
    pub fn idle(&self) -> impl Future<Output = ()> + Send + use<S> {
        let mut busy = self.busy.subscribe();
        async move {
            drop(tokio::time::timeout(PATIENCE_OF_COMMAND, busy.wait_for(|count| *count == 0)).await);
        }
    }

    /// Looks at every repository that is due, or at all.
    pub fn look_at_all(&mut self, ask: Ask, is_asked: bool) {
        let now = Instant::now();
        let due = |(_, one): &(&RelPath, &Repository<S>)| is_asked || one.next_look <= now;
        let roots: Vec<RelPath> = self.all.iter().filter(due).map(|(root, _)| root.clone()).collect();
        roots.iter().for_each(|root| self.look(root, ask, is_asked));
    }

    /// When one that failed is tried again.
    pub fn retry_due(&self) -> Option<Instant> {
        let waiting =
            self.all.values().filter(|one| (one.trouble.is_some() || one.is_owed) && one.source.is_some());
        waiting.map(|one| one.next_look).min()
    }

    /// Whether one of these is being looked at.
    fn is_any_looked_at(&self, roots: Option<&BTreeSet<RelPath>>) -> bool {
        let counts = |root: &RelPath| roots.is_none_or(|roots| roots.contains(root));
        self.all.iter().any(|(root, one)| counts(root) && one.source.is_none())
    }

    /// Takes in what was seen; gives back what of it is another than before, and whether anything is to be told.
    fn take_in(&mut self, seen: Seen<S>, interval: Duration) -> Option<(Changes, bool)> {
        let Seen { root, source, looked, kept } = seen;
        let one = self.all.get_mut(&root)?;
        one.source = Some(source);
        let from_copy = kept.map(|kept| {
            (one.tree, one.revision) = (Some(moved(&kept.tree, &root)), kept.revision);
            (Changes::All, true)
        });
        one.is_owed = looked.is_none() && from_copy.is_some();
        let Some(looked) = looked else {
            one.next_look = Instant::now() + if one.is_owed { Duration::ZERO } else { interval };
            return from_copy;
        };
        one.needs_person = looked.as_ref().err().is_some_and(|error| error.stalled);
        match looked {
            Ok(Observation { tree, changes, revision, rewritten }) => {
                if one.revision != revision {
                    one.rewritten = rewritten;
                }
                let is_news = one.trouble.take().is_some() || one.revision != revision;
                (one.failures, one.revision) = (0, revision);
                // A poll that comes a little early counts.
                one.next_look = Instant::now() + interval.mul_f64(0.8);
                if one.tree.is_some() && changes.is_none() {
                    return Some((changes, is_news));
                }
                let is_first = one.tree.replace(moved(&tree, &root)).is_none();
                let changes = match changes {
                    Changes::Paths(paths) if !is_first => {
                        Changes::Paths(paths.iter().map(|path| root.append(path)).collect())
                    }
                    _ => Changes::All,
                };
                Some((changes, true))
            }
            Err(error) => {
                let why = chain(&error);
                one.failures = one.failures.saturating_add(1);
                // What needs a person is only asked whether the person was there.
                let wait = if error.stalled { interval } else { retry_after(one.failures, interval) };
                one.next_look = Instant::now() + wait;
                let is_news = one.trouble.as_ref() != Some(&why);
                one.trouble = Some(why);
                from_copy.or(Some((Changes::none(), is_news)))
            }
        }
    }

    /// The tree of the source with those of all repositories below it.
    fn joined(&self, own: &Arc<Tree>) -> Arc<Tree> {
        let mut trees = self.all.values().filter_map(|one| one.tree.as_ref()).peekable();
        if trees.peek().is_none() {
            return Arc::clone(own);
        }
        let (mut all, mut refused) = ((**own).clone(), own.refused().to_vec());
        for tree in trees {
            for (path, node) in tree.iter() {
                all.insert(path.clone(), *node);
            }
            refused.extend(tree.refused().iter().cloned());
        }
        all.replace_refused(|_| true, refused);
        Arc::new(all)
    }

    /// What a discovery has to know.
    fn known(&self, source: &SourceRecord) -> Repositories {
        let mut known = Repositories::of(source.spec.clone());
        known.is_added = source.declared == Declared::Command;
        for (root, one) in &self.all {
            let side = if one.tree.is_some() { &mut known.here } else { &mut known.away };
            side.insert(root.clone());
        }
        known
    }

    /// The commits of all repositories.
    pub fn revisions(&self) -> impl Iterator<Item = &Revision> {
        self.all.values().filter_map(|one| one.revision.as_ref())
    }

    /// The commit of a repository.
    pub fn revision(&self, root: &RelPath) -> Option<&Revision> {
        self.all.get(root)?.revision.as_ref()
    }

    /// The source of a repository, to ask it something; `None` while it is looked at.
    pub fn source(&mut self, root: &RelPath) -> Option<&mut S> {
        self.all.get_mut(root)?.source.as_mut()
    }

    /// Whether that commit does not descend from the one before.
    fn is_rewritten(&self, root: &RelPath) -> bool {
        self.all.get(root).is_some_and(|one| one.rewritten)
    }

    /// What keeps repositories from being read, with their URLs.
    pub fn troubles(&self) -> impl Iterator<Item = String> {
        let told = |(root, one): (&RelPath, &Repository<S>)| {
            one.trouble.as_ref().map(|why| {
                let url = root.to_string();
                if why.contains(&url) { why.clone() } else { format!("{url}: {why}") }
            })
        };
        self.all.iter().filter_map(told)
    }

    /// Whether each was read, and nothing keeps it from being read again.
    pub fn is_whole(&self) -> bool {
        self.all.values().all(|one| one.tree.is_some() && one.trouble.is_none())
    }

    /// Stops following what is not in `used`; `forgets` says that what is kept of it may go.
    async fn keep_only(&mut self, used: &BTreeSet<RelPath>, forgets: bool) {
        let gone: Vec<RelPath> = self.all.keys().filter(|root| !used.contains(*root)).cloned().collect();
        for root in gone {
            if let Some(mut source) = self.all.remove(&root).and_then(|one| one.source)
                && forgets
            {
                source.forget().await;
            }
        }
    }

    /// Stops following any, for nothing leads to them any more.
    pub async fn forget(&mut self) {
        self.keep_only(&BTreeSet::new(), true).await;
    }

    /// Reads files of repositories, each in its own.
    pub async fn read(&mut self, wants: Vec<Want>, sink: &Sink) -> Result<Vec<Reading>, ObserveError> {
        let mut by_root: BTreeMap<RelPath, Vec<Want>> = BTreeMap::new();
        for want in wants {
            let Some(root) = want.path.mount_point() else { continue };
            by_root.entry(root).or_default().push(want);
        }
        let mut readings = Vec::new();
        for (root, wants) in by_root {
            let Some(source) = self.all.get_mut(&root).and_then(|one| one.source.as_mut()) else {
                // It is being looked at, and what comes of that wakes a pass.
                readings.extend(wants.into_iter().map(|want| Reading {
                    path: want.path,
                    content: Err(ReadRefusal::Moving),
                    bytes: None,
                }));
                continue;
            };
            let inside = wants.into_iter().map(|want| {
                let path = want.path.strip_prefix(&root).unwrap_or_else(RelPath::root);
                Want { path, ..want }
            });
            let read = source.read(inside.collect(), Arc::clone(sink)).await?;
            readings.extend(read.into_iter().map(|one| Reading { path: root.append(&one.path), ..one }));
        }
        Ok(readings)
    }
}

/// A repository's tree with every path below its root.
fn moved(tree: &Tree, root: &RelPath) -> Tree {
    let mut made = Tree::default();
    for (path, node) in tree.iter() {
        made.insert(root.append(path), *node);
    }
    let refused = tree.refused().iter();
    let refused = refused.map(|one| Refused { dir: root.append(&one.dir), ..one.clone() }).collect();
    made.replace_refused(|_| true, refused);
    made
}

impl<S: Source, T: Target> SourceLoop<S, T> {
    /// The commit that the files of a unit come from: that of the repository that they lie in.
    pub(super) fn revision_of(&self, key: &str) -> Option<Revision> {
        match self.catalog.dir_of(key).and_then(|dir| dir.mount_point()) {
            Some(root) => self.nested.revision(&root).cloned(),
            None => self.revision.clone(),
        }
    }

    /// Whether the branch that the files of a unit come from was rewritten.
    pub(super) fn is_rewritten(&self, key: &str) -> bool {
        match self.catalog.dir_of(key).and_then(|dir| dir.mount_point()) {
            Some(root) => self.nested.is_rewritten(&root),
            None => self.rewritten,
        }
    }

    /// The whole tree that units come from, and what is known of its parts.
    pub(super) fn whole_tree(&self, own: &Arc<Tree>) -> (Arc<Tree>, Repositories) {
        (self.nested.joined(own), self.nested.known(&self.record))
    }

    /// Follows repositories that a discovery asks for, and waits a moment for them.
    pub(super) async fn open_nested(&mut self, roots: &BTreeSet<RelPath>) {
        let (beside_copy, patience) = if self.is_trial {
            (PATIENCE_OF_TRIAL, PATIENCE_OF_TRIAL)
        } else {
            (PATIENCE_BESIDE_COPY, PATIENCE)
        };
        for root in roots {
            self.nested.open(root, &self.record.spec, &self.open, beside_copy);
        }
        self.wait_for_nested(Some(roots), patience).await;
    }

    /// Waits until none of these is looked at any more, or all; not for long.
    pub(super) async fn wait_for_nested(&mut self, roots: Option<&BTreeSet<RelPath>>, patience: Duration) {
        let until = Instant::now() + patience;
        while self.nested.is_any_looked_at(roots) {
            let Ok(seen) = tokio::time::timeout_at(until, self.nested.next()).await else { return };
            self.take_in_nested(seen);
        }
    }

    /// Takes note of a repository; gives back whether a pass has to look at it.
    fn take_in_nested(&mut self, seen: Seen<S>) -> bool {
        let interval = self.poll_interval();
        let Some((changes, is_news)) = self.nested.take_in(seen, interval) else { return false };
        self.pending.add(changes);
        is_news || !self.pending.is_none()
    }

    /// A repository was looked at while no pass waited for it.
    pub(super) async fn seen_nested(&mut self, seen: Seen<S>) {
        if !self.take_in_nested(seen) || self.looking.is_some() || self.is_suspended() {
            return;
        }
        let stops = [ConditionType::Stalled, ConditionType::Reconciling];
        if stops.iter().any(|stop| self.record.conditions.get(*stop).is_some()) {
            // What stops the source's own passes comes first; the next one takes this in too.
            return;
        }
        let Some(tree) = self.own_tree.clone() else { return };
        let (revision, rewritten) = (self.revision.clone(), self.rewritten);
        let observation = Observation { tree, changes: Changes::none(), revision, rewritten };
        let order = PassOrder::new(Cause::new(TriggerKind::Poll, ""), Look::Away);
        // What it did, and what stops it, is told by its rows.
        drop(self.pass(&order, Some((observation, Duration::ZERO))).await);
    }

    /// Looks at the repositories beside the source; a command gets to wait for them.
    pub(super) fn look_at_nested(
        &mut self,
        order: &PassOrder,
    ) -> Option<impl Future<Output = ()> + Send + use<S, T>> {
        if self.nested.is_empty() || order.look < Look::Full {
            return None;
        }
        let ask = if order.look == Look::Rescan { Ask::Rescan } else { Ask::Full };
        let is_asked = matches!(order.cause.kind, TriggerKind::Command | TriggerKind::Webhook);
        self.nested.look_at_all(ask, is_asked);
        is_asked.then(|| self.nested.idle())
    }

    /// Stops following what nothing leads to any more.
    pub(super) async fn close_nested(&mut self) {
        let used = self.catalog.repositories();
        self.core.board.set_repositories(&self.record.spec.name, used.iter().cloned().collect());
        // What a working copy does not lead to is needed when dev mode ends.
        self.nested.keep_only(&used, self.record.dev.is_none() && !self.is_trial).await;
        if self.nested.is_empty() {
            self.own_tree = None;
        }
    }
}
