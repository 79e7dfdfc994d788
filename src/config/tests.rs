use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use super::*;
use crate::model::kv::KvLimits;
use crate::model::limits::RunLimits;
use crate::model::path::RelPath;
use crate::model::retention::{Kept, days};
use crate::model::source::{
    Allow, DEFAULT_POLL_INTERVAL, GitAuth, GitOrigin, GitRef, LocalOrigin, Origin, Rewrite,
};

const REFERENCE: &str = include_str!("../../config/kindling.yaml");

fn env(name: &str) -> Option<OsString> {
    match name {
        "HOME" => Some("/home/me".into()),
        "KINDLING_TOKEN" | "GITHUB_TOKEN" | "GIT_WEBHOOK_SECRET" | "NEW" | "OLD" => {
            Some("0123456789abcdef".into())
        }
        "SHORT" => Some("0123456789abcde".into()),
        "SPACE" => Some("0123456789 abcdef".into()),
        "EMPTY" => Some("".into()),
        _ => None,
    }
}

fn read(text: &str) -> Result<Settings, Vec<String>> {
    parse(Path::new("/srv/team/kindling.yaml"), text.as_bytes(), &env, Role::Service).map_err(|errors| {
        errors
            .iter()
            .map(|error| match &error.hint {
                Some(hint) => format!("{error} ({hint})"),
                None => error.to_string(),
            })
            .map(|text| text.replace("/srv/team/kindling.yaml:", ""))
            .collect()
    })
}

fn error(text: &str) -> String {
    read(text).map(|_| ()).unwrap_err().join("\n")
}

/// The text with its settings uncommented, as its head says.
fn uncommented(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') || rest.starts_with("  ") => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn the_reference_is_all_defaults() {
    let settings = read(REFERENCE).unwrap();
    assert_eq!(settings.file, Path::new("/srv/team/kindling.yaml"));
    assert_eq!(settings.listen.to_string(), "127.0.0.1:7070");
    assert!(settings.token.is_none() && !settings.insecure_http && settings.sources.is_empty());
    assert_eq!(settings.data_dir, Path::new("/srv/team/.kindling"));
    assert_eq!(settings.limits, Limits::default());
}

#[test]
fn the_references_settings_are_the_defaults() {
    let (default, written) = (read(REFERENCE).unwrap(), read(&uncommented(REFERENCE)).unwrap());
    assert_eq!(written.listen, default.listen);
    assert_eq!(written.insecure_http, default.insecure_http);
    assert_eq!(written.data_dir, default.data_dir);
    assert_eq!(written.limits, default.limits);
    assert_eq!(written.webhook_bytes, default.webhook_bytes);
    assert_eq!(written.token.unwrap().reveal(), "0123456789abcdef");
    let git = GitOrigin {
        url: "https://git.example.org/team/jobs.git".into(),
        reference: GitRef::Branch("main".into()),
        path: RelPath::root(),
        poll_interval: DEFAULT_POLL_INTERVAL,
        auth: Some(GitAuth::TokenEnv("GIT_TOKEN".into())),
        rewrite: Rewrite::Follow,
    };
    let local = LocalOrigin { path: "/srv/team/tasks".into(), debounce: Some(Duration::from_millis(50)) };
    let origins: Vec<_> = written.sources.into_iter().map(|source| source.origin).collect();
    assert_eq!(origins, [Origin::Git(git), Origin::Local(local)]);
}

#[test]
fn the_reference_names_every_key() {
    use super::forge::GITHUB;
    use super::repository::{AUTH, GIT, RELAY, WEBHOOK};
    use super::sections::{LIMITS, LOCAL, RUNTIMES, SERVER, SOURCE, TOP};
    use super::trust::ALLOW;
    let keys: Vec<&str> = REFERENCE
        .lines()
        .filter_map(|line| line.trim_start_matches(['#', ' ', '-']).split_once(':'))
        .map(|(key, _)| key)
        .collect();
    let own = [&TOP[..], &SERVER, &LIMITS, &RUNTIMES, &GITHUB];
    let all = [&SOURCE[..], &GIT, &WEBHOOK, &RELAY, &AUTH, &LOCAL, &ALLOW].into_iter().chain(own);
    for key in all.flatten() {
        assert!(keys.contains(key), "{key}");
    }
}

