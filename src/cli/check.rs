//! `kindling check`.

mod hooks;
mod secrets;
mod statuses;

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Access, access};
use serde::Serialize;

use crate::act::interpreter::Interpreters;
use crate::act::probe;
use crate::api::exit;
use crate::api::wire::{SourceView, StatusView, Unready};
use crate::app::DATABASE_FILE;
use crate::config::remote::{Reach, reach};
use crate::config::{self, Role, Settings};
use crate::model::source::{Origin, SourceSpec};
use crate::model::spec::TaskSpec;
use crate::record::Store;
use crate::support::text::{count, printable};

use super::Context;
use super::advice::advice;
use super::error::{CliError, Ended};
use super::look::{Looked, look};
use super::output::{Format, Output};
use super::values::shell_word;

/// Free bytes below which the disk of the data directory is told to be nearly full.
const FEW_BYTES: u64 = 256 << 20;

/// Check what the service needs, and name the command that mends it
///
/// Ends with 1 if something fails.
#[derive(Debug, clap::Args)]
pub struct Args {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// What was found of one thing.
#[derive(Debug, Serialize)]
struct Finding {
    status: Verdict,
    check: String,
    message: String,
    /// The command, or what else mends it.
    hint: Option<String>,
}

/// All that was found, in order.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn put(&mut self, status: Verdict, check: &str, message: impl Into<String>, hint: Option<String>) {
        self.0.push(Finding { status, check: check.into(), message: message.into(), hint });
    }

    fn ok(&mut self, check: &str, message: impl Into<String>) {
        self.put(Verdict::Ok, check, message, None);
    }

    fn warn(&mut self, check: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.put(Verdict::Warn, check, message, Some(hint.into()));
    }

    fn fail(&mut self, check: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.put(Verdict::Fail, check, message, Some(hint.into()));
    }

    fn error(&mut self, status: Verdict, check: &str, error: &CliError) {
        self.put(status, check, error.sentence(), error.advice().map(str::to_owned));
    }
}

pub async fn check(_: &Args, context: &mut Context) -> Ended {
    let mut findings = Findings::default();
    let settings = configuration(context, &mut findings);
    if let Some(settings) = &settings {
        data_dir(&settings.data_dir, &mut findings);
        database(&settings.data_dir, &mut findings).await;
        secrets::token(settings, &mut findings);
        secrets::credentials(&settings.sources, &mut findings);
        sources(settings, &mut findings).await;
        statuses::statuses(settings, &mut findings).await;
    }
    // A service that was named can be asked without a configuration.
    if settings.is_some() || context.globals.server.is_some() {
        service(context, &mut findings).await;
    }
    let fails = findings.0.iter().any(|finding| finding.status == Verdict::Fail);
    print(&mut context.output, &findings.0)?;
    Ok(if fails { exit::NOT_SO } else { exit::DONE })
}

fn configuration(context: &Context, findings: &mut Findings) -> Option<Settings> {
    let check = "configuration";
    let located = match context.locate() {
        Ok(located) => located,
        Err(error) => {
            findings.fail(check, error.to_string(), error.hint());
            return None;
        }
    };
    match config::load(&located.file, &Context::env, Role::Client) {
        Ok(settings) => {
            findings.ok(check, format!("{}, {}", located.file.display(), located.by));
            // What a service that is started here would lack is a failure: whether it has it elsewhere cannot be seen.
            for error in config::load(&located.file, &Context::env, Role::Service).err().unwrap_or_default() {
                let message = format!("{error}: a service that is started here would refuse it");
                findings.put(Verdict::Fail, check, message, error.hint);
            }
            Some(settings)
        }
        Err(errors) => {
            // What a service lacks is told with the rest: nobody wants to mend a file twice.
            let all = config::load(&located.file, &Context::env, Role::Service).err().unwrap_or(errors);
            for error in all {
                findings.put(Verdict::Fail, check, error.to_string(), error.hint);
            }
            None
        }
    }
}

