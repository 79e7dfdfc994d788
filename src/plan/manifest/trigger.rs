//! What starts a task, how often it is tried again, and how many of its runs there may be: parts that both formats
//! share.

use super::{Errors, word};
use crate::config::duration::{DURATION, duration};
use crate::config::node::{Field, Fields, Value};
use crate::config::words::{nearest, quoted, unknown_value_of_many};
use crate::config::yaml::YamlError;
use crate::model::cron::{Cron, Zone};
use crate::model::problem::Position;
use crate::model::spec::{CatchUp, Chain, ChainOn, Concurrency, Overlap, Retries, Schedule, Trigger};

/// Most further attempts that a manifest may ask for.
const MOST_RETRIES: u32 = 100;
/// Most runs of one task at once that a manifest may ask for.
const MOST_RUNS: u32 = 10_000;
/// Longest text of a chain's `from`, in bytes.
const MAX_FROM_BYTES: usize = 1024;

/// A schedule; what surprises in it goes to `lints`.
pub(super) fn schedule(
    cron: &Field<'_>,
    options: Option<&Fields<'_>>,
    errors: &mut Errors,
    lints: &mut Vec<YamlError>,
) -> Option<Schedule> {
    let zone = options.and_then(|options| options.get("timezone")).map(|field| zone(&field, errors));
    let catch_up = match options.and_then(|options| options.get("catchUp")) {
        Some(field) => one_of(&field, "way to catch up", CatchUp::ALL, CatchUp::as_str, errors),
        None => Some(CatchUp::None),
    };
    let text = cron.text(errors)?.trim();
    let read = text.parse::<Cron>().map_err(|error| {
        let near = nearest(text, &Cron::NAMES).filter(|_| error.is_unknown_name());
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        errors.push(cron.error(&format!("{error}{near}")));
    });
    let zone = match zone {
        Some(zone) => Some(zone?),
        None => None,
    };
    lints.extend(read.ok()?.lints(text, zone.as_ref()).iter().map(|lint| cron.error(lint)));
    let timezone = zone.as_ref().and_then(Zone::name).map(str::to_owned);
    Some(Schedule { expression: text.into(), timezone, catch_up: catch_up? })
}

fn zone(field: &Field<'_>, errors: &mut Errors) -> Option<Zone> {
    let text = field.text(errors)?;
    let found = Zone::bundled(text);
    if found.is_none() {
        let like = Zone::like(text).map(|like| format!("unknown time zone; did you mean `{like}`?"));
        let names = Zone::names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let message = like.unwrap_or_else(|| {
            let else_say = "the names are those of the IANA database, such as `Europe/Berlin` or `UTC`";
            unknown_value_of_many("time zone", text, &names, else_say)
        });
        errors.push(YamlError::at(field.node.at, message));
    }
    found
}

/// What `chain` says; its fields were looked at.
pub(super) fn chain(fields: &Fields<'_>, errors: &mut Errors) -> Option<Chain> {
    let on = match fields.get("on") {
        Some(field) => one_of(&field, "end of a run", ChainOn::ALL, ChainOn::as_str, errors),
        None => Some(ChainOn::Success),
    };
    let field = fields.required("from", errors)?;
    let from = field.text(errors)?;
    let is_key = |part: &str| !matches!(part, "" | "." | "..");
    if from.len() > MAX_FROM_BYTES || from.chars().any(char::is_control) || !from.split('/').all(is_key) {
        errors.push(
            field.error("must be the id of a task: a key in the same directory or set, or `SOURCE/KEY`"),
        );
        return None;
    }
    Some(Chain { from: from.into(), on: on? })
}

/// Where `trigger.chain.from` or `trigger.webhook` of a task stands.
pub(super) fn named_place(task: &Fields<'_>) -> Option<Position> {
    let trigger = task.get("trigger")?.node;
    let from = trigger.get("chain").and_then(|chain| chain.get("from"));
    Some(from.or_else(|| trigger.get("webhook"))?.at)
}

/// `retries` as a count, or as a map of `limit` and `backoff`.
pub(super) fn retries(field: &Field<'_>, errors: &mut Errors) -> Option<Retries> {
    let most = format!("a number from 0 to {MOST_RETRIES}");
    let count = |field: &Field<'_>, errors: &mut Errors| {
        field.parsed(&most, |text| number(text, 0, MOST_RETRIES), errors)
    };
    if !matches!(field.node.value, Value::Map(_)) {
        let limit = count(field, errors)?;
        return Some(Retries { limit, ..Retries::default() });
    }
    let fields = field.fields(&["limit", "backoff"], errors)?;
    let limit = fields.required("limit", errors).and_then(|field| count(&field, errors));
    let above_zero = |text: &str| duration(text).filter(|length| !length.is_zero());
    let backoff = match fields.get("backoff") {
        Some(field) => field.parsed(DURATION, above_zero, errors),
        None => Some(Retries::default().backoff),
    };
    Some(Retries { limit: limit?, backoff: backoff? })
}

/// `concurrency`: what it leaves out is as the trigger has it.
pub(super) fn concurrency(field: &Field<'_>, trigger: &Trigger, errors: &mut Errors) -> Option<Concurrency> {
    if field.node.text().is_some() {
        errors.push(field.error("must be a map, such as `{limit: 2, overlap: allow}`, not text"));
        return None;
    }
    let fields = field.fields(&["limit", "overlap"], errors)?;
    let what = format!("a number from 1 to {MOST_RUNS}");
    let limit =
        fields.get("limit").map(|field| field.parsed(&what, |text| number(text, 1, MOST_RUNS), errors));
    let overlap = match fields.get("overlap") {
        Some(field) => one_of(&field, "way to overlap", Overlap::ALL, Overlap::as_str, errors),
        None => Some(Concurrency::of(trigger).overlap),
    };
    let overlap = overlap?;
    let limit = match limit {
        Some(limit) => Some(limit?),
        None => (overlap != Overlap::Allow).then_some(1),
    };
    Some(Concurrency { limit, overlap })
}

/// A parameter that must be given, of a task whose runs nobody starts.
pub(super) fn refuse_required(field: &Field<'_>, trigger: &Trigger, errors: &mut Errors) {
    let of = match trigger {
        Trigger::Daemon(_) => "of a daemon".to_owned(),
        other => format!("of a task with {}", quoted(other.as_str())),
    };
    errors.push(field.error(&format!("{of} cannot be required: nobody gives them; use `default`")));
}

fn number(text: &str, least: u32, most: u32) -> Option<u32> {
    let is_plain = text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|number| is_plain && (least..=most).contains(number))
}

fn one_of<T: Copy>(
    field: &Field<'_>,
    what: &str,
    all: &[T],
    text: impl Fn(T) -> &'static str,
    errors: &mut Errors,
) -> Option<T> {
    let known: Vec<(&str, T)> = all.iter().map(|value| (text(*value), *value)).collect();
    word(Some(field.clone()), what, &known, errors)
}
