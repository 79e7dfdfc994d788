//! `/metrics`: the text format, and what is dropped.

use std::collections::{BTreeMap, BTreeSet};

use crate::service::client::Client;

use super::{service, settled};

/// The page, checked line by line: every sample belongs to a family that was announced, and stands once.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let (mut families, mut samples) = (BTreeMap::new(), BTreeMap::new());
    let mut helped = BTreeSet::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(helped.contains(name) && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|end| name.strip_suffix(end))
                .find(|family| families.get(*family).is_some_and(|kind| kind == "histogram"));
            let family = family.unwrap_or(name);
            assert!(families.contains_key(family), "{line}");
            assert!(name.starts_with("kindling_"), "{line}");
            let value: f64 = value.parse().unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    samples
}

async fn figures(client: &Client) -> BTreeMap<String, f64> {
    let answer = client.call("GET", "/metrics", None).await.unwrap();
    assert_eq!(answer.status, 200);
    samples(&answer.body)
}

/// The value of the one series that begins so.
fn one(samples: &BTreeMap<String, f64>, start: &str) -> f64 {
    let found: Vec<_> = samples.iter().filter(|(name, _)| name.starts_with(start)).collect();
    assert_eq!(found.len(), 1, "{start}: {found:?}");
    *found[0].1
}

#[tokio::test]
async fn the_page_is_well_formed_and_counts() {
    let mut service = service();
    let client = settled(&mut service).await;
    client.run("hello").await;
    let before = figures(&client).await;
    assert_eq!(one(&before, "kindling_build_info{version="), 1.0);
    assert_eq!(one(&before, "kindling_runs_total{source=\"team\",status=\"succeeded\"}"), 1.0);
    assert_eq!(one(&before, "kindling_resource_info{source=\"team\",unit=\"hello\",ready=\"True\""), 1.0);
    assert_eq!(one(&before, "kindling_resource_info{source=\"team\",unit=\"broken\",ready=\"False\""), 1.0);
    let synced = "kindling_sync_total{source=\"team\",action=\"sync\",result=\"succeeded\"}";
    service.task("tasks/hello", "echo other\n");
    client.reconcile().await;
    let after = figures(&client).await;
    assert_eq!(one(&after, synced), one(&before, synced) + 1.0);
    let passes = "kindling_reconcile_duration_seconds_count{source=\"team\",kind=\"local\"}";
    assert!(one(&after, passes) > one(&before, passes));
    assert!(one(&after, "kindling_push_to_live_seconds_count{phase=\"act\"}") >= 3.0);
    assert_eq!(one(&after, "kindling_queue_depth"), 0.0);
    assert_eq!(one(&after, "kindling_suspended{source=\"team\"}"), 0.0);
    assert!(one(&after, "kindling_last_success_timestamp_seconds{source=\"team\"}") > 1.7e9);
}

#[tokio::test]
async fn what_is_gone_has_no_series() {
    let mut service = service();
    service.task("other/one", "echo one\n");
    let client = service.start().await;
    let add = serde_json::json!({ "name": "more", "local": service.root().join("other") });
    client.post("/api/v1/sources", add).await;
    assert!(figures(&client).await.keys().any(|name| name.contains("source=\"more\",unit=\"one\"")));
    // Nothing that a caller sends becomes a label.
    client.call("GET", "/api/v1/units?name=evil-label", None).await.unwrap();
    std::fs::remove_dir_all(service.root().join("tasks/hello")).unwrap();
    client.reconcile().await;
    client.call("DELETE", "/api/v1/sources/more", None).await.unwrap();
    let left = figures(&client).await;
    for gone in ["unit=\"hello\"", "source=\"more\"", "evil-label"] {
        assert!(!left.keys().any(|name| name.contains(gone)), "{gone} is still there: {left:?}");
    }
}