fn data_dir(dir: &Path, findings: &mut Findings) {
    let (check, shown) = ("data directory", dir.display());
    let word = shell_word(&dir.display().to_string());
    let Ok(found) = dir.metadata() else {
        let above = dir.ancestors().skip(1).find(|above| above.is_dir()).unwrap_or(Path::new("/"));
        if access(above, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
            findings.ok(check, format!("{shown} is made by the first start"));
        } else {
            let message = format!("{shown} cannot be made: {} cannot be written to", above.display());
            findings.fail(check, message, "set `data_dir` to another place");
        }
        return;
    };
    if !found.is_dir() {
        findings.fail(check, format!("{shown} is no directory"), "set `data_dir` to another place");
    } else if found.uid() != rustix::process::geteuid().as_raw() {
        let message = format!("{shown} belongs to another user");
        findings.fail(check, message, format!("sudo chown -R \"$(id -u)\" {word}"));
    } else if access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err() {
        findings.fail(check, format!("{shown} cannot be written to"), format!("chmod 700 {word}"));
    } else if found.permissions().mode() & 0o077 != 0 {
        let message = format!("others may look into {shown}");
        findings.warn(check, message, format!("chmod 700 {word}"));
    } else {
        room(dir, findings);
    }
}

/// The data directory is as it should be: is there room in it?
fn room(dir: &Path, findings: &mut Findings) {
    let (check, shown) = ("data directory", dir.display());
    let Ok(disk) = rustix::fs::statvfs(dir) else { return findings.ok(check, format!("{shown}")) };
    let (free, nodes) = (disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_favail);
    let mib = free >> 20;
    if free < FEW_BYTES {
        let message =
            format!("{shown}: {mib} MiB are free on its disk; what is done cannot be recorded without");
        findings.warn(check, message, format!("make room: df -h {}", shell_word(&shown.to_string())));
    } else if disk.f_files > 0 && nodes == 0 {
        let message = format!("{shown}: its disk takes no more files");
        findings.warn(check, message, format!("make room: df -i {}", shell_word(&shown.to_string())));
    } else {
        findings.ok(check, format!("{shown}, {mib} MiB free"));
    }
}

async fn database(data_dir: &Path, findings: &mut Findings) {
    let (check, path) = ("database", data_dir.join(DATABASE_FILE));
    if !path.exists() {
        findings.ok(check, "none yet: the first start makes it");
        return;
    }
    match Store::verify(&path).await {
        Ok(Some(version)) => findings.ok(check, format!("{}, schema {version}", path.display())),
        Ok(None) => findings.ok(check, format!("{} is empty", path.display())),
        Err(error) => {
            let hint = error.hint().map(str::to_owned);
            let error = CliError::outside(error.to_string()).because_of(&error);
            findings.put(Verdict::Fail, check, error.sentence(), hint);
        }
    }
}

async fn sources(settings: &Settings, findings: &mut Findings) {
    if settings.sources.is_empty() {
        findings.warn(
            "sources",
            "none is configured",
            "add one below `sources:`, or with `kindling source add`",
        );
    }
    let interpreters = Interpreters::new(settings.programs.clone());
    let mut needed: BTreeMap<String, (TaskSpec, String)> = BTreeMap::new();
    let (mut directories, mut asked) = (0, Vec::new());
    for source in &settings.sources {
        if let Some(looked) = local(source, settings, findings).await {
            directories += looked.directories;
            for (key, spec) in specs(&looked) {
                asked.extend(spec.hook().map(|hook| (format!("{}/{key}", source.name), hook.clone())));
                let program = spec.runtime.interpreter().to_owned();
                needed.entry(program).or_insert_with(|| (spec.clone(), format!("{}/{key}", source.name)));
            }
        }
    }
    for (program, (spec, unit)) in &needed {
        match interpreters.check(spec) {
            None => findings.ok("interpreter", format!("{program}, for {unit}")),
            Some(problem) => {
                let other = match spec.entry {
                    Some(_) => "name it as `runtimes` in kindling.yaml",
                    None => "correct `command` in its task.yaml",
                };
                let hint = format!("install {program}, or {other}");
                findings.fail("interpreter", format!("{unit}: {}", problem.message), hint);
            }
        }
    }
    hooks::secrets(asked, settings, findings).await;
    git(settings, findings).await;
    ssh(settings, findings).await;
    watches(directories, findings);
    trust(&settings.sources, findings);
}

