//! Trust (DESIGN 4): whether a unit asks for no more than kindling.yaml lets its source have.

use std::collections::BTreeSet;

use crate::model::hook::Hook;
use crate::model::id::SourceName;
use crate::model::problem::{Problem, Reason};
use crate::model::source::{Allow, Declared};
use crate::model::spec::TaskSpec;

/// What every run gets of kindling's environment, where it is set: naming these asks for nothing.
pub const INHERITED: [&str; 6] = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"];

/// Variables with this prefix are kindling's own.
const OWN_PREFIX: &str = "KINDLING_";

/// What `spec` asks for beyond what its source may have: a problem with the line to add, or `None`. `own` are
/// variables that hold kindling's own secrets; no line makes them readable.
#[must_use]
pub fn beyond(
    spec: &TaskSpec,
    source: &SourceName,
    allow: &Allow,
    declared: Declared,
    own: &BTreeSet<String>,
) -> Option<Problem> {
    // A value that every run has is no secret.
    let hook: BTreeSet<&str> = spec.hook().into_iter().flat_map(Hook::variables).collect();
    let of_run = spec.permissions.env.values().map(|host| host.name.as_str());
    let asked: BTreeSet<&str> = of_run.chain(hook.iter().copied()).collect();
    let secret: Vec<&str> =
        asked.iter().filter(|name| name.starts_with(OWN_PREFIX) || own.contains(**name)).copied().collect();
    if !secret.is_empty() {
        let message = format!(
            "asks for {}, which kindling keeps for itself: no unit may read it, whatever `allow` says; give the \
             task a variable of its own",
            listed(&secret)
        );
        return Some(Problem::new(Reason::NotAllowed, message));
    }
    let is_free = |name: &str| {
        (INHERITED.contains(&name) && !hook.contains(name)) || allow.env.iter().any(|allowed| allowed == name)
    };
    let more: Vec<&str> = asked.into_iter().filter(|name| !is_free(name)).collect();
    if more.is_empty() {
        return None;
    }
    let message = format!(
        "asks for {} of kindling's environment, which its source may not have; {}",
        listed(&more),
        remedy(source, declared, allow, &more, None)
    );
    Some(Problem::new(Reason::NotAllowed, message))
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// What to do about what a source may not have.
pub(super) fn remedy(
    source: &SourceName,
    declared: Declared,
    allow: &Allow,
    more: &[&str],
    host: Option<&str>,
) -> String {
    let line = line(allow, more, host);
    match declared {
        Declared::File => {
            format!("to allow it, the source `{source}` in kindling.yaml gets the line `{line}`")
        }
        Declared::Command => format!(
            "to allow it, `{source}`, which was added by command, is written into the `sources` of kindling.yaml, with \
             the line `{line}`"
        ),
    }
}

/// The whole line: what is allowed already, and what is missing.
fn line(allow: &Allow, more: &[&str], host: Option<&str>) -> String {
    let env: Vec<&str> = allow.env.iter().map(String::as_str).chain(more.iter().copied()).collect();
    // A host may have a port: in a list in braces it needs its quotes.
    let hosts: Vec<String> =
        allow.hosts.iter().map(String::as_str).chain(host).map(|host| format!("\"{host}\"")).collect();
    let lists = [("env", env.join(", ")), ("hosts", hosts.join(", "))];
    let lists: Vec<String> = lists
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}: [{list}]"))
        .collect();
    format!("allow: {{{}}}", lists.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::limits::Limits;
    use crate::plan::manifest::read_task;

    fn beyond_of(asked: &str, allow: &Allow) -> Option<String> {
        let text = format!(
            "{{apiVersion: kindling/v1, kind: Task, name: t, runtime: shell, trigger: {{manual: true}}, \
             permissions: {{env: [{asked}]}}}}"
        );
        let spec = read_task(text.as_bytes(), &Limits::default()).unwrap().spec;
        let own = BTreeSet::from(["GIT_TOKEN".to_owned()]);
        let team = SourceName::new("team").unwrap();
        let problem = beyond(&spec, &team, allow, Declared::File, &own)?;
        assert_eq!(problem.reason, Reason::NotAllowed);
        let added = beyond(&spec, &team, allow, Declared::Command, &own)?.message;
        assert!(!added.contains("`team` in kindling.yaml"), "{added}");
        Some(problem.message)
    }

    #[test]
    fn a_source_that_kindling_yaml_does_not_have_is_written_there_first() {
        let team = SourceName::new("team").unwrap();
        let told = remedy(&team, Declared::Command, &Allow::default(), &["A"], None);
        insta::assert_snapshot!(told, @"to allow it, `team`, which was added by command, is written into the `sources` of kindling.yaml, with the line `allow: {env: [A]}`");
    }

    #[test]
    fn what_is_allowed_or_in_every_run_is_free() {
        let allow = Allow { env: vec!["A".into()], hosts: Vec::new() };
        assert_eq!(
            beyond_of("A, HOME, {name: B, from: A}, {name: C, from: PATH, optional: true}", &allow),
            None
        );
        assert_eq!(beyond_of("", &Allow::default()), None);
    }

    #[test]
    fn what_protects_a_webhook_is_asked_for_like_any_other_and_is_never_what_every_run_has() {
        let told = |option: &str, allow: &[&str]| {
            let text = format!(
                "{{apiVersion: kindling/v1, kind: Task, name: t, runtime: shell, trigger: {{webhook: /hooks/a, {option}}}}}"
            );
            let spec = read_task(text.as_bytes(), &Limits::default()).unwrap().spec;
            let allow =
                Allow { env: allow.iter().map(|name| (*name).to_owned()).collect(), hosts: Vec::new() };
            let own = BTreeSet::from(["GIT_TOKEN".to_owned()]);
            let team = SourceName::new("team").unwrap();
            beyond(&spec, &team, &allow, Declared::File, &own).map(|problem| problem.message)
        };
        assert_eq!(told("webhook_secret: '${S}', bearer: '${B}'", &["S", "B"]), None);
        let more = told("webhook_secret: '${S}', bearer: '${B}'", &["S"]).unwrap();
        assert!(more.ends_with("gets the line `allow: {env: [S, B]}`"), "{more}");
        assert!(told("bearer: '${HOME}'", &[]).unwrap().contains("`HOME`"));
        assert!(told("bearer: '${GIT_TOKEN}'", &["GIT_TOKEN"]).unwrap().contains("keeps for itself"));
    }

    #[test]
    fn the_line_to_add_keeps_what_is_allowed() {
        insta::assert_snapshot!(beyond_of("B, {name: X, from: A, optional: true}", &Allow::default()).unwrap(), @"asks for `A`, `B` of kindling's environment, which its source may not have; to allow it, the source `team` in kindling.yaml gets the line `allow: {env: [A, B]}`");
        let allow = Allow { env: vec!["A".into()], hosts: vec!["h:8443".into()] };
        let told = beyond_of("A, B", &allow).unwrap();
        assert!(told.ends_with("the line `allow: {env: [A, B], hosts: [\"h:8443\"]}`"), "{told}");
    }

    #[test]
    fn secrets_of_kindling_are_for_nobody() {
        let allow = Allow { env: vec!["GIT_TOKEN".into()], hosts: Vec::new() };
        insta::assert_snapshot!(beyond_of("{name: T, from: GIT_TOKEN}", &allow).unwrap(), @"asks for `GIT_TOKEN`, which kindling keeps for itself: no unit may read it, whatever `allow` says; give the task a variable of its own");
    }
}
