//! Scenarios in which tools of this kind are known to lose changes, stop what should run or let in who should not,
//! and the tests that hold each of them. Those that no other file has are here.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use kindling::model::event::EventType;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::service::{Service, manifest};
use crate::world::{FakeFiles, World, unit};

/// What must hold, and the tests that show it.
const HELD: &[(&str, &[&str])] = &[
    // Detection and the loop.
    (
        "a script alone is a new version, also in a set",
        &[
            "every_task_of_a_large_set_is_registered_and_a_script_alone_is_a_new_version",
            "everything_that_is_the_unit_changes_the_hash",
        ],
    ),
    (
        "a daemon of a set restarts when its code changes",
        &["a_daemon_of_a_set_restarts_when_its_code_changes"],
    ),
    (
        "dev mode runs the local script where the manifests are equal, and its first save is live",
        &[
            "where_the_manifests_are_equal_the_local_script_runs_and_no_commit_is_claimed",
            "the_first_save_is_live_at_once_and_a_kill_is_survived",
        ],
    ),
    (
        "hundreds of tasks at once are all registered, in sets and outside",
        &[
            "every_task_of_a_large_set_is_registered_and_a_script_alone_is_a_new_version",
            "a_burst_of_200_new_tasks_registers_all",
        ],
    ),
    (
        "a broken or half-written manifest stops and removes nothing",
        &[
            "a_broken_manifest_never_stops_it",
            "a_set_that_cannot_be_read_keeps_its_units_also_over_a_restart",
            "a_manifest_that_is_away_for_a_moment_stops_nothing",
            "a_set_that_is_cut_where_it_reads_well_takes_nothing_away_while_it_is_written",
            "a_repository_that_cannot_be_reached_keeps_its_units_and_heals",
        ],
    ),
    (
        "directories at every depth are watched, new ones too, and a lost event is made up for",
        &[
            "a_nested_set_and_new_directories_are_followed",
            "new_directory_with_files_inside",
            "mkdir_p_with_files_at_once",
            "a_lost_event_costs_time_and_never_correctness",
        ],
    ),
    (
        "a push is found in the commit and not by file events",
        &[
            "a_push_that_adds_a_task_to_a_set_below_the_root_registers_it",
            "one_changed_file_of_a_thousand_is_exactly_one_path",
        ],
    ),
    (
        "other repositories that a set leads to are followed",
        &["a_push_to_the_other_repository_is_live_and_a_ref_that_goes_takes_its_units_along"],
    ),
    (
        "every file of a unit counts, whatever its language",
        &[
            "a_unit_is_every_file_below_its_manifest_but_excludes_and_nested_units",
            "a_script_and_its_helper_are_the_unit_and_run_confined",
        ],
    ),
    (
        "a save costs what it changed, not what the source holds",
        &[
            "a_change_reads_only_what_changed",
            "a_save_reads_neither_the_set_nor_other_tasks",
            "large_sets_are_ordinary",
        ],
    ),
    (
        "writes without end delay a pass by a bounded time",
        &[
            "the_cap_counts_from_the_first_change",
            "a_debounce_of_the_user_trails_and_is_capped_at_five_times_its_length",
        ],
    ),
    (
        "sets that lead to themselves, or multiply, are refused by name",
        &[
            "a_cycle_is_named_and_hides_nothing",
            "sets_that_multiply_are_stopped",
            "repositories_that_lead_to_one_another_come_to_an_end",
        ],
    ),
    (
        "what waits for something that is not there yet is tried again",
        &["a_missing_interpreter_is_a_problem_of_its_unit_and_heals", "what_units_may_have_follows_the_file"],
    ),
    (
        "no two units have one id",
        &[
            "two_manifests_with_one_id_are_both_named",
            "two_units_of_one_id_are_both_broken_until_one_goes",
            "two_sources_with_one_name_are_refused_with_both_places",
        ],
    ),
    ("a source that goes takes its units along", &["sources_come_change_and_go_with_the_file"]),
    (
        "looks and switches of dev mode never cross",
        &[
            "another_path_takes_its_place_and_the_last_of_two_wins",
            "a_switch_waits_for_no_remote_that_hangs",
            "step_by_step_ends_where_a_whole_look_does_also_with_sets",
        ],
    ),
    // Processes.
    (
        "one process of a daemon, never an old one and never two",
        &[
            "a_new_version_starts_after_the_old_one_has_ended",
            "of_several_saves_during_a_stop_only_the_newest_is_started",
            "what_changes_or_goes_while_a_daemon_waits_to_be_started_again_counts",
        ],
    ),
    (
        "a stop ends the whole group",
        &["a_stop_ends_the_whole_group", "what_ignores_term_is_killed_after_the_grace"],
    ),
    (
        "daemons have no time limit, whatever sets say of all tasks",
        &[
            "daemons_get_no_time_limit_from_built_in_defaults",
            "a_default_time_limit_passes_daemons_by",
            "a_daemon_with_main_runs_until_it_is_stopped",
        ],
    ),
    (
        "a crash loop backs off and is shown",
        &["it_is_started_again_with_growing_waits_and_a_crash_loop_says_so"],
    ),
    ("what was killed did not succeed", &["sigterm_during_a_run_interrupts_it_and_leaves_no_process"]),
    // Safety.
    (
        "no page that a person opens can start or change anything",
        &["nobody_without_the_token_and_no_other_page_starts_anything"],
    ),
    (
        "a task sees nothing of the service's environment but what it may",
        &[
            "a_python_task_sees_nothing_of_the_service",
            "the_environment_is_exactly_what_is_promised",
            "a_unit_gets_no_variable_that_its_source_may_not_give",
        ],
    ),
    ("permissions can be narrowed from above", &["an_override_narrows_what_a_task_may_reach"]),
    (
        "what a repository asks for is bounded by its source, and a commit can be pinned",
        &[
            "what_goes_beyond_the_source_is_stalled_with_the_line_to_add",
            "what_may_not_be_led_to_is_a_problem_with_the_line_to_add",
            "a_commit_is_followed_by_its_id_and_never_asked_for_again",
        ],
    ),
    // Operation.
    (
        "commands never write the configuration, and a source that is added may hold sets",
        &[
            "a_nested_set_and_new_directories_are_followed",
            "the_file_takes_over_what_a_command_added_and_dev_mode_survives_an_edit",
        ],
    ),
    (
        "a source is well only if what it says was applied; a rewritten branch is followed",
        &[
            "commits_are_seen_attempted_and_deployed",
            "a_rewritten_branch_without_a_guard_is_followed",
            "a_source_that_fails_keeps_its_units_and_is_tried_again",
        ],
    ),
    (
        "an edit of the configuration takes effect without a restart",
        &["sources_come_change_and_go_with_the_file", "other_limits_hold_at_once"],
    ),
];