async fn local(source: &SourceSpec, settings: &Settings, findings: &mut Findings) -> Option<Looked> {
    let Origin::Local(local) = &source.origin else { return None };
    let check = format!("source {}", source.name);
    match look(&local.path, std::slice::from_ref(&settings.data_dir), &settings.limits, false).await {
        Ok(looked) => {
            let broken = looked.catalog.iter().filter(|(_, entry)| entry.state.is_err()).count();
            let (all, broken) = (looked.catalog.len(), broken + looked.catalog.homeless_problems().count());
            let elsewhere = looked.elsewhere().map(|told| format!("; {told}")).unwrap_or_default();
            let message = format!("{}: {}{elsewhere}", local.path.display(), count(all, "unit"));
            if broken > 0 {
                let path = shell_word(&local.path.display().to_string());
                findings.warn(
                    &check,
                    format!("{message}, {broken} broken"),
                    format!("kindling validate {path}"),
                );
            } else {
                findings.ok(&check, message);
            }
            Some(looked)
        }
        Err(error) => {
            let path = shell_word(&local.path.display().to_string());
            findings.fail(&check, error.sentence(), format!("mkdir -p {path}, or correct its `path`"));
            None
        }
    }
}

fn specs(looked: &Looked) -> impl Iterator<Item = (String, &TaskSpec)> {
    looked.catalog.iter().filter_map(|(key, entry)| {
        let resolved = entry.state.as_ref().ok()?;
        Some((key.to_string(), &*resolved.spec))
    })
}

/// The first source whose repository has a URL of this kind.
fn follower(settings: &Settings, is_so: impl Fn(&str) -> bool) -> Option<&SourceSpec> {
    settings.sources.iter().find(|source| match &source.origin {
        Origin::Git(git) => is_so(&git.url),
        Origin::Local(_) => false,
    })
}

/// ssh is needed for repositories that are reached by it.
async fn ssh(settings: &Settings, findings: &mut Findings) {
    let by_ssh = |url: &str| reach(url) == Ok(Reach::Ssh);
    let Some(source) = follower(settings, by_ssh) else { return };
    match probe::version_of_ssh().await {
        Ok(version) => findings.ok("ssh", version),
        Err(error) => {
            let why = match error.kind() {
                std::io::ErrorKind::NotFound => "ssh is not on PATH".to_owned(),
                _ => format!("ssh fails: {error}"),
            };
            let message = format!("{why}; source {} is fetched with it", source.name);
            findings.fail("ssh", message, "sudo apt install openssh-client, or what your system calls it");
        }
    }
}

/// git is needed for repositories of this machine only; over HTTP kindling fetches itself.
async fn git(settings: &Settings, findings: &mut Findings) {
    let on_this_machine = |url: &str| url.starts_with('/') || url.to_ascii_lowercase().starts_with("file:");
    let needs = follower(settings, on_this_machine);
    let version = probe::version(Path::new("git")).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "git is not on PATH".to_owned(),
        _ => format!("git fails: {error}"),
    });
    match (version, needs) {
        (Ok(version), _) => findings.ok("git", version),
        (Err(why), Some(source)) => {
            findings.fail(
                "git",
                format!("{why}; source {} is fetched with it", source.name),
                "sudo apt install git, or what your system calls it",
            );
        }
        (Err(why), None) => {
            findings.ok("git", format!("{why}; only repositories of this machine would need it"));
        }
    }
}

fn watches(directories: usize, findings: &mut Findings) {
    let limit = |name: &str| -> Option<usize> {
        std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?.trim().parse().ok()
    };
    let (Some(watches), Some(instances)) = (limit("max_user_watches"), limit("max_user_instances")) else {
        findings.warn("inotify", "its limits cannot be read", "mount /proc");
        return;
    };
    let message =
        format!("{directories} directories to watch, {watches} watches and {instances} instances allowed");
    if directories >= watches {
        findings.warn("inotify", message, "sudo sysctl fs.inotify.max_user_watches=524288");
    } else if instances < 16 {
        findings.warn("inotify", message, "sudo sysctl fs.inotify.max_user_instances=1024");
    } else {
        findings.ok("inotify", message);
    }
}

