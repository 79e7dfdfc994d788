//! The canonical form of a spec: JSON with every field, in one order.
//!
//! It is what the unit hash is taken over and what the store keeps, so that what is hashed is what is run again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::hook::{Hook, HookMethod, HookPath};
use crate::model::spec::{
    CatchUp, Chain, ChainOn, Concurrency, HostVariable, Overlap, Param, ParamKind, ParamValue, Permissions,
    RestartPolicy, Retries, Runtime, Sandbox, Schedule, TaskSpec, Trigger,
};

/// Why a recorded spec cannot be read back.
#[derive(Debug, thiserror::Error)]
#[error("a recorded spec cannot be read")]
pub struct BadSpec(#[from] serde_json::Error);

/// Writes a spec in its canonical form.
///
/// Maps are ordered by key, durations are whole milliseconds. Every field is present but permissions, retries and
/// concurrency that are what they would be without a word.
#[must_use]
pub fn encode(spec: &TaskSpec) -> String {
    // Strings, numbers, lists and maps with text keys cannot fail to be written.
    serde_json::to_string(&Doc::from(spec)).unwrap_or_default()
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// The text is not a spec of this version of kindling.
pub fn decode(text: &str) -> Result<TaskSpec, BadSpec> {
    Ok(serde_json::from_str::<Doc>(text)?.into())
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Doc {
    name: String,
    description: String,
    runtime: RuntimeDoc,
    entry: Option<String>,
    trigger: TriggerDoc,
    params: BTreeMap<String, ParamDoc>,
    env: BTreeMap<String, String>,
    timeout_ms: Option<u64>,
    // Left out where they say nothing, so that hashes are those of versions that did not know them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retries: Option<RetriesDoc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrency: Option<ConcurrencyDoc>,
    exclude: Vec<String>,
    // Left out where a task asks for nothing, so that hashes are those of versions that knew no permissions.
    #[serde(default, skip_serializing_if = "PermissionsDoc::is_empty")]
    permissions: PermissionsDoc,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PermissionsDoc {
    env: BTreeMap<String, HostVariableDoc>,
    sandbox: Option<SandboxDoc>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    places: bool,
}

impl PermissionsDoc {
    fn is_empty(&self) -> bool {
        self.env.is_empty() && self.sandbox.is_none() && !self.places
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostVariableDoc {
    name: String,
    optional: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SandboxDoc {
    read: Vec<String>,
    write: Vec<String>,
    net: Option<Vec<String>>,
    run: Vec<String>,
    sys: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RuntimeDoc {
    Shell,
    Python,
    Node,
    Deno,
    Bun,
    Ruby,
    Command(Vec<String>),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TriggerDoc {
    Manual,
    Daemon(RestartDoc),
    Cron(ScheduleDoc),
    Chain(ChainDoc),
    Webhook(HookDoc),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HookDoc {
    path: HookPathDoc,
    methods: Vec<MethodDoc>,
    secret: Option<String>,
    bearer: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct HookPathDoc(HookPath);

impl TryFrom<String> for HookPathDoc {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        HookPath::parse(&text).map(Self)
    }
}

impl From<HookPathDoc> for String {
    fn from(doc: HookPathDoc) -> Self {
        doc.0.as_str().to_owned()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum MethodDoc {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleDoc {
    expression: String,
    timezone: Option<String>,
    catch_up: CatchUpDoc,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CatchUpDoc {
    None,
    Once,
    All,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChainDoc {
    from: String,
    on: ChainOnDoc,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ChainOnDoc {
    Success,
    Failure,
    Always,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetriesDoc {
    limit: u32,
    backoff_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConcurrencyDoc {
    limit: Option<u32>,
    overlap: OverlapDoc,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OverlapDoc {
    Forbid,
    Allow,
    Replace,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RestartDoc {
    Always,
    OnFailure,
    Never,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ParamDoc {
    kind: KindDoc,
    default: Option<ValueDoc>,
    required: bool,
    description: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KindDoc {
    String,
    Number,
    Boolean,
    Cron,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ValueDoc {
    String(String),
    Number(String),
    Boolean(bool),
}

/// Pairs the words of a closed set with the words of its document.
macro_rules! pairs {
    ($model:ident <=> $doc:ident { $($word:ident),* }) => {
        impl From<$model> for $doc {
            fn from(value: $model) -> Self {
                match value { $($model::$word => Self::$word),* }
            }
        }
        impl From<$doc> for $model {
            fn from(value: $doc) -> Self {
                match value { $($doc::$word => Self::$word),* }
            }
        }
    };
}

pairs!(RestartPolicy <=> RestartDoc { Always, OnFailure, Never });
pairs!(CatchUp <=> CatchUpDoc { None, Once, All });
pairs!(HookMethod <=> MethodDoc { Get, Head, Post, Put, Patch, Delete, Options });
pairs!(ChainOn <=> ChainOnDoc { Success, Failure, Always });
pairs!(Overlap <=> OverlapDoc { Forbid, Allow, Replace });
pairs!(ParamKind <=> KindDoc { String, Number, Boolean, Cron });

impl From<&TaskSpec> for Doc {
    fn from(spec: &TaskSpec) -> Self {
        Self {
            name: spec.name.clone(),
            description: spec.description.clone(),
            runtime: match &spec.runtime {
                Runtime::Shell => RuntimeDoc::Shell,
                Runtime::Python => RuntimeDoc::Python,
                Runtime::Node => RuntimeDoc::Node,
                Runtime::Deno => RuntimeDoc::Deno,
                Runtime::Bun => RuntimeDoc::Bun,
                Runtime::Ruby => RuntimeDoc::Ruby,
                Runtime::Command(argv) => RuntimeDoc::Command(argv.clone()),
            },
            entry: spec.entry.clone(),
            trigger: (&spec.trigger).into(),
            params: spec.params.iter().map(|(name, param)| (name.clone(), param.into())).collect(),
            env: spec.env.clone(),
            timeout_ms: spec.timeout.map(millis),
            retries: (spec.retries != Retries::default()).then(|| spec.retries.into()),
            concurrency: (spec.concurrency != Concurrency::of(&spec.trigger))
                .then(|| spec.concurrency.into()),
            exclude: spec.exclude.clone(),
            permissions: (&spec.permissions).into(),
        }
    }
}

impl From<Doc> for TaskSpec {
    fn from(doc: Doc) -> Self {
        let trigger = doc.trigger.into();
        let concurrency = doc.concurrency.map_or_else(|| Concurrency::of(&trigger), Into::into);
        Self {
            name: doc.name,
            description: doc.description,
            runtime: match doc.runtime {
                RuntimeDoc::Shell => Runtime::Shell,
                RuntimeDoc::Python => Runtime::Python,
                RuntimeDoc::Node => Runtime::Node,
                RuntimeDoc::Deno => Runtime::Deno,
                RuntimeDoc::Bun => Runtime::Bun,
                RuntimeDoc::Ruby => Runtime::Ruby,
                RuntimeDoc::Command(argv) => Runtime::Command(argv),
            },
            entry: doc.entry,
            trigger,
            params: doc.params.into_iter().map(|(name, param)| (name, param.into())).collect(),
            env: doc.env,
            timeout: doc.timeout_ms.map(Duration::from_millis),
            retries: doc.retries.map(Into::into).unwrap_or_default(),
            concurrency,
            exclude: doc.exclude,
            permissions: doc.permissions.into(),
        }
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

impl From<&Trigger> for TriggerDoc {
    fn from(trigger: &Trigger) -> Self {
        match trigger {
            Trigger::Manual => Self::Manual,
            Trigger::Daemon(policy) => Self::Daemon((*policy).into()),
            Trigger::Cron(Schedule { expression, timezone, catch_up }) => Self::Cron(ScheduleDoc {
                expression: expression.clone(),
                timezone: timezone.clone(),
                catch_up: (*catch_up).into(),
            }),
            Trigger::Chain(Chain { from, on }) => {
                Self::Chain(ChainDoc { from: from.clone(), on: (*on).into() })
            }
            Trigger::Webhook(Hook { path, methods, secret, bearer }) => Self::Webhook(HookDoc {
                path: HookPathDoc(path.clone()),
                methods: methods.iter().map(|method| (*method).into()).collect(),
                secret: secret.clone(),
                bearer: bearer.clone(),
            }),
        }
    }
}

impl From<TriggerDoc> for Trigger {
    fn from(doc: TriggerDoc) -> Self {
        match doc {
            TriggerDoc::Manual => Self::Manual,
            TriggerDoc::Daemon(policy) => Self::Daemon(policy.into()),
            TriggerDoc::Cron(ScheduleDoc { expression, timezone, catch_up }) => {
                Self::Cron(Schedule { expression, timezone, catch_up: catch_up.into() })
            }
            TriggerDoc::Chain(ChainDoc { from, on }) => Self::Chain(Chain { from, on: on.into() }),
            TriggerDoc::Webhook(HookDoc { path, methods, secret, bearer }) => Self::Webhook(Hook {
                path: path.0,
                methods: methods.into_iter().map(Into::into).collect(),
                secret,
                bearer,
            }),
        }
    }
}

impl From<Retries> for RetriesDoc {
    fn from(Retries { limit, backoff }: Retries) -> Self {
        Self { limit, backoff_ms: millis(backoff) }
    }
}

impl From<RetriesDoc> for Retries {
    fn from(RetriesDoc { limit, backoff_ms }: RetriesDoc) -> Self {
        Self { limit, backoff: Duration::from_millis(backoff_ms) }
    }
}

impl From<Concurrency> for ConcurrencyDoc {
    fn from(Concurrency { limit, overlap }: Concurrency) -> Self {
        Self { limit, overlap: overlap.into() }
    }
}

impl From<ConcurrencyDoc> for Concurrency {
    fn from(ConcurrencyDoc { limit, overlap }: ConcurrencyDoc) -> Self {
        Self { limit, overlap: overlap.into() }
    }
}

impl From<&Permissions> for PermissionsDoc {
    fn from(permissions: &Permissions) -> Self {
        let variable = |(name, host): (&String, &HostVariable)| {
            (name.clone(), HostVariableDoc { name: host.name.clone(), optional: host.optional })
        };
        Self {
            env: permissions.env.iter().map(variable).collect(),
            sandbox: permissions.sandbox.clone().map(|Sandbox { read, write, net, run, sys }| SandboxDoc {
                read,
                write,
                net,
                run,
                sys,
            }),
            places: permissions.places,
        }
    }
}

impl From<PermissionsDoc> for Permissions {
    fn from(doc: PermissionsDoc) -> Self {
        let variable = |(name, host): (String, HostVariableDoc)| {
            (name, HostVariable { name: host.name, optional: host.optional })
        };
        Self {
            env: doc.env.into_iter().map(variable).collect(),
            sandbox: doc.sandbox.map(|SandboxDoc { read, write, net, run, sys }| Sandbox {
                read,
                write,
                net,
                run,
                sys,
            }),
            places: doc.places,
        }
    }
}

impl From<&Param> for ParamDoc {
    fn from(param: &Param) -> Self {
        Self {
            kind: param.kind.into(),
            default: param.default.clone().map(|value| match value {
                ParamValue::String(text) => ValueDoc::String(text),
                ParamValue::Number(text) => ValueDoc::Number(text),
                ParamValue::Boolean(value) => ValueDoc::Boolean(value),
            }),
            required: param.required,
            description: param.description.clone(),
        }
    }
}

impl From<ParamDoc> for Param {
    fn from(doc: ParamDoc) -> Self {
        Self {
            kind: doc.kind.into(),
            default: doc.default.map(|value| match value {
                ValueDoc::String(text) => ParamValue::String(text),
                ValueDoc::Number(text) => ParamValue::Number(text),
                ValueDoc::Boolean(value) => ParamValue::Boolean(value),
            }),
            required: doc.required,
            description: doc.description,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> TaskSpec {
        TaskSpec {
            name: "digest".into(),
            description: "a\nb".into(),
            runtime: Runtime::Command(vec!["echo".into(), "x".into()]),
            entry: None,
            trigger: Trigger::Daemon(RestartPolicy::OnFailure),
            params: BTreeMap::from([(
                "n".into(),
                Param {
                    kind: ParamKind::Number,
                    default: Some(ParamValue::Number("1e3".into())),
                    ..Param::default()
                },
            )]),
            env: BTreeMap::from([("B".into(), "2".into()), ("A".into(), "1".into())]),
            timeout: Some(Duration::from_secs(3)),
            retries: Retries::default(),
            concurrency: Concurrency { limit: None, overlap: Overlap::Allow },
            exclude: vec!["*.tmp".into()],
            permissions: Permissions {
                env: BTreeMap::from([("T".into(), HostVariable { name: "TOKEN".into(), optional: true })]),
                sandbox: Some(Sandbox {
                    read: vec!["/r".into()],
                    net: Some(Vec::new()),
                    ..Sandbox::default()
                }),
                places: true,
            },
        }
    }

    #[test]
    fn reads_what_it_wrote() {
        assert_eq!(decode(&encode(&spec())).unwrap(), spec());
    }

    #[test]
    fn the_form_is_fixed() {
        insta::assert_snapshot!(encode(&spec()), @r#"{"name":"digest","description":"a\nb","runtime":{"command":["echo","x"]},"entry":null,"trigger":{"daemon":"on-failure"},"params":{"n":{"kind":"number","default":{"number":"1e3"},"required":false,"description":""}},"env":{"A":"1","B":"2"},"timeout_ms":3000,"exclude":["*.tmp"],"permissions":{"env":{"T":{"name":"TOKEN","optional":true}},"sandbox":{"read":["/r"],"write":[],"net":[],"run":[],"sys":[]},"places":true}}"#);
    }

    #[test]
    fn schedules_chains_and_bounds_are_written_where_they_say_something() {
        let schedule = Schedule {
            expression: "*/5 * * * *".into(),
            timezone: Some("Europe/Berlin".into()),
            catch_up: CatchUp::Once,
        };
        let chain = Chain { from: "build".into(), on: ChainOn::Always };
        let hook = Hook {
            path: HookPath::parse("/hooks/a").unwrap(),
            methods: HookMethod::ALL.to_vec(),
            secret: Some("S".into()),
            bearer: None,
        };
        let hook = Trigger::Webhook(hook);
        let text = encode(&TaskSpec { trigger: hook.clone(), ..spec() });
        assert!(text.contains(r#""trigger":{"webhook":{"path":"/hooks/a","methods":["GET","HEAD","POST","PUT","PATCH","DELETE","OPTIONS"],"secret":"S","bearer":null}}"#), "{text}");
        assert!(decode(&text.replace("/hooks/a", "/api/v1")).is_err());
        for trigger in [Trigger::Cron(schedule), Trigger::Chain(chain), hook] {
            let plain = TaskSpec { concurrency: Concurrency::of(&trigger), trigger, ..spec() };
            let text = encode(&plain);
            assert!(!text.contains("retries") && !text.contains("concurrency"), "{text}");
            assert_eq!(decode(&text).unwrap(), plain);
            let bounded = TaskSpec {
                retries: Retries { limit: 3, backoff: Duration::from_millis(1500) },
                concurrency: Concurrency { limit: Some(2), overlap: Overlap::Replace },
                ..plain
            };
            assert_eq!(decode(&encode(&bounded)).unwrap(), bounded);
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert!(decode("{}").is_err());
        assert!(decode(&encode(&spec()).replace("\"entry\"", "\"extra\":1,\"entry\"")).is_err());
    }
}