#[test]
fn every_scenario_has_a_test() {
    let mut tests = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open = vec![root.join("src"), root.join("tests")];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                tests.extend(tests_of(&std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    for (scenario, names) in HELD {
        assert!(!names.is_empty(), "{scenario}");
        for name in *names {
            assert!(tests.contains(*name), "{scenario}: there is no test {name}");
        }
    }
}

/// Names of the functions that stand below an attribute of a test.
fn tests_of(text: &str) -> Vec<String> {
    let mut below = false;
    let mut names = Vec::new();
    for line in text.lines().map(str::trim_start) {
        below |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if let (true, Some((name, _))) = (below, name.and_then(|rest| rest.split_once('('))) {
            names.push(name.to_owned());
            below = false;
        }
    }
    names
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_200_new_tasks_registers_all() {
    let files = FakeFiles::default();
    let add = |from: usize| {
        for n in from..from + 200 {
            files.task(&format!("t{n}"), "echo 1\n");
        }
    };
    add(0);
    let world = World::start(&files).await;
    let all_live = |world: &World, to: usize| (0..to).all(|n| world.live(&format!("t{n}")).is_some());
    world.until("those of the start are live", |world| all_live(world, 200)).await;
    add(200);
    world.until("those of the burst are live", |world| all_live(world, 400)).await;
}

fn set(entries: &str) -> String {
    format!("apiVersion: kindling/v1\nkind: TaskSet\nspec:\n  entries:\n{entries}")
}

#[tokio::test(start_paused = true)]
async fn a_push_that_adds_a_task_to_a_set_below_the_root_registers_it() {
    let files = FakeFiles::default();
    files.task("tasks/a", "echo 1\n").put("tasks/taskset.yaml", &set("    a: {ref: {path: a}}\n"));
    files.commit("1111111111111111111111111111111111111111");
    let mut world = World::start_git(&files, Duration::from_secs(1)).await;
    world.event(EventType::UnitRegistered, "tasks/a").await;
    // No event comes from a repository.
    let text = set("    a: {ref: {path: a}}\n    b: {ref: {path: b}}\n");
    files.silently("tasks/b/task.yaml", Some(&crate::world::manifest("b", "manual: true")));
    files.silently("tasks/b/task.sh", Some("echo b\n")).silently("tasks/taskset.yaml", Some(&text));
    files.commit("2222222222222222222222222222222222222222");
    world.event(EventType::UnitRegistered, "tasks/b").await;
    assert!(world.live("tasks/a").is_some());
}

#[tokio::test(start_paused = true)]
async fn what_changes_or_goes_while_a_daemon_waits_to_be_started_again_counts() {
    let files = FakeFiles::default();
    files.daemon("d", "one\n").task("a", "echo\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "d").await;
    world.until("it runs", |world| world.target.alive(&unit("d")).len() == 1).await;
    world.target.end(&unit("d"), 1);
    files.put("d/task.sh", "two\n");
    let two = world.event(EventType::UnitUpdated, "d").await.hash.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!((world.target.alive(&unit("d")), world.target.started().len()), (vec![two], 2));
    world.target.end(&unit("d"), 1);
    files.remove("d/task.yaml").remove("d/task.sh");
    world.event(EventType::UnitRemoved, "d").await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!((world.target.alive(&unit("d")), world.target.started().len()), (vec![], 2));
}

#[tokio::test(start_paused = true)]
async fn an_override_narrows_what_a_task_may_reach() {
    let files = FakeFiles::default();
    let task = crate::world::manifest("t", "manual: true").replace("shell", "deno");
    files
        .put("t/task.js", "")
        .put("t/task.yaml", &format!("{task}permissions: {{net: [example.org], run: ['*']}}\n"));
    files.put(
        "taskset.yaml",
        &set("    t: {ref: {path: t}, overrides: {permissions: {net: [], run: null}}}\n"),
    );
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "t").await;
    let sandbox = world.live("t").unwrap().spec.permissions.sandbox.clone().unwrap();
    assert_eq!((sandbox.net, sandbox.run), (Some(vec![]), vec![]));
}

#[tokio::test]
async fn a_nested_set_and_new_directories_are_followed() {
    let mut service = Service::new("sources: []\n");
    let task = |dir: &str, script: &str| {
        service.write(&format!("{dir}/task.yaml"), manifest("t", "manual: true"));
        service.write(&format!("{dir}/task.sh"), script);
    };
    task("work/jobs/a", "echo a\n");
    service.write("work/taskset.yaml", set("    deep: {ref: {path: sets/deep}}\n"));
    service.write("work/sets/deep/taskset.yaml", set("    a: {ref: {path: ../../jobs/a}}\n"));
    let configuration = std::fs::read(service.configuration()).unwrap();
    let client = service.start().await;
    let added = service.attempt(&["source", "add", "team", "--local", "work"]).await;
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let is_live = |unit: &serde_json::Value| unit["deployedHash"].is_string();
    client.unit_until("team/deep/a", "is live", is_live).await;
    // A directory that holds nothing but a set, and one that was not there.
    service.write("work/new/b/task.yaml", manifest("b", "manual: true"));
    service.write("work/new/b/task.sh", "echo b\n");
    let more = "    a: {ref: {path: ../../jobs/a}, overrides: {description: x}}\n    b: {ref: {path: ../../new/b}}\n";
    service.write("work/sets/deep/taskset.yaml", set(more));
    client.unit_until("team/deep/b", "is live", is_live).await;
    let before = client.unit("team/deep/b").await["deployedHash"].clone();
    service.write("work/new/b/task.sh", "echo more\n");
    client.unit_until("team/deep/b", "is updated", |unit| unit["deployedHash"] != before).await;
    assert_eq!(std::fs::read(service.configuration()).unwrap(), configuration);
    assert!(service.terminate().await.success());
}

/// The status of a call with these lines of a head.
async fn status(address: &str, call: &str, head: &str, body: &str) -> u16 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let text = format!("{call} HTTP/1.0\r\n{head}Content-Length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn nobody_without_the_token_and_no_other_page_starts_anything() {
    let mut service = Service::new("sources: [{name: s, local: {path: s}}]\n");
    service.task("s/a", "echo hi\n");
    let client = service.start().await;
    let read = |name: &str| std::fs::read_to_string(service.data_dir().join(name)).unwrap().trim().to_owned();
    let (address, token) = (read("address"), read("token"));
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let (call, body) = ("POST /api/v1/runs", json!({"task": "s/a"}).to_string());
    let host = format!("Host: {address}\r\n");
    let known = format!("{host}Authorization: Bearer {token}\r\n");
    let plain = format!("{host}Content-Type: text/plain\r\nOrigin: http://evil.example\r\n");
    let other_page = format!("{known}Origin: http://evil.example\r\n");
    let other_name = format!("Host: evil.example\r\nAuthorization: Bearer {token}\r\n");
    for (head, wanted) in [(&host, 401), (&plain, 403), (&other_page, 403), (&other_name, 403)] {
        assert_eq!(status(&address, call, head, &body).await, wanted, "{head}");
        assert!([401, 403].contains(&status(&address, "GET /api/v1/units", head, "").await), "{head}");
    }
    assert!(client.items("/api/v1/runs").await.is_empty());
    assert_eq!(client.run("s/a").await["status"], "succeeded");
    assert!(service.terminate().await.success());
}