#[test]
fn commits_are_told_where_a_token_is_named() {
    let github = |text: &str| read(&format!("github: {{{text}}}\n")).map(|settings| settings.github);
    let told = github("token_env: GITHUB_TOKEN").unwrap();
    assert!(told.statuses && told.token.is_some() && told.api_url.is_none());
    assert!(!github("token_env: GITHUB_TOKEN, statuses: false").unwrap().statuses);
    assert!(!read("{}").unwrap().github.statuses && !github("").unwrap().statuses);
    let enterprise = github("token_env: GITHUB_TOKEN, api_url: 'https://h.example/api/v3/'").unwrap();
    assert_eq!(enterprise.api_url.as_deref(), Some("https://h.example/api/v3"));
    assert!(read("github: {token_env: GITHUB_TOKEN}").unwrap().own_variables.contains("GITHUB_TOKEN"));
    let wrong = [
        ("statuses: true", "1:20: `github.statuses` needs a token"),
        ("token_env: SPACE", "gives a token with a space"),
        ("token_env: UNSET", "names a variable that is not set"),
        ("token_env: A, token_file: x", "not both"),
        ("token_env: GITHUB_TOKEN, api_url: 'http://h.example'", "would carry the token in plain HTTP"),
        ("token_env: GITHUB_TOKEN, api_url: h.example", "must be an https URL"),
        ("token: x", "unknown field `token`"),
    ];
    for (text, part) in wrong {
        let told = github(text).unwrap_err().join("\n");
        assert!(told.contains(part), "{text}: {told}");
    }
}

#[test]
fn the_public_url_is_another_name_than_this_machines() {
    let public =
        |url: &str| read(&format!("server: {{public_url: '{url}'}}\n")).map(|settings| settings.public_url);
    let found = public("https://Kindling.example.com:8443/x").unwrap().unwrap();
    assert_eq!(found.host, "kindling.example.com");
    assert_eq!(error("server: {public_url: 'http://localhost:7070'}\n").lines().count(), 1);
    let told = error("server: {public_url: kindling.example.com}\n");
    assert!(told.starts_with("1:22: `server.public_url` must be an https or http URL"), "{told}");
}

#[test]
fn secrets_of_webhooks() {
    let source =
        |webhook: &str| format!("sources:\n- name: a\n  git: {{url: /srv/a, webhook: {{{webhook}}}}}\n");
    let team = SourceName::new("a").unwrap();
    for (webhook, secrets) in [("secret_env: OLD", 1), ("secret_env: [NEW, OLD]", 2)] {
        let settings = read(&source(webhook)).unwrap();
        assert_eq!(settings.webhooks[&team].len(), secrets, "{webhook}");
        assert!(settings.webhooks[&team].iter().all(|secret| secret.reveal() == "0123456789abcdef"));
        assert!(settings.own_variables.contains("OLD"));
    }
    for webhook in ["", "secret_env: []", "secret_env: [A, B, C]", "secret_env: A, secret_file: x"] {
        assert_eq!(read(&source(webhook)).unwrap_err().len(), 1, "{webhook}");
    }
    let unset = read(&source("secret_env: UNSET")).unwrap_err().remove(0);
    assert!(unset.ends_with("(set it before kindling is started, or use `secret_file`)"), "{unset}");
    assert!(read("limits: {webhook_body: 26MiB}\n").is_err());
    assert_eq!(read("limits: {webhook_body: 25MiB}\n").unwrap().webhook_bytes, 25 << 20);
}

#[test]
fn relays_need_a_secret() {
    let source = |more: &str| format!("sources:\n- name: a\n  git: {{url: /srv/a, {more}}}\n");
    let relay = "relay: {url: 'https://smee.io/AbCdEf0123456789'}";
    let settings = read(&source(&format!("webhook: {{secret_env: OLD}}, {relay}"))).unwrap();
    let team = SourceName::new("a").unwrap();
    assert_eq!(settings.relays[&team].reveal(), "https://smee.io/AbCdEf0123456789");
    assert!(!format!("{settings:?}").contains("AbCdEf"));
    assert_eq!(
        error(&source(relay)),
        "3:22: `sources[0].git.relay`: a relay needs a `webhook`: only its secret tells who sent what it passes on \
         (add `webhook: {secret_env: NAME}` beside it, and give the provider the same secret)"
    );
    // A webhook that is wrong itself is told of once.
    assert_eq!(read(&source(&format!("webhook: {{}}, {relay}"))).unwrap_err().len(), 1);
    for relay in ["relay: {}", "relay: {url: 'http://smee.io/AbCd'}", "relay: https://smee.io/AbCd"] {
        assert_eq!(read(&source(&format!("webhook: {{secret_env: OLD}}, {relay}"))).unwrap_err().len(), 1);
    }
}

