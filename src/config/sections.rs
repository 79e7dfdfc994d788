//! The sections of kindling.yaml.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::duration::{DURATION, SIZE, duration, size};
use super::locate::Env;
use super::node::{Field, Fields, Node};
use super::relay::RelayUrl;
use super::repository::check_variable;
use super::secret::{self, Secret};
use super::trust;
use super::yaml::{Budget, YamlError, is_blank};
use super::{ConfigError, Lead, LeadToken, Role, Settings, read_bounded};
use crate::model::hook::HookPath;
use crate::model::id::{self, SourceName};
use crate::model::kv::KvLimits;
use crate::model::limits::{Limits, MAX_RUN_INPUT_BYTES, RunLimits};
use crate::model::path::RelPath;
use crate::model::source::{LocalOrigin, Origin, SourceSpec};

/// Where the service listens by default (DESIGN 4).
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7070);

/// The data directory by default, relative to the configuration file (DESIGN 4).
pub const DEFAULT_DATA_DIR: &str = ".kindling";

/// Shortest token, in bytes: what a generated 128-bit value has.
const MIN_TOKEN_BYTES: usize = 16;

/// Largest body of a webhook by default (DESIGN 12).
pub const DEFAULT_WEBHOOK_BYTES: u64 = 3 << 20;

/// Largest body of a webhook that can be allowed (DESIGN 12).
const MAX_WEBHOOK_BYTES: u64 = 25 << 20;

/// Longest file that holds a token, in bytes.
const MAX_TOKEN_FILE_BYTES: u64 = 4096;

pub(super) const TOP: [&str; 7] =
    ["server", "data_dir", "sources", "runtimes", "limits", "retention", "github"];
pub(super) const SERVER: [&str; 6] =
    ["listen", "token_env", "token_file", "insecure_http", "public_url", "open_hooks"];
pub(super) const SOURCE: [&str; 4] = ["name", "git", "local", "allow"];
pub(super) const LOCAL: [&str; 2] = ["path", "debounce"];
pub(super) const RUNTIMES: [&str; 6] = ["shell", "python", "node", "deno", "bun", "ruby"];
pub(super) const LIMITS: [&str; 16] = [
    "file",
    "unit",
    "files",
    "depth",
    "manifest",
    "taskset",
    "entries",
    "kv_value",
    "kv",
    "kv_keys",
    "runs",
    "queued_runs",
    "task_queued_runs",
    "run_input",
    "queued_input",
    "webhook_body",
];

pub(super) fn read(file: &Path, text: &[u8], env: Env<'_>, role: Role) -> (Option<Lead>, Outcome) {
    // A file of comments is a configuration: all defaults.
    let is_small = text.len() as u64 <= Budget::settings().bytes;
    let is_blank = is_small && std::str::from_utf8(text).is_ok_and(is_blank);
    let text = if is_blank { b"{}" } else { text };
    let dir = file.parent().unwrap_or(Path::new("/"));
    let (errors, secrets, relay, secret_files, hints, lead) = Default::default();
    let mut reader = Reader { file, dir, env, role, errors, secrets, relay, secret_files, hints, lead };
    let node = match Node::read(text, &Budget::settings()) {
        Ok(node) => node,
        Err(error) => {
            reader.errors.push(error);
            return (None, Err(reader.errors()));
        }
    };
    let settings = reader.settings(&Field::document(&node));
    let lead = reader.lead.take();
    match settings {
        Some(settings) if reader.errors.is_empty() => (lead, Ok(settings)),
        _ => (lead, Err(reader.errors())),
    }
}

/// The settings, or everything that is wrong with them.
pub(super) type Outcome = Result<Settings, Vec<ConfigError>>;

/// What the list of sources says.
#[derive(Default)]
struct Sources {
    specs: Vec<SourceSpec>,
    /// The line of each one's name.
    lines: BTreeMap<SourceName, u32>,
    webhooks: BTreeMap<SourceName, Vec<Secret>>,
    relays: BTreeMap<SourceName, RelayUrl>,
}

