use super::*;
use crate::model::retention::Retention;
use crate::plan::status::{removed, superseded};
use crate::record::Recording;

const API: &str = "https://api.github.com";
const DAY: i64 = 24 * 60 * 60 * 1000;

fn telling(commit: &str, state: CommitState, summary: &str) -> Telling {
    Telling {
        place: CommitPlace {
            source: SourceName::new("s").unwrap(),
            repository: Repository::parse("team/jobs").unwrap(),
            revision: Revision::new(commit),
        },
        api: API.into(),
        tell: Tell::Say(Verdict::new(state, summary)),
        is_first: false,
        superseded: superseded(commit),
    }
}

async fn tell(store: &Store, telling: Telling, at: i64) {
    store.tell(&[telling], Timestamp(at)).await.unwrap();
}

/// What is due, as `COMMIT STATE SUMMARY`.
async fn due(store: &Store, at: i64) -> Vec<String> {
    let rows = store.due_tellings(API, Timestamp(at), 10).await.unwrap();
    let line = |row: &OutboxRow| {
        format!("{} {} {}", row.place.revision, row.verdict.state.as_str(), row.verdict.summary)
    };
    rows.iter().map(line).collect()
}

async fn said(store: &Store, said: Said, at: i64) {
    for row in store.due_tellings(API, Timestamp(at), 10).await.unwrap() {
        store.told(&row, &said, Timestamp(at)).await.unwrap();
    }
}

#[tokio::test]
async fn the_newest_state_of_a_commit_is_said_once() {
    let store = Store::in_memory().await.unwrap();
    tell(&store, telling("a", CommitState::Pending, "3 units to deploy"), 1).await;
    tell(&store, telling("a", CommitState::Success, "3 units live"), 2).await;
    assert_eq!(due(&store, 2).await, ["a success 3 units live"]);
    assert_eq!(store.next_telling(API).await.unwrap(), Some(Timestamp(2)));
    assert_eq!(store.next_telling("https://other.example").await.unwrap(), None);
    said(&store, Said::Yes, 3).await;
    assert!(due(&store, 9).await.is_empty());
    // The same again is no news, also when it took another time; nor is what comes back to what was said.
    let mut same = telling("a", CommitState::Success, "3 units live");
    same.tell = Tell::Say(Verdict {
        times: "fetch 1 ms".into(),
        ..Verdict::new(CommitState::Success, "3 units live")
    });
    tell(&store, same, 4).await;
    assert!(due(&store, 9).await.is_empty());
    tell(&store, telling("a", CommitState::Failure, "1 failed"), 5).await;
    assert_eq!(due(&store, 9).await, ["a failure 1 failed"]);
    tell(&store, telling("a", CommitState::Success, "3 units live"), 6).await;
    assert!(due(&store, 9).await.is_empty());
    let told = store.told_of(&SourceName::new("s").unwrap()).await.unwrap();
    assert_eq!(
        told,
        Told { last: Some((Revision::new("a"), CommitState::Success, Timestamp(3))), wrong: None }
    );
}

#[tokio::test]
async fn what_begins_stands_back_and_what_was_pending_is_ended_by_the_next() {
    let store = Store::in_memory().await.unwrap();
    tell(&store, telling("a", CommitState::Pending, "1 under way"), 1).await;
    said(&store, Said::Yes, 1).await;
    // How far it is, is no news while it is under way.
    tell(&store, telling("a", CommitState::Pending, "2 under way"), 1).await;
    assert!(due(&store, 9).await.is_empty());
    tell(&store, telling("b", CommitState::Success, "live"), 2).await;
    assert_eq!(due(&store, 9).await, ["a error superseded by b before it was live", "b success live"]);
    said(&store, Said::Yes, 2).await;
    let first = Telling { is_first: true, ..telling("b", CommitState::Pending, "2 units to deploy") };
    tell(&store, first, 3).await;
    assert!(due(&store, 9).await.is_empty(), "it is live");
    // Back to the first one.
    tell(&store, telling("a", CommitState::Success, "live"), 4).await;
    assert_eq!(due(&store, 9).await, ["a success live"]);
    said(&store, Said::Yes, 4).await;
    tell(&store, telling("c", CommitState::Pending, "1 under way"), 5).await;
    tell(&store, Telling { tell: removed(), ..telling("c", CommitState::Pending, "") }, 6).await;
    assert_eq!(due(&store, 9).await, ["c error its source was removed before it was live"]);
}

