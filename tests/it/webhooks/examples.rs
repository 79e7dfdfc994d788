//! Payloads in the shapes that GitHub publishes, made here from the names of their fields.

use super::*;

/// The events that a repository, an organization or an app can subscribe to.
const EVENTS: [&str; 73] = [
    "branch_protection_configuration",
    "branch_protection_rule",
    "check_run",
    "check_suite",
    "code_scanning_alert",
    "commit_comment",
    "create",
    "custom_property",
    "custom_property_values",
    "delete",
    "dependabot_alert",
    "deploy_key",
    "deployment",
    "deployment_protection_rule",
    "deployment_review",
    "deployment_status",
    "discussion",
    "discussion_comment",
    "enterprise",
    "fork",
    "github_app_authorization",
    "gollum",
    "installation",
    "installation_repositories",
    "installation_target",
    "issue_comment",
    "issue_dependencies",
    "issues",
    "label",
    "marketplace_purchase",
    "member",
    "membership",
    "merge_group",
    "meta",
    "milestone",
    "org_block",
    "organization",
    "package",
    "page_build",
    "personal_access_token_request",
    "ping",
    "project",
    "project_card",
    "project_column",
    "projects_v2",
    "projects_v2_item",
    "projects_v2_status_update",
    "public",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "pull_request_review_thread",
    "registry_package",
    "release",
    "repository",
    "repository_advisory",
    "repository_dispatch",
    "repository_import",
    "repository_ruleset",
    "repository_vulnerability_alert",
    "secret_scanning_alert",
    "secret_scanning_alert_location",
    "security_advisory",
    "security_and_analysis",
    "sponsorship",
    "star",
    "status",
    "sub_issues",
    "team",
    "team_add",
    "user",
    "watch",
    "workflow_run",
];

/// The URLs of a repository beside the four that name it.
const OTHER_URLS: [&str; 38] = [
    "forks_url",
    "keys_url",
    "collaborators_url",
    "teams_url",
    "hooks_url",
    "issue_events_url",
    "events_url",
    "assignees_url",
    "branches_url",
    "tags_url",
    "blobs_url",
    "git_tags_url",
    "git_refs_url",
    "trees_url",
    "statuses_url",
    "languages_url",
    "stargazers_url",
    "contributors_url",
    "subscribers_url",
    "subscription_url",
    "commits_url",
    "git_commits_url",
    "comments_url",
    "issue_comment_url",
    "contents_url",
    "compare_url",
    "merges_url",
    "archive_url",
    "downloads_url",
    "issues_url",
    "pulls_url",
    "milestones_url",
    "notifications_url",
    "labels_url",
    "releases_url",
    "deployments_url",
    "svn_url",
    "mirror_url",
];

const ZERO: &str = "0000000000000000000000000000000000000000";

/// An account, by its kind.
fn account(login: &str, kind: &str) -> Value {
    json!({"login": login, "id": 1, "node_id": "MDQ6", "gravatar_id": "", "type": kind, "site_admin": false,
           "url": format!("https://api.github.com/users/{login}"), "html_url": format!("https://github.com/{login}")})
}

/// A repository of an organization, or of a person; a push has its times as seconds, other events as texts.
fn repository(clone_url: &str, owner: &str, is_push: bool) -> Value {
    let api = "https://api.github.com/repos/acme/jobs";
    let mut repository = json!({
        "id": 186_853_002, "node_id": "MDEw", "name": "jobs", "full_name": "acme/jobs", "private": false,
        "owner": account("acme", owner), "html_url": "https://github.com/acme/jobs", "description": null, "fork": false,
        "url": api, "git_url": "git://github.com/acme/jobs.git", "ssh_url": "git@github.com:acme/jobs.git",
        "clone_url": clone_url, "homepage": null, "size": 0, "language": null, "has_issues": true, "license": null,
        "archived": false, "disabled": false, "topics": ["a", "\u{1f600}"], "visibility": "public",
        "default_branch": "main", "updated_at": "2019-05-15T15:19:27Z",
    });
    for name in OTHER_URLS {
        repository[name] = json!(format!("{api}/{}{{/sha}}", name.trim_end_matches("_url")));
    }
    if is_push {
        let more = json!({"created_at": 1_557_933_565, "pushed_at": 1_557_933_657, "stargazers": 0, "master_branch": "main"});
        repository.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        if owner == "Organization" {
            repository["organization"] = json!("acme");
        }
    } else {
        repository["created_at"] = json!("2019-05-15T15:19:25Z");
        repository["pushed_at"] = json!("2019-05-15T15:20:57Z");
    }
    repository
}

/// What becomes of a ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Created,
    Moved,
    Forced,
    Deleted,
}

