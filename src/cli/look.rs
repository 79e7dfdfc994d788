//! Looks at a directory as a pass does, without a service: the same observer, the same discovery.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::limits::Limits;
use crate::model::problem::Problem;
use crate::model::tree::{Changes, Tree};
use crate::observe::local::{LocalOptions, LocalSource};
use crate::observe::{Ask, ObserveError, Source, Want};
use crate::plan::catalog::Catalog;
use crate::plan::discover::{self, Input, Reads};
use crate::plan::exclude::NEVER;
use crate::plan::nested::Repositories;
use crate::plan::stray;
use crate::reconcile::{MOST_ROUNDS, file_read};

use super::error::CliError;

/// Times that a directory is looked at anew because it changed meanwhile.
const MOST_LOOKS: usize = 3;

/// What is in a directory.
pub struct Looked {
    /// Its units.
    pub catalog: Catalog,
    /// Refused names that lie in no unit.
    pub strays: Vec<Problem>,
    /// How many directories would be watched.
    pub directories: usize,
}

impl Looked {
    /// What is not known although a set speaks of it, in words; `None` where there is nothing.
    #[must_use]
    pub fn elsewhere(&self) -> Option<String> {
        told_of(self.catalog.elsewhere())
    }
}

/// Says that so many entries lead to other repositories, which only the service fetches.
#[must_use]
pub fn told_of(elsewhere: usize) -> Option<String> {
    let (entries, lead) = match elsewhere {
        0 => return None,
        1 => ("1 entry".to_owned(), "leads to another repository, which was"),
        many => (format!("{many} entries"), "lead to other repositories, which were"),
    };
    Some(format!("{entries} {lead} not looked at"))
}

/// Looks at a directory. `skip` is never entered: the data directory. `dev`: as in dev mode, where references of sets
/// for it count.
///
/// # Errors
/// It cannot be read, or does not hold still.
pub async fn look(root: &Path, skip: &[PathBuf], limits: &Limits, dev: bool) -> Result<Looked, CliError> {
    for _ in 0..MOST_LOOKS {
        if let Some(looked) = look_once(root, skip, limits, dev).await? {
            return Ok(looked);
        }
    }
    Err(CliError::outside(format!("files below {} change while they are read", root.display())))
}

async fn look_once(
    root: &Path,
    skip: &[PathBuf],
    limits: &Limits,
    dev: bool,
) -> Result<Option<Looked>, CliError> {
    let mut source = LocalSource::open(LocalOptions {
        root: root.to_owned(),
        prune: NEVER.iter().map(|name| (*name).to_owned()).collect(),
        skip: skip.to_vec(),
        limits: limits.clone(),
        // One look needs no watch.
        max_watches: Some(0),
    });
    let tree = source.observe(Ask::Full, None).await.map_err(|error| unobserved(&error))?.tree;
    let (mut reads, mut catalog) = (Reads::default(), Catalog::default());
    // Only the service fetches repositories that sets lead to; what lies there is not known here.
    let nothing = Repositories::default();
    for _ in 0..MOST_ROUNDS {
        let changes = &Changes::All;
        let input = Input { tree: &tree, changes, catalog: &catalog, limits, dev, repositories: &nothing };
        let round = discover::discover(&input, &mut reads);
        if !round.later.is_empty() {
            return Ok(None);
        }
        if round.needs.is_empty() {
            catalog.apply(round.found);
            let strays = stray::strays(&tree, &catalog);
            return Ok(Some(Looked { catalog, strays, directories: directories(&tree) }));
        }
        let wants = round.needs.into_iter();
        let wants = wants.map(|need| Want { path: need.path, bytes: need.bytes, max: need.max }).collect();
        let read = source.read(wants, Arc::new(|_, _| Ok(()))).await.map_err(|error| unobserved(&error))?;
        for reading in read {
            reads.insert(reading.path.clone(), file_read(reading));
        }
    }
    Err(CliError::bug(format!("the units below {} were not found in {MOST_ROUNDS} rounds", root.display())))
}

fn unobserved(error: &ObserveError) -> CliError {
    match error.reason {
        "RootMissing" | "RootNotADirectory" => CliError::usage(error.to_string()),
        _ => CliError::outside(error.to_string()).because_of(error),
    }
}

fn directories(tree: &Tree) -> usize {
    tree.iter().flat_map(|(path, _)| path.ancestors()).collect::<BTreeSet<_>>().len()
}