#[test]
fn what_is_allowed_and_which_variables_are_its_own() {
    let text = "sources:\n- name: a\n  local: {path: ./a}\n  allow: {env: [A, _b1], hosts: [git.example.org, 'h:8443']}\n\
                - {name: b, local: {path: ./b}}\n";
    let settings = read(text).unwrap();
    let allow =
        Allow { env: vec!["A".into(), "_b1".into()], hosts: vec!["git.example.org".into(), "h:8443".into()] };
    assert_eq!(settings.sources[0].allow, allow);
    assert_eq!(settings.sources[1].allow, Allow::default());
    assert_eq!(
        read("sources:\n- {name: a, local: {path: ./a}, allow: {env: [1A, A-B], hosts: ['a b', x/y], all: true}}\n")
            .unwrap_err()
            .len(),
        5
    );
    assert!(read("server: {token_env: KINDLING_TOKEN}").unwrap().own_variables.contains("KINDLING_TOKEN"));
    let programs = read("runtimes: {deno: ./bin/deno}").unwrap().programs;
    assert_eq!(programs, [("deno".to_owned(), "/srv/team/bin/deno".into())].into());
    assert!(read("runtimes: {perl: x}").is_err());
}

#[test]
fn paths_are_relative_to_the_file_or_to_the_home() {
    let data_dir = |text: &str| read(&format!("data_dir: {text}")).map(|settings| settings.data_dir);
    assert_eq!(data_dir("./x/../y"), Ok("/srv/team/x/../y".into()));
    assert_eq!(data_dir("/var/lib/kindling"), Ok("/var/lib/kindling".into()));
    assert_eq!(data_dir("~/.local/kindling"), Ok("/home/me/.local/kindling".into()));
    assert_eq!(data_dir("\"~\""), Ok("/home/me".into()));
    assert_eq!(data_dir("~other/x").unwrap_err(), ["1:11: `data_dir` must have `/` after `~`"]);
    assert_eq!(data_dir("''").unwrap_err(), ["1:11: `data_dir` is not a path"]);
    let homeless = parse(Path::new("/k.yaml"), b"data_dir: ~/x", &|_| None, Role::Service).unwrap_err();
    assert_eq!(homeless[0].to_string(), "/k.yaml:1:11: `data_dir` begins with `~`, but HOME is not set");
}

#[test]
fn a_token_comes_from_a_variable_or_a_file() {
    let hint = "`openssl rand -hex 32` makes one";
    let cases = [
        ("SHORT", format!("1:21: `server.token_env` gives a token shorter than 16 bytes ({hint})")),
        (
            "SPACE",
            format!("1:21: `server.token_env` gives a token with a space or a character that is not ASCII ({hint})"),
        ),
        (
            "EMPTY",
            "1:21: `server.token_env` names a variable that is not set; it takes the name of one, not the secret itself (set it before kindling is started, or use \
             `token_file`)"
                .into(),
        ),
    ];
    for (name, expected) in cases {
        assert_eq!(error(&format!("server: {{token_env: {name}}}")), expected);
    }
    let dir = tempfile::tempdir().unwrap();
    let from_file = |bytes: &[u8]| {
        fs::write(dir.path().join("token"), bytes).unwrap();
        parse(&dir.path().join("kindling.yaml"), b"server: {token_file: token}", &env, Role::Service)
            .map(|settings| settings.token.unwrap().reveal().to_owned())
            .map_err(|mut errors| errors.remove(0).message)
    };
    assert_eq!(from_file(b"0123456789abcdef\n"), Ok("0123456789abcdef".into()));
    assert!(from_file(b"short\n").unwrap_err().ends_with("shorter than 16 bytes"));
    assert!(from_file(b"0123456789abcdef\xff").unwrap_err().ends_with("not ASCII"));
    assert!(from_file(&[b'x'; 5000]).unwrap_err().ends_with("more than 4096 bytes"));
    let both = error("server: {token_file: x, token_env: KINDLING_TOKEN}");
    assert_eq!(both, "1:25: `server`: a token comes from `token_env` or `token_file`, not both");
    let missing = error("server: {token_file: /no/such/file}");
    assert!(
        missing.starts_with("1:22: `server.token_file` names a file that cannot be read: No such"),
        "{missing}"
    );
}