#[tokio::test]
async fn an_attempt_that_fails_says_nothing_of_what_was_decided_meanwhile() {
    let store = Store::in_memory().await.unwrap();
    tell(&store, telling("a", CommitState::Pending, "p"), 1).await;
    let row = store.due_tellings(API, Timestamp(1), 1).await.unwrap().remove(0);
    tell(&store, telling("a", CommitState::Success, "live"), 2).await;
    store.told(&row, &Said::Later("it answered 500".into(), Timestamp(90)), Timestamp(3)).await.unwrap();
    assert_eq!(due(&store, 3).await, ["a success live"]);
    store.told(&row, &Said::Yes, Timestamp(3)).await.unwrap();
    assert_eq!(due(&store, 3).await, ["a success live"], "it was said that it is pending");
    said(&store, Said::Later("it answered 500".into(), Timestamp(90)), 3).await;
    assert!(due(&store, 89).await.is_empty());
    let row = store.due_tellings(API, Timestamp(90), 1).await.unwrap().remove(0);
    assert_eq!((row.attempts, row.error.as_str()), (1, "it answered 500"));
    assert_eq!(row.posted, Some((CommitState::Pending, Timestamp(3))));
    said(&store, Said::Never("it answered 403".into()), 90).await;
    assert!(due(&store, DAY).await.is_empty());
    let told = store.told_of(&SourceName::new("s").unwrap()).await.unwrap();
    assert_eq!(told.wrong, Some((Revision::new("a"), "it answered 403".into())));
    store.tell_again(API, Timestamp(3), Timestamp(100)).await.unwrap();
    assert!(due(&store, DAY).await.is_empty(), "it is older");
    store.tell_again(API, Timestamp(2), Timestamp(100)).await.unwrap();
    assert_eq!(due(&store, 100).await, ["a success live"]);
}

#[tokio::test]
async fn it_is_recorded_with_the_pass_and_kept_for_a_while() {
    let store = Store::in_memory().await.unwrap();
    for (commit, at) in [("a", 1), ("b", 5 * DAY), ("c", 6 * DAY)] {
        let telling = Some(telling(commit, CommitState::Success, "live"));
        store.commit(Recording { telling, ..Recording::new(Timestamp(at)) }).await.unwrap();
    }
    let keep = Retention::default();
    store.prune(&keep, Timestamp(34 * DAY)).await.unwrap();
    assert_eq!(due(&store, 34 * DAY).await, ["b success live", "c success live"]);
    store.prune(&keep, Timestamp(90 * DAY)).await.unwrap();
    assert_eq!(due(&store, 90 * DAY).await, ["c success live"], "the newest stays");
}

#[tokio::test]
async fn the_newest_commit_is_shown_whatever_was_posted_last() {
    let store = Store::in_memory().await.unwrap();
    let source = SourceName::new("s").unwrap();
    let last = async || store.told_of(&source).await.unwrap().last.map(|(commit, ..)| commit.to_string());
    tell(&store, telling("a", CommitState::Success, "live"), 1).await;
    tell(&store, telling("b", CommitState::Success, "live"), 2).await;
    let mut rows = store.due_tellings(API, Timestamp(9), 10).await.unwrap();
    rows.reverse();
    for (row, at) in rows.iter().zip(10..) {
        store.told(row, &Said::Yes, Timestamp(at)).await.unwrap();
        assert_eq!(last().await.as_deref(), Some("b"));
    }
    // Back to the first one, while a third is pending: what is overtaken is changed at the same moment.
    tell(&store, telling("c", CommitState::Pending, "1 under way"), 20).await;
    said(&store, Said::Yes, 21).await;
    assert_eq!(last().await.as_deref(), Some("c"));
    tell(&store, telling("a", CommitState::Failure, "1 failed"), 30).await;
    said(&store, Said::Yes, 31).await;
    assert_eq!(last().await.as_deref(), Some("a"));
}

#[tokio::test]
async fn what_waits_for_its_host_says_so_until_it_is_said() {
    let store = Store::in_memory().await.unwrap();
    let source = SourceName::new("s").unwrap();
    let wrong = async || store.told_of(&source).await.unwrap().wrong.map(|(_, why)| why);
    tell(&store, telling("a", CommitState::Success, "live"), 1).await;
    said(&store, Said::Later("it answered 429".into(), Timestamp(90)), 1).await;
    assert!(store.wait_for_host(API, "it waits").await.unwrap().is_empty(), "its own words stand");
    assert_eq!(wrong().await.as_deref(), Some("it answered 429"));
    tell(&store, telling("b", CommitState::Success, "live"), 2).await;
    assert!(store.wait_for_host("https://other.example", "it waits").await.unwrap().is_empty());
    assert_eq!(wrong().await, None);
    assert_eq!(store.wait_for_host(API, "it waits").await.unwrap(), [source.clone()].into());
    assert_eq!(wrong().await.as_deref(), Some("it waits"));
    assert!(store.wait_for_host(API, "it waits").await.unwrap().is_empty());
    said(&store, Said::Yes, 91).await;
    assert_eq!(wrong().await, None);
}
