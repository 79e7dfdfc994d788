//! What units may have, as the configuration says it now. Decides by `plan::trust`; keeps only what the configuration
//! names.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::hook::Hook;
use crate::model::id::SourceName;
use crate::model::problem::Problem;
use crate::model::source::{Allow, Declared, GitAuth, Origin, SourceSpec};
use crate::model::spec::TaskSpec;
use crate::plan::trust;

use super::board::Board;

/// Answers whether a unit may have what it asks for. Clones are one.
#[derive(Clone, Default)]
pub struct Trust {
    board: Board,
    own: Arc<RwLock<BTreeSet<String>>>,
}

impl Trust {
    /// Takes the sources from `board`; `own` are variables that the configuration names for kindling's own use.
    #[must_use]
    pub fn new(board: Board, own: BTreeSet<String>) -> Self {
        Self { board, own: Arc::new(RwLock::new(own)) }
    }

    /// Takes the variables that a new configuration names; gives back whether they are others than before.
    pub fn reserve(&self, own: BTreeSet<String>) -> bool {
        let mut known = self.own.write().unwrap_or_else(PoisonError::into_inner);
        let differs = *known != own;
        *known = own;
        differs
    }

    /// Why a unit of `source` may not have what `spec` asks for, with the line to add; `None` where it may.
    #[must_use]
    pub fn refusal(&self, source: &SourceName, spec: &TaskSpec) -> Option<Problem> {
        if spec.permissions.env.is_empty() && spec.hook().is_none_or(Hook::is_bare) {
            return None;
        }
        let mut own = self.own.read().unwrap_or_else(PoisonError::into_inner).clone();
        own.extend(self.board.sources().iter().filter_map(|source| token_variable(&source.spec)));
        let nothing = Allow::default();
        let known = self.board.source(source);
        let (allow, declared) =
            known.as_ref().map_or((&nothing, Declared::File), |known| (&known.spec.allow, known.declared));
        trust::beyond(spec, source, allow, declared, &own)
    }
}

/// The variable with the token of a source, which may have been added by command.
#[must_use]
pub fn token_variable(spec: &SourceSpec) -> Option<String> {
    match &spec.origin {
        Origin::Git(git) => match git.auth.as_ref()? {
            GitAuth::TokenEnv(name) => Some(name.clone()),
            GitAuth::TokenFile(_) | GitAuth::SshKeyFile(_) => None,
        },
        Origin::Local(_) => None,
    }
}