#[test]
fn a_client_needs_no_token() {
    for server in ["token_env: UNSET", "token_file: /no/such/file"] {
        let text = format!("server: {{{server}, listen: '127.0.0.1:9'}}");
        let settings = parse(Path::new("/k.yaml"), text.as_bytes(), &env, Role::Client).unwrap();
        assert!(settings.token.is_none() && settings.listen.port() == 9);
        assert!(parse(Path::new("/k.yaml"), text.as_bytes(), &env, Role::Service).is_err());
    }
    let text = b"server: {token_env: KINDLING_TOKEN}";
    assert!(parse(Path::new("/k.yaml"), text, &env, Role::Client).unwrap().token.is_some());
}

#[test]
fn listening_off_loopback_must_be_asked_for() {
    let listen =
        |text: &str| read(&format!("server: {{{text}}}")).map(|settings| settings.listen.to_string());
    for address in ["127.0.0.2:1", "[::1]:7070", "[::ffff:127.0.0.1]:7070", "127.0.0.1:0"] {
        assert_eq!(listen(&format!("listen: \"{address}\"")), Ok(address.into()));
    }
    for address in ["0.0.0.0:7070", "[::]:7070", "192.0.2.1:80"] {
        let error = listen(&format!("listen: '{address}'")).unwrap_err();
        assert!(error[0].starts_with("1:18: `server.listen` is not loopback"), "{error:?}");
        assert!(error[0].contains("`insecure_http: true`"), "{error:?}");
        assert!(listen(&format!("listen: '{address}', insecure_http: true")).is_ok());
    }
    for address in ["localhost:7070", "7070", ":7070", "127.0.0.1"] {
        let error = listen(&format!("listen: '{address}'")).unwrap_err();
        assert!(error[0].starts_with("1:18: `server.listen` must be an IP address and a port"), "{error:?}");
    }
}

#[test]
fn a_source_has_a_name_of_its_own_and_one_origin() {
    let text = "\
sources:
  - name: a
    local: {path: x}
  - name: a
    git: {url: /srv/x}
  - name: b
  - {name: c, git: {url: /x}, local: {path: y}}
  - {name: -d, local: {}}
  - 5
";
    assert_eq!(
        read(text).map(|_| ()).unwrap_err(),
        [
            "4:11: `sources[1].name` in line 4 is also the name of the source in line 2",
            "6:5: `sources[2]`: one of the fields `git` and `local` is missing",
            "7:31: `sources[3]`: a source has `git` or `local`, not both",
            "8:12: `sources[4].name` is not a name: it must begin with a letter or a digit",
            "8:23: `sources[4].local`: the field `path` is missing",
            "9:5: `sources[5]` must be a map, not a number",
        ]
    );
}

