//! `/metrics`: figures in the text format of Prometheus.
//!
//! Labels are names of what the operator or a source declares, and words of ours; never anything of a call. What is
//! gone from the board has no line.

use std::fmt::{Display, Write as _};

use axum::extract::State as AxumState;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::act::Target;
use crate::model::condition::{ConditionType, Conditions};
use crate::reconcile::board::Board;
use crate::reconcile::metrics::{BOUNDS, Counts, Histogram, Metrics};

use super::State;

/// The media type of the format.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn serve<T: Target>(AxumState(api): State<T>) -> impl IntoResponse {
    let core = api.service.core();
    ([(CONTENT_TYPE, FORMAT)], render(&core.board, core.metrics()))
}

/// All figures as they are now.
fn render(board: &Board, metrics: &Metrics) -> String {
    let mut page = Page::default();
    page.family("build_info", "gauge", "The version that runs; always 1.");
    page.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    shown(board, &mut page);
    let sources = board.sources();
    let names = sources.iter().map(|source| source.spec.name.clone()).collect();
    let counts = metrics.counts(&names, |unit| board.unit(unit).is_some());
    counted(&counts, &mut page);
    page.0
}

/// What the board shows.
fn shown(board: &Board, page: &mut Page) {
    let (sources, units) = (board.sources(), board.units());
    let ready = |conditions: &Conditions| {
        conditions.get(ConditionType::Ready).map_or("Unknown", |ready| ready.status.as_str())
    };
    let word = |is: bool| if is { "true" } else { "false" };
    page.family("resource_info", "gauge", "A unit, or a source with an empty unit; always 1.");
    for source in &sources {
        let revision = source.revisions.deployed.as_ref().map(ToString::to_string).unwrap_or_default();
        let labels = [
            ("source", source.spec.name.as_str()),
            ("unit", ""),
            ("ready", ready(&source.conditions)),
            ("suspended", word(source.suspended.is_some())),
            ("revision", &revision),
        ];
        page.sample("resource_info", &labels, 1);
    }
    for unit in &units {
        let revision = unit.deployed_revision.as_ref().map(ToString::to_string).unwrap_or_default();
        let labels = [
            ("source", unit.id.source.as_str()),
            ("unit", &unit.id.key),
            ("ready", ready(&unit.conditions)),
            ("suspended", word(unit.suspended.is_some())),
            ("revision", &revision),
        ];
        page.sample("resource_info", &labels, 1);
    }
    page.family("suspended", "gauge", "Whether a source is suspended.");
    for source in &sources {
        let is = u8::from(source.suspended.is_some());
        page.sample("suspended", &[("source", source.spec.name.as_str())], is);
    }
    page.family("relay_connected", "gauge", "Whether the relay of a source is connected.");
    for source in &sources {
        if let Some(relay) = board.relay(&source.spec.name) {
            let is = u8::from(relay.connected_since.is_some());
            page.sample("relay_connected", &[("source", source.spec.name.as_str())], is);
        }
    }
    let name = "last_success_timestamp_seconds";
    page.family(name, "gauge", "When a source was last looked at with success.");
    for source in &sources {
        if let Some(at) = source.last_fetch_at {
            page.sample(name, &[("source", source.spec.name.as_str())], at.0 as f64 / 1e3);
        }
    }
}

