//! The ledger: deliveries of push webhooks.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use sqlx::{SqliteConnection, query, query_as, query_scalar};

use crate::model::delivery::{self, Announcement, Delivery, LedgerRow, Provider, Verdict, Via};
use crate::model::hash::ContentHash;
use crate::model::id::SourceName;
use crate::model::source::Revision;
use crate::model::time::Timestamp;

use super::docs;
use super::error::{BoxError, StoreError};
use super::store::Store;

/// What recording a delivery came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is new.
    New {
        /// Its row.
        number: i64,
        /// Whether the same body had come before under another id.
        is_repeat: bool,
    },
    /// One of its id is there.
    Duplicate {
        /// That one's row.
        number: i64,
    },
}

type Key<'a> = (&'a str, &'a str, &'a str);

fn key(delivery: &Delivery) -> Key<'_> {
    (delivery.source.as_str(), delivery.provider.as_str(), &delivery.id)
}

impl Store {
    /// Records deliveries in one transaction; answers in their order.
    ///
    /// # Errors
    /// They could not be written; then none of them is there.
    pub async fn put_deliveries(&self, deliveries: &[Delivery]) -> Result<Vec<Noted>, StoreError> {
        let at = self.at("record deliveries");
        let (mut ids, mut bodies) = (HashSet::new(), HashSet::new());
        let docs: Vec<Doc<'_>> = deliveries
            .iter()
            .filter(|delivery| ids.insert(key(delivery)))
            .map(|delivery| Doc::new(delivery, !bodies.insert((&delivery.source, delivery.body))))
            .collect();
        let rows = serde_json::to_string(&docs).map_err(|e| at.other(e))?;
        let mut tx = self.begin(at).await?;
        let noted = insert(&mut tx, rows).await.map_err(|e| at.sql(e))?;
        tx.commit().await?;
        let mut by_key: HashMap<Key<'_>, Noted> = HashMap::new();
        for row in &noted {
            by_key.insert((&row.source, &row.provider, &row.id), row.noted());
        }
        let mut answers = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let Some(known) = by_key.get_mut(&key(delivery)) else { break };
            answers.push(*known);
            // A second one in this batch is a duplicate of the first.
            if let Noted::New { number, .. } = *known {
                *known = Noted::Duplicate { number };
            }
        }
        if answers.len() == deliveries.len() {
            Ok(answers)
        } else {
            Err(at.other("a delivery was not recorded"))
        }
    }

    /// The newest deliveries, `limit` at most, of one source or all; the newest comes first.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn deliveries(
        &self,
        source: Option<&SourceName>,
        limit: u32,
    ) -> Result<Vec<LedgerRow>, StoreError> {
        let at = self.at("read the deliveries");
        let mut conn = self.read(at).await?;
        let source = source.map(SourceName::as_str);
        let rows = query_as!(
            Row,
            "SELECT number, source, provider, via, id, event, reference, revision, body, verdict, reason, repeat,
                    duplicates, received_at
             FROM deliveries WHERE source = coalesce(?, source) ORDER BY number DESC LIMIT ?",
            source,
            limit
        )
        .fetch_all(&mut *conn)
        .await
        .map_err(|e| at.sql(e))?;
        rows.into_iter().map(|row| row.try_into().map_err(|e: BoxError| at.corrupt(e))).collect()
    }

    /// One delivery.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn delivery(&self, number: i64) -> Result<Option<LedgerRow>, StoreError> {
        let at = self.at("read a delivery");
        let mut conn = self.read(at).await?;
        let row = query_as!(
            Row,
            "SELECT number, source, provider, via, id, event, reference, revision, body, verdict, reason, repeat,
                    duplicates, received_at
             FROM deliveries WHERE number = ?",
            number
        )
        .fetch_optional(&mut *conn)
        .await
        .map_err(|e| at.sql(e))?;
        row.map(|row| row.try_into().map_err(|e: BoxError| at.corrupt(e))).transpose()
    }

    /// Counts more deliveries that the row of this id speaks for.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn count_deliveries(&self, source: &SourceName, id: &str, more: u64) -> Result<(), StoreError> {
        let at = self.at("count deliveries");
        let (source, more) = (source.as_str(), docs::integer(more));
        let mut conn = self.write(at).await?;
        query!(
            "UPDATE deliveries SET duplicates = duplicates + ? WHERE source = ? AND id = ?",
            more,
            source,
            id
        )
        .execute(&mut *conn)
        .await
        .map_err(|e| at.sql(e))?;
        Ok(())
    }

    /// Whether this body came to the source before, under whatever id.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn has_delivered(&self, source: &SourceName, body: &ContentHash) -> Result<bool, StoreError> {
        let at = self.at("look for a delivery");
        let (source, body) = (source.as_str(), body.to_string());
        let mut conn = self.read(at).await?;
        let found = query_scalar!(
            "SELECT EXISTS (SELECT 1 FROM deliveries WHERE source = ? AND body = ? AND verdict <> 'relay-altered')",
            source,
            body
        );
        Ok(found.fetch_one(&mut *conn).await.map_err(|e| at.sql(e))? != 0)
    }

    /// The accepted pushes that came in at `since` or later and named a commit, the oldest first.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn pushes_since(
        &self,
        since: Timestamp,
    ) -> Result<Vec<(SourceName, Announcement)>, StoreError> {
        let at = self.at("read the last pushes");
        let mut conn = self.read(at).await?;
        let rows = query!(
            r#"SELECT source, id, revision AS "revision!", received_at FROM deliveries
               WHERE received_at >= ? AND verdict = 'accepted' AND revision IS NOT NULL ORDER BY number"#,
            since.0
        )
        .fetch_all(&mut *conn)
        .await
        .map_err(|e| at.sql(e))?;
        let read = |source: &str, id: &str, revision: &str, received_at| {
            let push = Announcement {
                commit: Some(Revision::new(revision)),
                root: None,
                deliver: None,
                received_at: Timestamp(received_at),
                is_proof: true,
                detail: delivery::detail(id),
            };
            Ok((SourceName::new(source)?, push))
        };
        rows.iter()
            .map(|row| read(&row.source, &row.id, &row.revision, row.received_at))
            .collect::<Result<_, BoxError>>()
            .map_err(|error| at.corrupt(error))
    }

    /// When the last push came in that concerned each source.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn last_deliveries(&self) -> Result<Vec<(SourceName, Timestamp)>, StoreError> {
        let at = self.at("read the last deliveries");
        let mut conn = self.read(at).await?;
        let rows = query!(
            r#"SELECT source AS "source!", max(received_at) AS "received_at!: i64" FROM deliveries
               WHERE verdict = 'accepted' GROUP BY source"#
        )
        .fetch_all(&mut *conn)
        .await
        .map_err(|e| at.sql(e))?;
        let read = |source: &str, at: i64| Ok((SourceName::new(source)?, Timestamp(at)));
        rows.iter()
            .map(|row| read(&row.source, row.received_at).map_err(|e: BoxError| at.corrupt(e)))
            .collect()
    }
}