fn push(clone_url: &str, owner: &str, reference: &str, commit: &str, change: Change) -> Value {
    let is = |which: Change| change == which;
    let person = json!({"name": "Mona", "email": "mona@users.noreply.github.com", "username": "mona"});
    let one = json!({
        "id": commit, "tree_id": commit, "distinct": true, "message": "Fix \"it\"\n\n<b>&\u{e9}\u{1f600}\u{2028}",
        "timestamp": "2019-05-15T15:20:30+02:00", "url": format!("https://github.com/acme/jobs/commit/{commit}"),
        "author": person, "committer": {"name": "GitHub", "email": null}, "added": [], "removed": [], "modified": ["t/task.sh"],
    });
    let mut payload = json!({
        "ref": reference,
        "before": if is(Change::Created) { ZERO } else { "6113728f27ae82c7b1a177c8d03f9e96e0adf246" },
        "after": if is(Change::Deleted) { ZERO } else { commit },
        "repository": repository(clone_url, owner, true),
        "pusher": {"name": "mona", "email": "mona@users.noreply.github.com"},
        "sender": account("mona", "User"),
        "created": is(Change::Created), "deleted": is(Change::Deleted), "forced": is(Change::Forced),
        "base_ref": if is(Change::Created) { json!("refs/heads/main") } else { Value::Null },
        "compare": "https://github.com/acme/jobs/compare/6113728f27ae...000000000000",
        "commits": if matches!(change, Change::Moved | Change::Forced) { json!([one]) } else { json!([]) },
        "head_commit": if is(Change::Deleted) { Value::Null } else { one },
    });
    if owner == "Organization" {
        payload["organization"] = account("acme", owner);
        payload["installation"] = json!({"id": 2, "node_id": "MDIz"});
    }
    payload
}

#[tokio::test]
async fn every_event_is_answered_without_an_error() {
    let mut place = Place::new("");
    place.publish("one");
    let client = place.service.start().await;
    let url = place.repo.bare().display().to_string();
    for (number, event) in EVENTS.iter().enumerate() {
        let owner = if number % 2 == 0 { "Organization" } else { "User" };
        let mut payload = json!({
            "action": "created", *event: {"id": number, "url": "https://api.github.com/x", "state": null},
            "repository": repository(&url, owner, false), "sender": account("mona", "User"),
        });
        if *event == "ping" {
            payload = json!({"zen": "Half measures are as bad as nothing at all.", "hook_id": 1,
                             "hook": {"type": "Repository", "id": 1, "active": true, "events": ["push"],
                                      "config": {"content_type": "json", "insecure_ssl": "0"}},
                             "repository": repository(&url, owner, false)});
        }
        let sent = Delivery::new(event, &format!("d-{number}"), &payload.to_string()).send(&client).await;
        let reason = if *event == "ping" { "pong" } else { "only pushes are followed" };
        assert_eq!(told(&sent), format!("200 ignored: {reason}"), "{event}");
    }
    assert_eq!(client.items("/api/v1/deliveries?limit=1000").await.len(), EVENTS.len());
}

#[tokio::test]
async fn every_kind_of_push_is_answered_as_what_it_is() {
    let mut place = Place::new("");
    place.publish("one");
    let client = place.service.start().await;
    let commit = place.publish("two");
    let url = place.repo.bare().display().to_string();
    let cases = [
        ("refs/heads/main", Change::Moved, "202 accepted: "),
        ("refs/heads/main", Change::Forced, "202 accepted: "),
        ("refs/heads/main", Change::Created, "202 accepted: "),
        ("refs/heads/main", Change::Deleted, "200 ignored: the ref was deleted"),
        ("refs/heads/feature/x", Change::Created, "200 ignored: it is of another ref"),
        ("refs/heads/feature/x", Change::Deleted, "200 ignored: it is of another ref"),
        ("refs/tags/simple-tag", Change::Created, "200 ignored: it is of another ref"),
        ("refs/tags/simple-tag", Change::Deleted, "200 ignored: it is of another ref"),
    ];
    let mut number = 0;
    for owner in ["Organization", "User"] {
        for (reference, change, expected) in cases {
            let payload = push(&url, owner, reference, &commit, change).to_string();
            number += 1;
            let sent = Delivery::new("push", &format!("d-{number}"), &payload).send(&client).await;
            assert_eq!(told(&sent), expected, "{reference} {change:?} of {owner}");
            // The same as a form.
            let form: String =
                form_urlencoded::Serializer::new(String::new()).append_pair("payload", &payload).finish();
            let sent = Delivery::new("push", &format!("f-{number}"), &form)
                .with("Content-Type", "application/x-www-form-urlencoded");
            assert_eq!(
                told(&sent.send(&client).await),
                expected,
                "{reference} {change:?} of {owner} as a form"
            );
        }
    }
    until_live(&client, &commit).await;
    let row = client.items("/api/v1/deliveries?limit=1000").await.pop().unwrap();
    assert_eq!((&row["ref"], &row["revision"]), (&json!("refs/heads/main"), &json!(commit)));
    // Gitea and Forgejo name themselves beside GitHub's headers.
    let payload = push(&url, "User", "refs/heads/main", &commit, Change::Moved).to_string();
    let gitea =
        Delivery::new("push", "d-1", &payload).with("X-Gitea-Delivery", "d-1").with("X-Gitea-Event", "push");
    assert_eq!(gitea.send(&client).await.status, 202);
    assert_eq!(client.items("/api/v1/deliveries").await[0]["provider"], "gitea");
}
