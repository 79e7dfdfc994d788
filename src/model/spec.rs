//! What a task is: the resolved form of its manifest.

use std::collections::BTreeMap;
use std::time::Duration;

use super::hook::Hook;

/// A task as it will run: every default filled in, every rule checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSpec {
    /// The name to show; never part of an id, except for a manifest at the source's own path.
    pub name: String,
    /// Free text.
    pub description: String,
    /// What executes it.
    pub runtime: Runtime,
    /// The script, relative to the unit; `None` for a command.
    pub entry: Option<String>,
    /// What starts it.
    pub trigger: Trigger,
    /// Its parameters by name.
    pub params: BTreeMap<String, Param>,
    /// Variables of its environment.
    pub env: BTreeMap<String, String>,
    /// A run is ended after this long; `None` for no limit.
    pub timeout: Option<Duration>,
    /// How often a run that failed is tried again.
    pub retries: Retries,
    /// How many runs of it there may be at once.
    pub concurrency: Concurrency,
    /// Patterns in gitignore syntax of files that are no part of the unit.
    pub exclude: Vec<String>,
    /// What it asks for beyond its own files.
    pub permissions: Permissions,
}

/// What a task asks for beyond its own files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Variables of its environment that are taken from kindling's, by the name that the run sees.
    pub env: BTreeMap<String, HostVariable>,
    /// What a runtime that can confine a script lets it do; `None` for no limit.
    pub sandbox: Option<Sandbox>,
    /// Whether `${TASK_DIR}`, `${HOME}` and `${DATADIR}` in `env`, in defaults of parameters and in paths of the
    /// sandbox stand for those places. Only tasks of `dicode/v1` are read so.
    pub places: bool,
}

/// A variable of kindling's own environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostVariable {
    /// Its name there.
    pub name: String,
    /// Whether a run may begin without it.
    pub optional: bool,
}

/// What a confined script may do. Only `deno` can hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// Paths that it may read, beside its own unit.
    pub read: Vec<String>,
    /// Paths that it may write.
    pub write: Vec<String>,
    /// Hosts that it may reach; `None` for all.
    pub net: Option<Vec<String>>,
    /// Programs that it may start; `*` for all.
    pub run: Vec<String>,
    /// Facts of the system that it may ask for.
    pub sys: Vec<String>,
}

/// The default time limit of a run, unless the task is a daemon (DESIGN 5).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// What executes a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// A POSIX shell script.
    Shell,
    /// A Python script.
    Python,
    /// A JavaScript file for Node.js.
    Node,
    /// A TypeScript or JavaScript file for Deno.
    Deno,
    /// A TypeScript or JavaScript file for Bun.
    Bun,
    /// A Ruby script.
    Ruby,
    /// Any program, by its arguments.
    Command(Vec<String>),
}

impl Runtime {
    /// The word in the manifest.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Python => "python",
            Self::Node => "node",
            Self::Deno => "deno",
            Self::Bun => "bun",
            Self::Ruby => "ruby",
            Self::Command(_) => "command",
        }
    }

    /// The program that is looked for on `PATH`.
    #[must_use]
    pub fn interpreter(&self) -> &str {
        match self {
            Self::Shell => "sh",
            Self::Python => "python3",
            Self::Node => "node",
            Self::Deno => "deno",
            Self::Bun => "bun",
            Self::Ruby => "ruby",
            Self::Command(argv) => argv.first().map_or("", String::as_str),
        }
    }

    /// Where the program of a command lies in the unit, if its name says that it is a file of it: a relative one with a
    /// slash. `None` too where `..` leads out of the unit.
    #[must_use]
    pub fn own_program(&self) -> Option<String> {
        let Self::Command(argv) = self else { return None };
        let program = argv.first().filter(|program| program.contains('/') && !program.starts_with('/'))?;
        let mut parts: Vec<&str> = Vec::new();
        for part in program.split('/').filter(|part| !matches!(*part, "" | ".")) {
            if part == ".." {
                parts.pop()?;
            } else {
                parts.push(part);
            }
        }
        Some(parts.join("/"))
    }

    /// Scripts that are looked for, in this order, where the manifest names none.
    #[must_use]
    pub fn default_entries(&self) -> &'static [&'static str] {
        match self {
            Self::Shell => &["task.sh"],
            Self::Python => &["task.py"],
            Self::Node => &["task.js", "task.mjs", "task.cjs"],
            Self::Deno | Self::Bun => &["task.ts", "task.js", "task.mjs"],
            Self::Ruby => &["task.rb"],
            Self::Command(_) => &[],
        }
    }
}

/// What starts a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Only a command.
    Manual,
    /// kindling itself, always exactly once.
    Daemon(RestartPolicy),
    /// The clock.
    Cron(Schedule),
    /// The end of another task's run.
    Chain(Chain),
    /// A call by HTTP.
    Webhook(Hook),
}

