use super::*;
use crate::config::yaml::Budget;
use crate::model::limits::Limits;
use crate::model::spec::{ParamValue, RestartPolicy, TaskSpec, Trigger};
use crate::plan::manifest::read_node;
use crate::plan::taskset::read_set;

const TASK: &str = "apiVersion: kindling/v1\nkind: Task\nname: t\n";
const MANUAL: &str = "runtime: shell\ntrigger: {manual: true}\n";

fn node(text: &str) -> Node {
    Node::read(text.as_bytes(), &Budget::manifest(1 << 18)).map_err(|error| error.message).unwrap()
}

fn document(base: &str, layers: &[(Kind, &str)], dialect: Dialect) -> Merged {
    let files: Vec<RelPath> =
        (0..layers.len()).map(|n| RelPath::parse(&format!("s{n}/taskset.yaml")).unwrap()).collect();
    let nodes: Vec<Node> = layers.iter().map(|(_, text)| node(text)).collect();
    let layers: Vec<Layer<'_>> = layers
        .iter()
        .zip(nodes.iter().zip(&files))
        .map(|((kind, _), (node, file))| Layer { kind: *kind, file, dialect, node })
        .collect();
    merge(node(base), &RelPath::parse("task.yaml").unwrap(), &layers)
}

fn resolve(base: &str, layers: &[(Kind, &str)]) -> Result<TaskSpec, String> {
    let Merged { document, parts, .. } = document(&format!("{TASK}{base}"), layers, Dialect::Kindling);
    let shown = |problems: Vec<Problem>| {
        problems.into_iter().map(|problem| parts.locate(problem).to_string()).collect::<Vec<_>>().join("\n")
    };
    read_node(&document).map(|read| read.spec).map_err(shown)
}

fn over(base: &str, layer: &str) -> Result<TaskSpec, String> {
    resolve(base, &[(Kind::Overrides, layer)])
}

fn filled(base: &str, layer: &str) -> Result<TaskSpec, String> {
    resolve(base, &[(Kind::Defaults, layer)])
}

#[test]
fn a_webhook_replaces_another_trigger_and_its_options_merge() {
    let hook = |spec: Result<TaskSpec, String>| match spec.unwrap().trigger {
        Trigger::Webhook(hook) => {
            (hook.path.to_string(), hook.allow(), hook.secret.unwrap_or_default(), hook.bearer.is_some())
        }
        other => panic!("{other:?}"),
    };
    let base = "runtime: shell\ntrigger: {webhook: /hooks/a, methods: [POST], webhook_secret: '${S}'}\n";
    let expected = |path: &str, allow: &str, secret: &str, bearer| {
        (path.to_owned(), allow.to_owned(), secret.to_owned(), bearer)
    };
    assert_eq!(
        hook(over(base, "{trigger: {methods: [PUT], bearer: '${B}'}}")),
        expected("/hooks/a", "PUT", "S", true)
    );
    // Another path is another trigger: nothing of the old one is left, its secret neither.
    assert_eq!(
        hook(over(base, "{trigger: {webhook: /hooks/b}}")),
        expected("/hooks/b", "GET, HEAD, POST", "", false)
    );
    assert_eq!(
        hook(over(MANUAL, "{trigger: {webhook: /hooks/b, webhook_secret: '${T}'}}")),
        expected("/hooks/b", "GET, HEAD, POST", "T", false)
    );
    assert_eq!(over(base, "{trigger: {manual: true}}").unwrap().trigger, Trigger::Manual);
    assert_eq!(
        hook(filled(base, "{trigger: {bearer: '${B}', methods: [GET]}}")),
        expected("/hooks/a", "POST", "S", true)
    );
}

#[test]
fn maps_merge_by_field_and_lists_are_replaced() {
    let base = format!("{MANUAL}env: {{A: '1', B: '2'}}\nexclude: ['*.a', '*.b']\n");
    let spec = over(&base, "{env: {B: '3', C: '4'}, exclude: ['*.c'], description: d}").unwrap();
    let env: Vec<_> = spec.env.iter().map(|(name, value)| format!("{name}{value}")).collect();
    assert_eq!((env.join(" ").as_str(), spec.description.as_str()), ("A1 B3 C4", "d"));
    assert_eq!(spec.exclude, ["*.c"]);
    assert!(over(&base, "{exclude: []}").unwrap().exclude.is_empty());
}