/// What was counted since the service started.
fn counted(counts: &Counts, page: &mut Page) {
    let name = "reconcile_duration_seconds";
    page.family(name, "histogram", "Time of a pass over a source, from its look to its record.");
    for (source, series) in &counts.sources {
        page.histogram(name, &[("source", source.as_str()), ("kind", series.kind)], &series.passes);
    }
    page.family("sync_total", "counter", "Steps by their end; noop counts passes that found nothing.");
    for (source, series) in &counts.sources {
        for ((action, result), count) in &series.steps {
            let labels = [("source", source.as_str()), ("action", action), ("result", result)];
            page.sample("sync_total", &labels, count);
        }
    }
    page.family("git_requests_total", "counter", "Looks at repositories; fetch brought another commit.");
    for (source, series) in &counts.sources {
        for ((op, result), count) in &series.looks {
            let labels = [("source", source.as_str()), ("op", op), ("result", result)];
            page.sample("git_requests_total", &labels, count);
        }
    }
    page.family("git_request_duration_seconds", "histogram", "Time of a look at a repository.");
    for (op, times) in &counts.looks {
        page.histogram("git_request_duration_seconds", &[("op", op)], times);
    }
    page.family("push_to_live_seconds", "histogram", "Time of each phase of steps that took effect.");
    for (phase, times) in &counts.phases {
        page.histogram("push_to_live_seconds", &[("phase", phase)], times);
    }
    page.family("drift_detected_total", "counter", "Units that were found to differ from what was recorded.");
    page.each_source(counts, "drift_detected_total", |series| series.drift_detected);
    page.family("drift_corrected_total", "counter", "Drift that was corrected.");
    page.each_source(counts, "drift_corrected_total", |series| series.drift_corrected);
    page.family("runs_total", "counter", "Runs that are over, by how they ended.");
    for (source, series) in &counts.sources {
        for (status, count) in &series.runs {
            page.sample("runs_total", &[("source", source.as_str()), ("status", status)], count);
        }
    }
    webhooks(counts, page);
    page.family("commit_statuses_total", "counter", "Commit statuses by how saying them ended.");
    for (source, series) in &counts.sources {
        for (result, count) in &series.statuses {
            page.sample("commit_statuses_total", &[("source", source.as_str()), ("result", result)], count);
        }
    }
    page.family("hook_requests_total", "counter", "Calls of task webhooks, by what became of them.");
    for (unit, results) in &counts.hooks {
        for (result, count) in results {
            let labels = [("source", unit.source.as_str()), ("unit", &*unit.key), ("result", result)];
            page.sample("hook_requests_total", &labels, count);
        }
    }
    page.family("queue_depth", "gauge", "Passes that wait or are under way.");
    page.sample("queue_depth", &[], counts.waiting);
    page.family("queue_oldest_seconds", "gauge", "For how long the oldest of them has waited.");
    page.sample("queue_oldest_seconds", &[], counts.oldest.as_secs_f64());
}

/// What was counted of push webhooks.
fn webhooks(counts: &Counts, page: &mut Page) {
    let name = "webhook_deliveries_total";
    page.family(name, "counter", "Deliveries to the webhooks of sources, by what they were told.");
    for (source, series) in &counts.sources {
        for (outcome, count) in &series.deliveries {
            page.sample(name, &[("source", source.as_str()), ("outcome", outcome)], count);
        }
    }
    page.family("webhook_missed_total", "counter", "Commits that a poll found and no delivery named.");
    page.each_source(counts, "webhook_missed_total", |series| series.missed);
    let help = "Deliveries that were posted without a right signature, or to no webhook.";
    page.family("webhook_refused_total", "counter", help);
    page.sample("webhook_refused_total", &[], counts.refused);
}

/// A page of the format.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a text cannot fail.
        let _ = write!(self.0, "# HELP kindling_{name} {help}\n# TYPE kindling_{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str("kindling_");
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            self.0.push(if at == 0 { '{' } else { ',' });
            self.0.push_str(label);
            self.0.push_str("=\"");
            for c in text.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn each_source(
        &mut self,
        counts: &Counts,
        name: &str,
        of: impl Fn(&crate::reconcile::metrics::Series) -> u64,
    ) {
        for (source, series) in &counts.sources {
            self.sample(name, &[("source", source.as_str())], of(series));
        }
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], times: &Histogram) {
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (bound, count) in BOUNDS.iter().zip(&times.buckets) {
            below += count;
            let bound = bound.to_string();
            self.sample(&bucket, &[labels, &[("le", bound.as_str())]].concat(), below);
        }
        self.sample(&bucket, &[labels, &[("le", "+Inf")]].concat(), times.count);
        self.sample(&format!("{name}_sum"), labels, times.sum);
        self.sample(&format!("{name}_count"), labels, times.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_leave_its_quotes() {
        let mut page = Page::default();
        page.sample("x", &[("a", "1\"\\\n2"), ("b", "")], 1);
        page.sample("y", &[], 0.5);
        assert_eq!(page.0, "kindling_x{a=\"1\\\"\\\\\\n2\",b=\"\"} 1\nkindling_y 0.5\n");
    }

    #[test]
    fn a_histogram_counts_upwards() {
        let mut times = Histogram::default();
        for ms in [0, 3, 90_000] {
            times.add(std::time::Duration::from_millis(ms));
        }
        let mut page = Page::default();
        page.histogram("t", &[("k", "v")], &times);
        let lines: Vec<&str> = page.0.lines().collect();
        assert_eq!(lines[0], "kindling_t_bucket{k=\"v\",le=\"0.001\"} 1");
        assert_eq!(lines[1], "kindling_t_bucket{k=\"v\",le=\"0.005\"} 2");
        assert_eq!(
            &lines[lines.len() - 3..],
            [
                "kindling_t_bucket{k=\"v\",le=\"+Inf\"} 3",
                "kindling_t_sum{k=\"v\"} 90.003",
                "kindling_t_count{k=\"v\"} 3",
            ]
        );
    }
}