async fn insert(conn: &mut SqliteConnection, rows: String) -> Result<Vec<NotedRow>, sqlx::Error> {
    query_as!(
        NotedRow,
        "INSERT INTO deliveries (source, provider, via, id, event, reference, revision, body, verdict, reason,
                                 repeat, received_at)
         SELECT value ->> 'source', value ->> 'provider', value ->> 'via', value ->> 'id', value ->> 'event',
             value ->> 'reference', value ->> 'revision', value ->> 'body', value ->> 'verdict',
             value ->> 'reason',
             value ->> 'repeat' OR EXISTS (
                 SELECT 1 FROM deliveries AS known
                 WHERE known.source = value ->> 'source' AND known.body = value ->> 'body'
                     AND known.verdict <> 'relay-altered'),
             value ->> 'received_at'
         FROM jsonb_each(?) WHERE true
         ON CONFLICT (source, provider, id) DO UPDATE SET duplicates = duplicates + 1
         RETURNING number, source, provider, id, repeat, duplicates",
        rows
    )
    .fetch_all(conn)
    .await
}

#[derive(Serialize)]
struct Doc<'a> {
    source: &'a str,
    provider: &'a str,
    via: &'a str,
    id: &'a str,
    event: &'a str,
    reference: Option<&'a str>,
    revision: Option<&'a str>,
    body: String,
    verdict: &'a str,
    reason: &'a str,
    repeat: u8,
    received_at: i64,
}

