//! The JSON of commit statuses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::Told;

/// What commits of a source were told last where their repository is hosted.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommitStatusView {
    /// `pending`, `success`, `failure` or `error`; null while nothing was posted.
    pub state: Option<String>,
    /// The commit that it was posted to.
    pub commit: Option<String>,
    /// When.
    pub posted_at: Option<String>,
    /// Why the newest commit could not be told how it fares; null where nothing is wrong.
    pub error: Option<String>,
}

impl From<Told> for CommitStatusView {
    fn from(told: Told) -> Self {
        let last = told.last.as_ref();
        Self {
            state: last.map(|(_, state, _)| state.as_str().into()),
            commit: last.map(|(commit, ..)| commit.to_string()),
            posted_at: last.map(|(.., at)| at.to_string()),
            error: told.wrong.map(|(commit, why)| format!("{}: {why}", commit.short())),
        }
    }
}