#[test]
fn a_repository_is_checked_before_it_is_asked() {
    let git = |text: &str| error(&format!("sources: [{{name: a, git: {{{text}}}}}]"));
    let cases = [
        ("branch: x", "1:26: `sources[0].git`: the field `url` is missing"),
        ("url: https://me:hunter2@host/x", "1:32: `sources[0].git.url` must not carry credentials"),
        ("url: --x", "1:32: `sources[0].git.url` must not begin with `-`"),
        ("url: /x, branch: a..b", "1:44: `sources[0].git.branch` is not a name that git takes for a branch"),
        (
            "url: /x, path: ../y",
            "1:42: `sources[0].git.path` must be a path inside the repository: the path has a `.` or `..` part",
        ),
        ("url: /x, poll_interval: 500ms", "1:51: `sources[0].git.poll_interval` must be at least `1s`"),
        (
            "url: /x, poll_interval: 30",
            "1:51: `sources[0].git.poll_interval` must be a length of time such as `500ms`, `30s`, `1m30s` or `2h`, a \
             year at most",
        ),
        (
            "url: /x, tags: v1",
            "1:36: `sources[0].git`: unknown field `tags`; did you mean `tag`? known: url, branch, tag, semver, \
             commit, path, poll_interval, webhook, relay, auth, rewrite",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(git(text), expected);
    }
}

#[test]
fn what_is_followed_and_who_asks_is_checked() {
    let git = |text: &str| error(&format!("sources: [{{name: a, git: {{{text}}}}}]"));
    let cases = [
        ("url: /x, tag: a..b", "1:41: `sources[0].git.tag` is not a name that git takes for a tag"),
        (
            "url: /x, semver: latest",
            "1:44: `sources[0].git.semver` must be a range of versions such as `>=1.2, <2`, `^1.4` or `1.x`",
        ),
        (
            "url: /x, commit: abc123",
            "1:44: `sources[0].git.commit` must be the full id of a commit: 40 digits, `0` to `9` and `a` to `f`",
        ),
        (
            "url: /x, tag: v1, branch: x",
            "1:45: `sources[0].git`: one of branch, tag, semver and commit is followed, not `branch` and `tag`",
        ),
        ("url: /x, rewrite: never", "1:45: `sources[0].git.rewrite` must be `follow` or `guard`"),
        (
            "url: 'https://h/x', auth: {}",
            "1:53: `sources[0].git.auth`: exactly one of token_env, token_file and ssh_key_file is needed",
        ),
        (
            "url: 'https://h/x', auth: {token_env: A, token_file: b}",
            "1:53: `sources[0].git.auth`: exactly one of token_env, token_file and ssh_key_file is needed",
        ),
        (
            "url: 'https://h/x', auth: {token_env: A=B}",
            "1:65: `sources[0].git.auth.token_env` takes the name of a variable (letters, digits and `_`), not the secret itself",
        ),
        (
            "url: 'http://h/x', auth: {token_env: A}",
            "1:64: `sources[0].git.auth.token_env` would cross the network in plain HTTP; use https",
        ),
        (
            "url: 'git@h:x', auth: {token_file: a}",
            "1:62: `sources[0].git.auth.token_file` is for https, but the URL is not",
        ),
        (
            "url: 'https://h/x', auth: {ssh_key_file: a}",
            "1:68: `sources[0].git.auth.ssh_key_file` is for ssh, but the URL is not",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(git(text), expected);
    }
}

#[test]
fn what_is_followed_and_who_asks_are_read() {
    let git = |text: &str| {
        let settings = read(&format!("sources: [{{name: a, git: {{{text}}}}}]")).unwrap();
        match settings.sources.into_iter().next().unwrap().origin {
            Origin::Git(git) => git,
            Origin::Local(_) => unreachable!(),
        }
    };
    let id = "0123456789abcdef0123456789abcdef01234567";
    assert_eq!(git("url: /x, tag: 1.10").reference, GitRef::Tag("1.10".into()));
    assert_eq!(git("url: /x, semver: '>=1.2, <2'").reference, GitRef::Semver(">=1.2, <2".into()));
    assert_eq!(git(&format!("url: /x, commit: '{id}'")).reference, GitRef::Commit(id.into()));
    assert_eq!(git("url: /x, rewrite: guard").rewrite, Rewrite::Guard);
    let auth = |text: &str| git(text).auth;
    assert_eq!(
        auth("url: 'https://h/x', auth: {token_env: GIT_TOKEN}"),
        Some(GitAuth::TokenEnv("GIT_TOKEN".into()))
    );
    assert_eq!(
        auth("url: 'http://127.0.0.1:80/x', auth: {token_file: ~/t}"),
        Some(GitAuth::TokenFile("/home/me/t".into()))
    );
    assert_eq!(
        auth("url: 'git@h:x', auth: {ssh_key_file: k/id}"),
        Some(GitAuth::SshKeyFile("/srv/team/k/id".into()))
    );
}

#[test]
fn the_data_directory_may_lie_in_a_source_but_not_hold_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
    let read = |data_dir: &str, path: &str| {
        let text = format!("data_dir: {data_dir}\nsources: [{{name: a, local: {{path: {path}}}}}]");
        parse(&dir.path().join("kindling.yaml"), text.as_bytes(), &env, Role::Service)
            .map(drop)
            .map_err(|errors| errors[0].message.clone())
    };
    assert_eq!(read(".kindling", "."), Ok(()));
    assert_eq!(read("real/x", "real"), Ok(()));
    assert_eq!(read("real-x", "real"), Ok(()));
    for (data_dir, path) in [("x", "./x"), ("real", "link"), ("link", "real/y"), (".", "tasks")] {
        let message = read(data_dir, path).unwrap_err();
        assert!(message.starts_with("`sources[0].local.path` is the data directory"), "{message}");
    }
}

#[test]
fn limits_are_sizes_and_counts() {
    let text = "limits: {file: 1GiB, unit: 2048, files: 5, depth: 3, manifest: 1KiB, taskset: 9, entries: 7, \
                kv_value: 1KiB, kv: 8, kv_keys: 9, runs: 6, queued_runs: 5, task_queued_runs: 4, run_input: 3, queued_input: 2KiB}";
    let limits = read(text).unwrap().limits;
    let expected = Limits {
        file_bytes: 1 << 30,
        unit_bytes: 2048,
        unit_files: 5,
        depth: 3,
        manifest_bytes: 1024,
        set_bytes: 9,
        set_entries: 7,
        kv: KvLimits { value_bytes: 1024, task_bytes: 8, keys: 9 },
        runs: RunLimits { at_once: 6, queued: 5, queued_of_task: 4, input_bytes: 3, queued_bytes: 2048 },
    };
    assert_eq!(limits, expected);
    let found = error("limits: {file: 10MB, unit: 0, files: 1KiB, depth: -1}");
    let sizes = "must be a size such as `512KiB`, `10MiB` or `1GiB`, or a number of bytes, above 0";
    let expected = [
        format!("1:16: `limits.file` {sizes}"),
        format!("1:28: `limits.unit` {sizes}"),
        "1:38: `limits.files` must be a whole number, above 0".into(),
        "1:51: `limits.depth` must be a whole number, above 0".into(),
    ];
    assert_eq!(found, expected.join("\n"));
    assert_eq!(
        error("limits: {run_input: 17MiB}"),
        "1:21: `limits.run_input` must be a size such as `512KiB`, at most 16 MiB, above 0"
    );
}

#[test]
fn retention_is_by_age_and_count() {
    let defaults = read("sources: []").unwrap().retention;
    assert_eq!(defaults, Retention::default());
    let text = "retention: {history: {age: 1d, count: 2}, runs: {count: 3}, events: {age: 12h}, versions: {count: 4}, removed: {age: 5d}}";
    let expected = Retention {
        history: Kept { age: days(1), count: 2 },
        runs: Kept { count: 3, ..defaults.runs },
        events: Kept { age: days(1) / 2, ..defaults.events },
        versions: 4,
        removed: days(5),
        ..defaults
    };
    assert_eq!(read(text).unwrap().retention, expected);
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let errors = load(Path::new("/no/such/kindling.yaml"), &env, Role::Service).unwrap_err();
    assert!(errors[0].to_string().starts_with("/no/such/kindling.yaml: cannot be read: No such file"));
    assert!(errors[0].hint.as_ref().unwrap().contains("kindling init"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kindling.yaml");
    fs::write(&file, "#".repeat(300_000)).unwrap();
    let errors = load(&file, &env, Role::Service).unwrap_err();
    assert!(errors[0].message.ends_with("more than the 262144 that are read"), "{}", errors[0].message);
}

#[test]
fn settings_print_no_secret() {
    let settings = read("server: {token_env: KINDLING_TOKEN}").unwrap();
    assert!(!format!("{settings:?}").contains("0123456789abcdef"));
}

#[test]
fn a_pipe_is_no_file_and_is_not_waited_for() {
    use rustix::fs::{CWD, FileType, mknodat};
    let dir = tempfile::tempdir().unwrap();
    let (file, token) = (dir.path().join("kindling.yaml"), dir.path().join("token"));
    for path in [&file, &token] {
        mknodat(CWD, path, FileType::Fifo, 0o600.into(), 0).unwrap();
    }
    let errors = load(&file, &env, Role::Service).unwrap_err();
    assert!(errors[0].message.ends_with("cannot be read: it is not a regular file"), "{}", errors[0]);
    let errors = parse(&file, b"server: {token_file: token}", &env, Role::Service).unwrap_err();
    assert!(errors[0].message.contains("it is not a regular file"), "{}", errors[0]);
}