#[test]
fn null_clears_a_field_and_a_default_does_not_come_back() {
    let base = format!("{MANUAL}timeout: 5s\ndescription: d\nenv: {{A: a}}\n");
    let spec = over(&base, "{timeout: null, description: ~, env: {A: null}}").unwrap();
    assert_eq!((spec.timeout, spec.description.as_str()), (Some(std::time::Duration::from_secs(60)), ""));
    assert!(spec.env.is_empty());
    let both = [(Kind::Defaults, "{description: default}"), (Kind::Overrides, "{description: null}")];
    assert_eq!(resolve(MANUAL, &both).unwrap().description, "");
    // An override of `none` is a time limit of none.
    assert_eq!(over(&base, "{timeout: none}").unwrap().timeout, None);
    // What the task itself leaves out by `null` is filled in.
    assert_eq!(filled(&format!("{MANUAL}description: null\n"), "{description: x}").unwrap().description, "x");
}

#[test]
fn naming_a_kind_replaces_the_trigger_and_switching_one_off_does_not() {
    let daemon = "runtime: shell\ntrigger: {daemon: true, restart: never}\n";
    assert_eq!(over(daemon, "{trigger: {manual: true}}").unwrap().trigger, Trigger::Manual);
    assert_eq!(
        over(daemon, "{trigger: {daemon: true}}").unwrap().trigger,
        Trigger::Daemon(RestartPolicy::Always)
    );
    let options = over(daemon, "{trigger: {restart: on-failure}}").unwrap();
    assert_eq!(options.trigger, Trigger::Daemon(RestartPolicy::OnFailure));
    // `manual: false` beside another kind leaves that kind.
    assert_eq!(
        over(daemon, "{trigger: {manual: false}}").unwrap().trigger,
        Trigger::Daemon(RestartPolicy::Never)
    );
    assert_eq!(
        over(MANUAL, "{trigger: {daemon: true, manual: false}}").unwrap().trigger,
        Trigger::Daemon(RestartPolicy::Always)
    );
}

#[test]
fn defaults_fill_a_trigger_and_never_replace_one() {
    assert_eq!(
        filled("runtime: shell\n", "{trigger: {daemon: true}}").unwrap().trigger,
        Trigger::Daemon(RestartPolicy::Always)
    );
    assert_eq!(filled(MANUAL, "{trigger: {daemon: true}}").unwrap().trigger, Trigger::Manual);
    let daemon = "runtime: shell\ntrigger: {daemon: true}\n";
    assert_eq!(
        filled(daemon, "{trigger: {daemon: true, restart: never}}").unwrap().trigger,
        Trigger::Daemon(RestartPolicy::Never)
    );
}

#[test]
fn parameters_merge_by_name_whichever_way_they_are_written() {
    let base = format!(
        "{MANUAL}params:\n  a: x\n  b: {{type: string, default: x, description: d}}\n  c: {{type: number, required: true}}\n"
    );
    let spec = over(&base, "{params: {a: {description: of a}, b: y, c: 5, e: new}}").unwrap();
    let default = |name: &str| spec.params[name].default.as_ref().map(ParamValue::text);
    assert_eq!((default("a").as_deref(), spec.params["a"].description.as_str()), (Some("x"), "of a"));
    assert_eq!((default("b").as_deref(), spec.params["b"].description.as_str()), (Some("y"), "d"));
    // A value for a required parameter is what it waited for.
    assert_eq!((default("c").as_deref(), spec.params["c"].required), (Some("5"), false));
    assert_eq!(default("e").as_deref(), Some("new"));
    assert!(!over(&base, "{params: {b: null}}").unwrap().params.contains_key("b"));
    let spec = filled(&base, "{params: {a: z, b: {default: z}, c: 9, f: z}}").unwrap();
    let default = |name: &str| spec.params[name].default.as_ref().map(ParamValue::text);
    assert_eq!(
        [default("a"), default("b"), default("c"), default("f")],
        [Some("x".into()), Some("x".into()), None, Some("z".into())]
    );
}

#[test]
fn a_runtime_and_a_command_replace_each_other() {
    assert_eq!(over(MANUAL, "{command: [make]}").unwrap().runtime.as_str(), "command");
    let command = "command: [make]\ntrigger: {manual: true}\n";
    assert_eq!(over(command, "{runtime: python, entry: x.py}").unwrap().runtime.as_str(), "python");
    assert_eq!(filled(command, "{runtime: python, entry: x.py}").unwrap().runtime.as_str(), "command");
}