impl<'a> Doc<'a> {
    fn new(delivery: &'a Delivery, is_repeat: bool) -> Self {
        Self {
            source: delivery.source.as_str(),
            provider: delivery.provider.as_str(),
            via: delivery.via.as_str(),
            id: &delivery.id,
            event: &delivery.event,
            reference: delivery.reference.as_deref(),
            revision: delivery.commit.as_ref().map(Revision::as_str),
            body: delivery.body.to_string(),
            verdict: delivery.verdict.as_str(),
            reason: &delivery.reason,
            repeat: u8::from(is_repeat),
            received_at: delivery.received_at.0,
        }
    }
}

struct NotedRow {
    number: i64,
    source: String,
    provider: String,
    id: String,
    repeat: i64,
    duplicates: i64,
}

impl NotedRow {
    fn noted(&self) -> Noted {
        let number = self.number;
        if self.duplicates > 0 {
            Noted::Duplicate { number }
        } else {
            Noted::New { number, is_repeat: self.repeat != 0 }
        }
    }
}

struct Row {
    number: i64,
    source: String,
    provider: String,
    via: String,
    id: String,
    event: String,
    reference: Option<String>,
    revision: Option<String>,
    body: String,
    verdict: String,
    reason: String,
    repeat: i64,
    duplicates: i64,
    received_at: i64,
}

impl TryFrom<Row> for LedgerRow {
    type Error = BoxError;