impl Trigger {
    /// The word in the manifest.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Daemon(_) => "daemon",
            Self::Cron(_) => "cron",
            Self::Chain(_) => "chain",
            Self::Webhook(_) => "webhook",
        }
    }

    /// Whether runs begin without anybody who could give them parameters.
    #[must_use]
    pub fn is_automatic(&self) -> bool {
        !matches!(self, Self::Manual)
    }
}

/// When a task runs by the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The expression, as it is written; it was read by [`super::cron::Cron`].
    pub expression: String,
    /// The time zone of the IANA database that it is in; `None` for the machine's.
    pub timezone: Option<String>,
    /// What is done about times that passed while nothing could run.
    pub catch_up: CatchUp,
}

/// A closed set of words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$what:meta])* $word:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$what])* $word),* }

        impl $name {
            /// Every word of the set.
            pub const ALL: &[Self] = &[$(Self::$word),*];

            /// The word in the manifest.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$word => $text),* }
            }
        }
    };
}

words! {
    /// What is done about scheduled times that passed while kindling was down.
    CatchUp {
        /// Nothing.
        None = "none",
        /// One run for all of them.
        Once = "once",
        /// One run for each, up to a bound.
        All = "all",
    }
}

/// Which runs of another task start this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The other task, as it is written: a full id, else a key in the same set or directory.
    pub from: String,
    /// How its run must have ended.
    pub on: ChainOn,
}

words! {
    /// How a run must have ended to start what is chained to it.
    ChainOn {
        /// Well.
        Success = "success",
        /// Badly: failed, or out of time.
        Failure = "failure",
        /// Either.
        Always = "always",
    }
}

/// How often a run that failed is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Most further attempts.
    pub limit: u32,
    /// Time before the first of them; it doubles with each one.
    pub backoff: Duration,
}

impl Default for Retries {
    /// None (DESIGN 5).
    fn default() -> Self {
        Self { limit: 0, backoff: Duration::from_secs(1) }
    }
}

/// How many runs of a task there may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// Most active runs; `None` for no bound but the service's.
    pub limit: Option<u32>,
    /// What becomes of a run that would be one too many.
    pub overlap: Overlap,
}

words! {
    /// What becomes of a run beyond a task's limit.
    Overlap {
        /// It does not take place.
        Forbid = "forbid",
        /// It waits.
        Allow = "allow",
        /// It takes place, and the oldest one is ended.
        Replace = "replace",
    }
}

impl Concurrency {
    /// What holds where a manifest says nothing (DESIGN 5): scheduled runs do not overlap, all others may. A daemon
    /// has exactly one process whatever this says.
    #[must_use]
    pub fn of(trigger: &Trigger) -> Self {
        match trigger {
            Trigger::Cron(_) => Self { limit: Some(1), overlap: Overlap::Forbid },
            Trigger::Manual | Trigger::Daemon(_) | Trigger::Chain(_) | Trigger::Webhook(_) => {
                Self { limit: None, overlap: Overlap::Allow }
            }
        }
    }
}

words! {
    /// When a daemon that ended is started again.
    RestartPolicy {
        /// Whenever it ended.
        Always = "always",
        /// When it ended with another code than 0, or by a signal.
        OnFailure = "on-failure",
        /// Never.
        Never = "never",
    }
}

/// A parameter of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Param {
    /// What values it takes.
    pub kind: ParamKind,
    /// Its value where none is given.
    pub default: Option<ParamValue>,
    /// Whether a run needs a value for it.
    pub required: bool,
    /// Free text.
    pub description: String,
}

impl Param {
    /// The variable that hands the parameter `name` to a program: `PARAM_` and the name in upper case, `_` for all but
    /// letters and digits.
    #[must_use]
    pub fn variable(name: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        format!("PARAM_{}", name.chars().map(plain).collect::<String>())
    }
}

/// What values a parameter takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParamKind {
    /// Any text.
    #[default]
    String,
    /// A finite number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A cron expression: five fields, or a name that begins with `@`. Only tasks of `dicode/v1` have these.
    Cron,
}

impl ParamKind {
    /// The word in the manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Cron => "cron",
        }
    }
}

/// A parameter's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamValue {
    /// A text.
    String(String),
    /// A number, as it was written.
    Number(String),
    /// A truth value.
    Boolean(bool),
}

impl ParamValue {
    /// The value as a program finds it in its environment.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::String(text) | Self::Number(text) => text.clone(),
            Self::Boolean(value) => value.to_string(),
        }
    }
}

impl TaskSpec {
    /// Whether kindling keeps it running.
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        matches!(self.trigger, Trigger::Daemon(_))
    }

    /// Where and how it is called by HTTP, if it is.
    #[must_use]
    pub fn hook(&self) -> Option<&Hook> {
        match &self.trigger {
            Trigger::Webhook(hook) => Some(hook),
            _ => None,
        }
    }

    /// Whether `other` differs from it in nothing that reaches the process: name and description do not.
    #[must_use]
    pub fn runs_alike(&self, other: &Self) -> bool {
        let bare = |spec: &Self| Self { name: String::new(), description: String::new(), ..spec.clone() };
        bare(self) == bare(other)
    }
}