#[test]
fn the_merged_task_is_checked_again_and_each_problem_knows_its_file() {
    let layers = [
        (Kind::Defaults, "{timeout: soon}"),
        (Kind::Overrides, "{env: {\n  KINDLING_X: a},\n params: {n: {type: digit}}}"),
        (Kind::Overrides, "{trigger: {manual: true},\n\n entries: {}}"),
    ];
    insta::assert_snapshot!(resolve(&format!("{MANUAL}nmae: x\n"), &layers).unwrap_err(), @"
    task.yaml:6:1: unknown field `nmae`; did you mean `name`?
    s0/taskset.yaml:1:11: `timeout` must be a length of time such as `500ms`, `30s`, `1m30s` or `2h`, a year at most, or `none`
    s1/taskset.yaml:2:3: `env`: `KINDLING_X` is reserved: variables in KINDLING_ are kindling's own
    s1/taskset.yaml:3:21: unknown parameter type; known: string, number, boolean
    s2/taskset.yaml:3:2: unknown field `entries`: sets have it, and overrides of a set; this is a task
    ");
}

#[test]
fn dicodes_flat_variables_and_hosts_reach_the_tasks_permissions() {
    let base = "apiVersion: dicode/v1\nkind: Task\nname: t\npermissions: {env: [HOME, A=1, {name: B, from: X}], net: ['*']}\n";
    let layers = [
        (Kind::Defaults, "{env: [A=default, Z=default]}"),
        (Kind::Overrides, "{env: {A: '2', B: null}, net: []}"),
        (Kind::Overrides, "{env: ['C=3', 'D', {name: HOME, value: h}]}"),
    ];
    let merged = document(base, &layers, Dialect::Dicode).document;
    let permissions = merged.get("permissions").unwrap();
    let Value::List(items) = &permissions.get("env").unwrap().value else { unreachable!() };
    let said = |item: &Node| match item.get("value").and_then(Node::text) {
        Some(value) => format!("{}={value}", item_name(item).unwrap()),
        None => item.text().unwrap_or_default().to_owned(),
    };
    let found: Vec<String> = items.iter().map(said).collect();
    assert_eq!(found, ["HOME=h", "A=2", "Z=default", "C=3", "D"]);
    // An empty list of hosts denies all: permissions can be narrowed.
    assert!(matches!(&permissions.get("net").unwrap().value, Value::List(hosts) if hosts.is_empty()));
    assert!(merged.get("env").is_none() && merged.get("net").is_none());
}

#[test]
fn a_dicode_set_sets_variables_of_a_kindling_task() {
    let base = format!("{TASK}{MANUAL}env: {{A: '1'}}\n");
    let merged = document(&base, &[(Kind::Overrides, "{env: [A=2, B=3]}")], Dialect::Dicode).document;
    let env = read_node(&merged).unwrap().spec.env;
    assert_eq!(env.into_iter().map(|(name, value)| name + &value).collect::<Vec<_>>(), ["A2", "B3"]);
}

#[test]
fn a_dicode_set_warns_of_what_it_does_not_support() {
    let text = "apiVersion: dicode/v1\nkind: TaskSet\nmetadata: {name: x}\nspec:\n  defaults: {timeout: 5s, retry: 3}\n  entries:\n    a:\n      ref: {path: a, poll_interval: 3s}\n      overrides: {notify: {on_success: true}, env: [A=1]}\n      tags: []\n";
    let set = read_set(text.as_bytes(), &RelPath::root(), false, &Limits::default())
        .map_err(|p| format!("{p:?}"))
        .unwrap_or_else(|p| panic!("{p}"));
    assert!(set.children[0].home.is_ok() && set.problems.is_empty());
    let warnings: Vec<String> = set.warnings.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(warnings.join("\n"), @"
    taskset.yaml:5:27: `spec.defaults`: the field `retry` is not supported and has no effect
    taskset.yaml:10:7: `spec.entries.a`: the field `tags` is not supported and has no effect
    taskset.yaml:9:19: `spec.entries.a.overrides`: the field `notify` is not supported and has no effect
    taskset.yaml:8:22: `spec.entries.a.ref`: the field `poll_interval` is not supported and has no effect
    ");
}