pub(super) struct Reader<'a> {
    file: &'a Path,
    dir: &'a Path,
    env: Env<'a>,
    role: Role,
    pub(super) errors: Vec<YamlError>,
    /// The secrets of the webhook of the source that was read last.
    pub(super) secrets: Vec<Secret>,
    /// Its relay.
    pub(super) relay: Option<RelayUrl>,
    /// The files that secrets were read from.
    secret_files: BTreeSet<PathBuf>,
    /// Hints by the number of their error.
    hints: BTreeMap<usize, String>,
    /// What leads to the service, once that much has been read.
    lead: Option<Lead>,
}

impl Reader<'_> {
    fn errors(self) -> Vec<ConfigError> {
        let Self { file, errors, mut hints, .. } = self;
        let config_error = |(number, error): (usize, YamlError)| ConfigError {
            file: file.to_owned(),
            at: error.at,
            message: error.message,
            hint: hints.remove(&number),
        };
        let mut errors: Vec<ConfigError> = errors.into_iter().enumerate().map(config_error).collect();
        errors.sort_by_key(|error| error.at);
        errors
    }

    pub(super) fn hinted(&mut self, error: YamlError, hint: &str) {
        self.hints.insert(self.errors.len(), hint.into());
        self.errors.push(error);
    }

    fn settings(&mut self, document: &Field<'_>) -> Option<Settings> {
        let top = document.fields(&TOP, &mut self.errors)?;
        let (server, is_server) =
            self.watched(|this| top.get("server").and_then(|field| field.fields(&SERVER, &mut this.errors)));
        let insecure_http = self.boolean(server.as_ref(), "insecure_http");
        let (listen, is_address) = self.watched(|this| this.listen(server.as_ref(), insecure_http));
        let public_url = self.public_url(server.as_ref());
        let open_hooks = server.as_ref().map(|server| self.open_hooks(server)).unwrap_or_default();
        let (token, is_token) = self.watched(|this| server.as_ref().and_then(|server| this.token(server)));
        let github = top.get("github").and_then(|field| self.github(&field)).unwrap_or_default();
        let data_dir = match top.get("data_dir") {
            Some(field) => self.path(&field),
            None => Some(self.dir.join(DEFAULT_DATA_DIR)),
        };
        self.lead = Some(Lead {
            listen: (is_server && is_address).then_some(listen),
            data_dir: data_dir.clone(),
            token: match &token {
                Some(token) => LeadToken::Given(token.clone()),
                None if !(is_server && is_token) => LeadToken::Unknown,
                None if names_token(server.as_ref()) => LeadToken::Elsewhere,
                None => LeadToken::NotNamed,
            },
        });
        let sources = top.get("sources").map(|field| self.sources(&field, data_dir.as_deref()));
        let Sources { specs: sources, lines: source_lines, webhooks, relays } = sources.unwrap_or_default();
        let programs = top.get("runtimes").map(|field| self.programs(&field)).unwrap_or_default();
        let limits = top.get("limits").and_then(|field| field.fields(&LIMITS, &mut self.errors));
        let webhook_bytes =
            limits.as_ref().map_or(DEFAULT_WEBHOOK_BYTES, |fields| self.webhook_bytes(fields));
        let limits = limits.map_or_else(Limits::default, |fields| self.limits(&fields));
        let retention = top.get("retention").map(|field| self.retention(&field)).unwrap_or_default();
        Some(Settings {
            file: self.file.to_owned(),
            listen,
            token,
            public_url,
            github,
            insecure_http,
            open_hooks,
            data_dir: data_dir?,
            sources,
            source_lines,
            webhooks,
            relays,
            programs,
            secret_files: std::mem::take(&mut self.secret_files),
            own_variables: trust::own_variables(document.node),
            limits,
            retention,
            webhook_bytes,
        })
    }

    /// What is read, and whether nothing was wrong with it.
    fn watched<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> (T, bool) {
        let before = self.errors.len();
        let value = read(self);
        (value, self.errors.len() == before)
    }

    fn boolean(&mut self, fields: Option<&Fields<'_>>, name: &str) -> bool {
        let field = fields.and_then(|fields| fields.get(name));
        field.and_then(|field| field.boolean(&mut self.errors)).unwrap_or(false)
    }

    fn listen(&mut self, server: Option<&Fields<'_>>, insecure_http: bool) -> SocketAddr {
        let Some(field) = server.and_then(|server| server.get("listen")) else { return DEFAULT_LISTEN };
        let what = "an IP address and a port, such as `127.0.0.1:7070` or `[::1]:7070`";
        let listen = field.parsed(what, |text| text.parse().ok(), &mut self.errors).unwrap_or(DEFAULT_LISTEN);
        if !listen.ip().to_canonical().is_loopback() && !insecure_http {
            let error = field.error("is not loopback: token and code would cross the network in plain HTTP");
            self.hinted(
                error,
                "listen on 127.0.0.1, or set `insecure_http: true` below `server` to allow it",
            );
        }
        listen
    }

    fn open_hooks(&mut self, server: &Fields<'_>) -> BTreeSet<HookPath> {
        let list =
            server.get("open_hooks").and_then(|field| field.list(&mut self.errors)).unwrap_or_default();
        let mut open = BTreeSet::new();
        for field in list {
            let Some(text) = field.text(&mut self.errors) else { continue };
            match HookPath::parse(text) {
                Ok(path) if open.contains(&path) => self.errors.push(field.error("is named twice")),
                Ok(path) => drop(open.insert(path)),
                Err(refusal) => self.errors.push(field.error(refusal)),
            }
        }
        open
    }

    fn token(&mut self, server: &Fields<'_>) -> Option<Secret> {
        let (field, text) = match (server.get("token_env"), server.get("token_file")) {
            (None, None) => return None,
            (Some(one), Some(other)) => {
                let at = one.key_at.max(other.key_at);
                self.errors
                    .push(server.error(at, "a token comes from `token_env` or `token_file`, not both"));
                return None;
            }
            (Some(field), None) => (field.clone(), self.token_from_env(&field, "token_file")?),
            (None, Some(field)) => (field.clone(), self.token_from_file(&field)?),
        };
        let refusal = if text.len() < MIN_TOKEN_BYTES {
            "gives a token shorter than 16 bytes"
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            "gives a token with a space or a character that is not ASCII"
        } else {
            return Some(Secret::new(text));
        };
        self.hinted(field.error(refusal), "`openssl rand -hex 32` makes one");
        None
    }

    pub(super) fn token_from_env(&mut self, field: &Field<'_>, twin: &str) -> Option<String> {
        let name = field.text(&mut self.errors)?;
        if let Err(refusal) = check_variable(name) {
            let hint = format!("put the secret into a variable and write its name here, or use `{twin}`");
            self.hinted(field.error(refusal), &hint);
            return None;
        }
        let value = (self.env)(name).filter(|value| !value.is_empty());
        if value.is_none() && self.role == Role::Service {
            let message = "names a variable that is not set; it takes the name of one, not the secret itself";
            let hint = format!("set it before kindling is started, or use `{twin}`");
            self.hinted(field.error(message), &hint);
        }
        // Bytes that are not UTF-8 become a character that no token may have.
        value.map(|value| value.to_string_lossy().into_owned())
    }

    pub(super) fn token_from_file(&mut self, field: &Field<'_>) -> Option<String> {
        let path = self.secret_path(field)?;
        self.secret_files.insert(path.clone());
        match read_bounded(&path, MAX_TOKEN_FILE_BYTES) {
            Ok(bytes) if bytes.len() as u64 > MAX_TOKEN_FILE_BYTES => {
                self.errors.push(field.error("names a file with more than 4096 bytes"));
                None
            }
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned()),
            Err(_) if self.role == Role::Client => None,
            Err(error) => {
                let error = field.error(&format!("names a file that cannot be read: {error}"));
                match secret::credential(&path) {
                    Some(name) => self.hinted(error, &secret::credential_hint(name)),
                    None => self.errors.push(error),
                }
                None
            }
        }
    }

    /// The path of a file with a secret. A credential of systemd is looked for where this process has its own: under
    /// another unit's name than the service's they lie in another directory.
    pub(super) fn secret_path(&mut self, field: &Field<'_>) -> Option<PathBuf> {
        let path = self.path(field)?;
        let own = (self.env)("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let there = own.zip(secret::credential(&path)).map(|(dir, name)| dir.join(name));
        Some(there.unwrap_or(path))
    }

    /// A path of this machine: `~` is the user's home, everything else is relative to the file.
    pub(super) fn path(&mut self, field: &Field<'_>) -> Option<PathBuf> {
        let text = field.text(&mut self.errors)?;
        let home = || (self.env)("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let path = match text.strip_prefix('~') {
            _ if text.is_empty() || text.contains('\0') => Err("is not a path"),
            None => Ok(self.dir.join(text)),
            Some("") => home().ok_or("begins with `~`, but HOME is not set"),
            Some(rest) => match rest.strip_prefix('/') {
                Some(rest) => {
                    home().map(|home| home.join(rest)).ok_or("begins with `~`, but HOME is not set")
                }
                None => Err("must have `/` after `~`"),
            },
        };
        match path {
            // Without its `.` parts.
            Ok(path) => Some(path.components().collect()),
            Err(refusal) => {
                self.errors.push(field.error(refusal));
                None
            }
        }
    }

    fn sources(&mut self, field: &Field<'_>, data_dir: Option<&Path>) -> Sources {
        let mut sources = Sources::default();
        for field in field.list(&mut self.errors).unwrap_or_default() {
            let Some(fields) = field.fields(&SOURCE, &mut self.errors) else { continue };
            let name = fields
                .required("name", &mut self.errors)
                .and_then(|field| self.source_name(&field, &mut sources.lines));
            let origin = self.origin(&fields, data_dir);
            let (secrets, relay) = (std::mem::take(&mut self.secrets), self.relay.take());
            if let (Some(name), false) = (&name, secrets.is_empty()) {
                sources.webhooks.insert(name.clone(), secrets);
                sources.relays.extend(relay.map(|relay| (name.clone(), relay)));
            }
            let allow =
                fields.get("allow").map(|field| trust::allow(&field, &mut self.errors)).unwrap_or_default();
            sources.specs.extend(name.zip(origin).map(|(name, origin)| SourceSpec { name, origin, allow }));
        }
        sources
    }

    fn source_name(
        &mut self,
        field: &Field<'_>,
        lines: &mut BTreeMap<SourceName, u32>,
    ) -> Option<SourceName> {
        let text = field.text(&mut self.errors)?;
        let Ok(name) = SourceName::new(text) else {
            let why = id::check(text).err().unwrap_or_default();
            self.errors.push(field.error(&format!("is not a name: {why}")));
            return None;
        };
        let line = field.node.at.line;
        if let Some(first) = lines.get(&name) {
            let message = format!("in line {line} is also the name of the source in line {first}");
            self.errors.push(field.error(&message));
        } else {
            lines.insert(name.clone(), line);
        }
        Some(name)
    }

    fn origin(&mut self, fields: &Fields<'_>, data_dir: Option<&Path>) -> Option<Origin> {
        match (fields.get("git"), fields.get("local")) {
            (Some(git), None) => self.git(&git).map(Origin::Git),
            (None, Some(local)) => self.local(&local, data_dir).map(Origin::Local),
            (Some(one), Some(other)) => {
                let at = one.key_at.max(other.key_at);
                self.errors.push(fields.error(at, "a source has `git` or `local`, not both"));
                None
            }
            (None, None) => {
                self.errors.push(fields.error(fields.at, "one of the fields `git` and `local` is missing"));
                None
            }
        }
    }

    pub(super) fn ruled(
        &mut self,
        field: &Field<'_>,
        rule: fn(&str) -> Result<(), &'static str>,
    ) -> Option<String> {
        let text = field.text(&mut self.errors)?;
        match rule(text) {
            Ok(()) => Some(text.into()),
            Err(refusal) => {
                self.errors.push(field.error(refusal));
                None
            }
        }
    }

    pub(super) fn rel_path(&mut self, field: &Field<'_>) -> Option<RelPath> {
        let path = RelPath::parse(field.text(&mut self.errors)?);
        if let Err(refusal) = path {
            self.errors.push(field.error(&format!("must be a path inside the repository: {refusal}")));
        }
        path.ok()
    }

    fn local(&mut self, field: &Field<'_>, data_dir: Option<&Path>) -> Option<LocalOrigin> {
        let fields = field.fields(&LOCAL, &mut self.errors)?;
        let place = fields.required("path", &mut self.errors);
        let path = place.as_ref().and_then(|field| self.path(field));
        let debounce = fields.get("debounce").and_then(|field| {
            let window = field.parsed(DURATION, duration, &mut self.errors)?;
            if window.is_zero() {
                self.errors.push(field.error("must be longer than 0; without it the window adapts itself"));
            }
            Some(window)
        });
        if let (Some(field), Some(path), Some(data_dir)) = (place, &path, data_dir)
            && is_inside(path, data_dir)
        {
            let error = field.error("is the data directory or lies inside it, where no unit is looked for");
            self.hinted(error, "name another directory here or in `data_dir`");
        }
        Some(LocalOrigin { path: path?, debounce })
    }

    fn programs(&mut self, field: &Field<'_>) -> BTreeMap<String, PathBuf> {
        let fields = field.fields(&RUNTIMES, &mut self.errors);
        let named = RUNTIMES.into_iter().filter_map(|name| Some((name, fields.as_ref()?.get(name)?)));
        let read = |(name, field): (&str, Field<'_>)| Some((name.to_owned(), self.path(&field)?));
        named.filter_map(read).collect()
    }

    fn webhook_bytes(&mut self, fields: &Fields<'_>) -> u64 {
        let what = "a size such as `3MiB`, above 0 and at most 25 MiB";
        let read = |text: &str| size(text).filter(|bytes| (1..=MAX_WEBHOOK_BYTES).contains(bytes));
        let field = fields.get("webhook_body");
        field.and_then(|field| field.parsed(what, read, &mut self.errors)).unwrap_or(DEFAULT_WEBHOOK_BYTES)
    }

    fn limits(&mut self, fields: &Fields<'_>) -> Limits {
        let default = Limits::default();
        let mut limit = |name: &str, what: &str, read: fn(&str) -> Option<u64>, default: u64| {
            let what = format!("{what}, above 0");
            let read = |text: &str| read(text).filter(|value| *value > 0);
            fields.get(name).and_then(|field| field.parsed(&what, read, &mut self.errors)).unwrap_or(default)
        };
        let count = |text: &str| text.parse().ok();
        Limits {
            file_bytes: limit("file", SIZE, size, default.file_bytes),
            unit_bytes: limit("unit", SIZE, size, default.unit_bytes),
            unit_files: to_usize(limit("files", "a whole number", count, default.unit_files as u64)),
            depth: to_usize(limit("depth", "a whole number", count, default.depth as u64)),
            manifest_bytes: limit("manifest", SIZE, size, default.manifest_bytes),
            set_bytes: limit("taskset", SIZE, size, default.set_bytes),
            set_entries: to_usize(limit("entries", "a whole number", count, default.set_entries as u64)),
            kv: KvLimits {
                value_bytes: limit("kv_value", SIZE, size, default.kv.value_bytes),
                task_bytes: limit("kv", SIZE, size, default.kv.task_bytes),
                keys: limit("kv_keys", "a whole number", count, default.kv.keys),
            },
            runs: RunLimits {
                at_once: to_usize(limit("runs", "a whole number", count, default.runs.at_once as u64)),
                queued: to_usize(limit("queued_runs", "a whole number", count, default.runs.queued as u64)),
                queued_of_task: to_usize(limit(
                    "task_queued_runs",
                    "a whole number",
                    count,
                    default.runs.queued_of_task as u64,
                )),
                input_bytes: limit("run_input", INPUT, run_input, default.runs.input_bytes),
                queued_bytes: limit("queued_input", SIZE, size, default.runs.queued_bytes),
            },
        }
    }
}

fn names_token(server: Option<&Fields<'_>>) -> bool {
    server.is_some_and(|server| ["token_env", "token_file"].iter().any(|name| server.get(name).is_some()))
}

/// How sizes of inputs are described in messages.
const INPUT: &str = "a size such as `512KiB`, at most 16 MiB";

fn run_input(text: &str) -> Option<u64> {
    size(text).filter(|bytes| *bytes <= MAX_RUN_INPUT_BYTES)
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Whether `path` is `dir` or lies in it, links followed as far as they are there.
#[must_use]
pub fn is_inside(path: &Path, dir: &Path) -> bool {
    resolved(path).starts_with(resolved(dir))
}

/// The path without links, as far as it is there yet.
fn resolved(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    match there {
        Some((above, real)) => real.join(path.strip_prefix(above).unwrap_or(Path::new(""))),
        None => path.to_owned(),
    }
}