/// A source is trusted as much as a login of the service's user.
fn trust(sources: &[SourceSpec], findings: &mut Findings) {
    let user = Context::env("USER").and_then(|user| user.into_string().ok()).filter(|user| !user.is_empty());
    let user = user.unwrap_or_else(|| format!("user {}", rustix::process::geteuid().as_raw()));
    for source in sources {
        let place = match &source.origin {
            Origin::Git(git) => git.url.clone(),
            Origin::Local(local) => local.path.display().to_string(),
        };
        findings.ok("trust", format!("who can write to {place} runs programs as {user}"));
    }
}

/// What units lack where the service runs, also those of repositories, which are not looked at here.
fn lacking(unready: &[Unready], findings: &mut Findings) {
    for Unready { name, why } in unready {
        let Some((reason, why)) = why.split_once(": ") else { continue };
        let check = match reason {
            "MissingSecret" => "task webhook",
            "MissingInterpreter" => "interpreter",
            "NotAllowed" => "trust",
            _ => continue,
        };
        let start = format!("{name}: ");
        let is_known = |known: &Finding| {
            known.status == Verdict::Fail && known.check == check && known.message.starts_with(&start)
        };
        if !findings.0.iter().any(is_known) {
            findings.put(Verdict::Fail, check, format!("{start}{why}"), advice(name, reason));
        }
    }
}

async fn service(context: &Context, findings: &mut Findings) {
    let check = "service";
    let client = match context.client() {
        Ok(client) => client,
        Err(error) => return findings.error(Verdict::Fail, check, &error),
    };
    match client.get::<StatusView>(&["status"], &[]).await {
        Ok(status) if status.version == env!("CARGO_PKG_VERSION") => {
            let message = format!("kindling {} at {}", status.version, client.address());
            match status.unready.len() {
                0 => findings.ok(check, message),
                some => findings.warn(check, format!("{message}: {some} not ready"), "kindling status"),
            }
            lacking(&status.unready, findings);
            relays(&status.sources, findings);
        }
        Ok(status) => {
            let message = format!("kindling {} at {} is another version", status.version, client.address());
            findings.warn(check, message, "start the service again with this version");
        }
        // Before the first start there is none, and that is no fault.
        Err(error) if error.is_not_reached() => {
            findings.error(Verdict::Warn, check, &error);
            listen(context, findings);
        }
        Err(error) => findings.error(Verdict::Fail, check, &error),
    }
}

/// Whether the running service is connected to the relays of its sources.
fn relays(sources: &[SourceView], findings: &mut Findings) {
    for source in sources {
        let Some(relay) = &source.relay else { continue };
        let check = format!("source {}", source.name);
        match (&relay.connected_since, &relay.error) {
            (Some(_), _) => findings.ok(&check, format!("its relay {} is connected", relay.place)),
            (None, Some(why)) => {
                let message = format!("its relay {} is away: it {why}", relay.place);
                findings.warn(&check, message, "it is tried again by itself; polls go on meanwhile");
            }
            (None, None) => {}
        }
    }
}

/// No service is reached: could one listen?
fn listen(context: &Context, findings: &mut Findings) {
    let Ok(settings) = context.settings(Role::Client) else { return };
    let address = settings.listen;
    match std::net::TcpListener::bind(address) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let message = format!("another program listens on {address}, so the service cannot start");
            let hint = format!(
                "`ss -ltnp sport = :{}` names it; end it, or set `server: {{listen: ...}}`",
                address.port()
            );
            findings.fail("listen", message, hint);
        }
        Err(error) => {
            let message = format!("the service cannot listen on {address}: {error}");
            findings.fail("listen", message, "set `server: {listen: ...}` to an address of this machine");
        }
    }
}

fn print(output: &mut Output, findings: &[Finding]) -> Result<(), CliError> {
    if output.format.is_data() {
        return output.value(&serde_json::json!({ "items": findings }));
    }
    let shown = |finding: &&Finding| output.format != Format::Name || finding.status != Verdict::Ok;
    let findings: Vec<&Finding> = findings.iter().filter(shown).collect();
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for finding in findings {
        if output.format == Format::Name {
            output.line(&printable(&finding.check))?;
            continue;
        }
        let word = match finding.status {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        };
        let word = output.verdict(word);
        output.line(&format!(
            "{word}  {:width$}  {}",
            printable(&finding.check),
            printable(&finding.message)
        ))?;
        if let Some(hint) = &finding.hint {
            output.line(&format!("      {:width$}  -> {}", "", printable(hint)))?;
        }
    }
    Ok(())
}
