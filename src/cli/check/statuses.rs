//! Whether the token suffices that commits are told with how they fare.

use crate::config::Settings;
use crate::config::secret::Secret;
use crate::forge::{CheckError, GitHub, Grant};
use crate::model::commit_status::Repository;
use crate::model::source::Origin;
use crate::observe::git::install_tls;
use crate::plan::hosted::{self, GITHUB_API};
use crate::support::clock::Clock;

use super::Findings;

const RIGHTS: &str = "a fine-grained token needs \"Commit statuses: read and write\" of this repository, a classic one \
                      the scope repo:status";

const LATER: &str = "try again later; what is to be posted waits for 24 hours";

pub(super) async fn statuses(settings: &Settings, findings: &mut Findings) {
    if !settings.github.statuses {
        return;
    }
    let api = settings.github.api_url.as_deref().unwrap_or(GITHUB_API);
    let repositories: Vec<(String, Repository)> = settings
        .sources
        .iter()
        .filter_map(|source| match &source.origin {
            Origin::Git(git) => Some((source.name.to_string(), hosted::repository(&git.url, api)?)),
            Origin::Local(_) => None,
        })
        .collect();
    let check = "commit status";
    if repositories.is_empty() {
        let message = format!("no source of the configuration has its repository where {api} is");
        findings.warn(check, message, "name the host's API by `github.api_url`, or set `statuses: false`");
        return;
    }
    let Some(token) = &settings.github.token else {
        let message = "the token is not here, so it cannot be tried; the service needs it";
        findings.warn(check, message, "run this where the service is started");
        return;
    };
    one_by_one(api, token, &repositories, findings).await;
}

async fn one_by_one(
    api: &str,
    token: &Secret,
    repositories: &[(String, Repository)],
    findings: &mut Findings,
) {
    install_tls();
    let client = match GitHub::new(api, token, Clock::default()) {
        Ok(client) => client,
        Err(error) => {
            let hint = "install the certificates of your system: sudo apt install ca-certificates";
            return findings.fail("commit status", error.to_string(), hint);
        }
    };
    let mut silent = None;
    for (source, repository) in repositories {
        let check = format!("commit status {source}");
        if let Some(first) = silent {
            let message = format!("not tried: {api} did not answer for source {first}");
            findings.warn(&check, message, LATER);
            continue;
        }
        match client.check(repository).await {
            Ok(Grant::Enough) => findings.ok(&check, format!("the token may post to {repository}")),
            Ok(Grant::Perhaps) => {
                let message = format!(
                    "the token sees {repository}; whether it has \"Commit statuses: read and write\" is seen at the \
                     first post: `kindling get sources -o wide`"
                );
                findings.ok(&check, message);
            }
            Ok(Grant::Lacks(what)) => {
                findings.fail(&check, format!("the token may not post to {repository}: {what}"), RIGHTS);
            }
            Err(error @ CheckError::Away { .. }) => {
                silent = Some(source);
                findings.warn(&check, error.to_string(), LATER);
            }
            Err(error @ CheckError::Trouble { .. }) => findings.warn(&check, error.to_string(), LATER),
            Err(error @ CheckError::NoApi { .. }) => {
                let hint = "name the base of the API by `github.api_url`; GitHub Enterprise has it at https://HOST/api/v3";
                findings.fail(&check, error.to_string(), hint);
            }
            Err(CheckError::Refused { status, words }) => {
                let hint =
                    if status == 401 { "make another token, and name it in kindling.yaml" } else { RIGHTS };
                findings.fail(&check, format!("the token was tried at {repository}: {words}"), hint);
            }
        }
    }
}