    fn try_from(row: Row) -> Result<Self, BoxError> {
        let delivery = Delivery {
            source: SourceName::new(&row.source)?,
            provider: docs::known("provider of a delivery", &row.provider, Provider::parse)?,
            via: docs::known("way of a delivery", &row.via, Via::parse)?,
            id: row.id,
            event: row.event,
            reference: row.reference,
            commit: row.revision.as_deref().map(Revision::new),
            body: docs::known("body of a delivery", &row.body, |text| text.parse().ok())?,
            verdict: docs::known("verdict on a delivery", &row.verdict, Verdict::parse)?,
            reason: row.reason,
            received_at: Timestamp(row.received_at),
        };
        Ok(Self {
            number: row.number,
            delivery,
            is_repeat: row.repeat != 0,
            duplicates: docs::natural(row.duplicates),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::retention::{Kept, Retention, days};

    const DAY: i64 = 24 * 60 * 60 * 1000;

    fn delivery(id: &str, body: u8, at: i64) -> Delivery {
        Delivery {
            source: SourceName::new("s").unwrap(),
            provider: Provider::GitHub,
            via: Via::Direct,
            id: id.into(),
            event: "push".into(),
            reference: Some("refs/heads/main".into()),
            commit: Some(Revision::new("c1")),
            body: ContentHash::new([body; 32]),
            verdict: Verdict::Accepted,
            reason: String::new(),
            received_at: Timestamp(at),
        }
    }

    async fn ids(store: &Store) -> Vec<String> {
        let rows = store.deliveries(None, u32::MAX).await.unwrap();
        rows.into_iter().map(|row| row.delivery.id).collect()
    }

    #[tokio::test]
    async fn an_id_counts_once_and_a_body_that_comes_again_is_a_repeat() {
        let store = Store::in_memory().await.unwrap();
        let new = |number, is_repeat| Noted::New { number, is_repeat };
        let batch = [delivery("a", 1, 1), delivery("b", 1, 2), delivery("a", 1, 3), delivery("c", 2, 4)];
        let noted = store.put_deliveries(&batch).await.unwrap();
        assert_eq!(noted, [new(1, false), new(2, true), Noted::Duplicate { number: 1 }, new(3, false)]);
        let again = [delivery("a", 1, 5), delivery("d", 2, 6)];
        let noted = store.put_deliveries(&again).await.unwrap();
        assert_eq!(noted[0], Noted::Duplicate { number: 1 });
        assert!(matches!(noted[1], Noted::New { is_repeat: true, .. }), "{noted:?}");
        // Another provider and another source have ids of their own.
        let gitea = Delivery { provider: Provider::Gitea, ..delivery("a", 9, 7) };
        let other = Delivery { source: SourceName::new("t").unwrap(), ..delivery("a", 1, 8) };
        let noted = store.put_deliveries(&[gitea.clone(), other]).await.unwrap();
        assert!(noted.iter().all(|one| matches!(one, Noted::New { is_repeat: false, .. })), "{noted:?}");
        let rows = store.deliveries(Some(&SourceName::new("s").unwrap()), 10).await.unwrap();
        assert_eq!(rows[0].delivery, gitea);
        let first = rows.last().unwrap();
        assert_eq!(
            (first.delivery.clone(), first.duplicates, first.is_repeat),
            (delivery("a", 1, 1), 1, false)
        );
        assert_eq!(store.delivery(first.number).await.unwrap().as_ref(), Some(first));
        assert_eq!(store.delivery(999).await.unwrap(), None);
        assert_eq!(store.put_deliveries(&[]).await.unwrap(), []);
    }

    #[tokio::test]
    async fn what_was_altered_is_counted_and_makes_nothing_a_repeat() {
        let store = Store::in_memory().await.unwrap();
        let source = SourceName::new("s").unwrap();
        let altered = Delivery {
            via: Via::Relay,
            verdict: Verdict::RelayAltered,
            reason: "its signature does not fit".into(),
            ..delivery("altered-1", 1, 5)
        };
        store.put_deliveries(std::slice::from_ref(&altered)).await.unwrap();
        store.count_deliveries(&source, "altered-1", 41).await.unwrap();
        assert!(!store.has_delivered(&source, &altered.body).await.unwrap());
        let noted = store.put_deliveries(&[delivery("a", 1, 4)]).await.unwrap();
        assert_eq!(noted, [Noted::New { number: 2, is_repeat: false }]);
        assert!(store.has_delivered(&source, &altered.body).await.unwrap());
        let row = store.delivery(1).await.unwrap().unwrap();
        assert_eq!((row.delivery, row.duplicates), (altered, 41));
        assert_eq!(store.last_deliveries().await.unwrap(), [(source, Timestamp(4))]);
    }

    #[tokio::test]
    async fn what_was_altered_does_not_push_out_what_was_not() {
        let store = Store::in_memory().await.unwrap();
        let mut all = vec![delivery("a", 1, 1), delivery("b", 2, 2)];
        let altered = |n: i64| Delivery {
            verdict: Verdict::RelayAltered,
            ..delivery(&format!("altered-{n}"), 3, 3 + n)
        };
        all.extend((0..20).map(altered));
        store.put_deliveries(&all).await.unwrap();
        let deliveries = Kept { count: 2, ..Retention::default().deliveries };
        let keep = Retention { deliveries, ..Retention::default() };
        store.prune(&keep, Timestamp(0)).await.unwrap();
        assert_eq!(ids(&store).await, ["altered-19", "altered-18", "b", "a"]);
    }

    #[tokio::test]
    async fn what_is_old_or_too_much_goes() {
        let store = Store::in_memory().await.unwrap();
        let all: Vec<_> = (0..10).map(|day| delivery(&format!("{day}"), 1, day * DAY)).collect();
        store.put_deliveries(&all).await.unwrap();
        let keep = Retention { deliveries: Kept { age: days(5), count: 10_000 }, ..Retention::default() };
        store.prune(&keep, Timestamp(9 * DAY)).await.unwrap();
        assert_eq!(ids(&store).await, ["9", "8", "7", "6", "5", "4"]);
        let keep = Retention { deliveries: Kept { age: days(30), count: 2 }, ..Retention::default() };
        store.prune(&keep, Timestamp(9 * DAY)).await.unwrap();
        assert_eq!(ids(&store).await, ["9", "8"]);
    }
}
