//! What tasks keep between their runs.

use sqlx::{query, query_scalar};

use crate::model::id::UnitId;
use crate::model::kv::{KvKey, KvLimits};
use crate::model::time::Timestamp;

use super::docs;
use super::error::StoreError;
use super::store::Store;

/// How a value was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvSet {
    /// It is kept.
    Kept,
    /// The task would keep more keys than it may; nothing changed.
    TooManyKeys,
    /// The task would keep so many bytes, more than it may; nothing changed.
    TooManyBytes(u64),
}

impl Store {
    /// The value of a key: JSON text.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn kv_get(&self, task: &UnitId, key: &KvKey) -> Result<Option<String>, StoreError> {
        let at = self.at("read a value of a task");
        let (task, key) = (task.to_string(), key.as_str());
        let mut conn = self.read(at).await?;
        query_scalar!("SELECT value FROM kv WHERE task = ? AND key = ?", task, key)
            .fetch_optional(&mut *conn)
            .await
            .map_err(|e| at.sql(e))
    }

    /// Keeps `value`, JSON text, as the value of a key, within the limits of the task.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn kv_set(
        &self,
        task: &UnitId,
        key: &KvKey,
        value: &str,
        limits: &KvLimits,
        now: Timestamp,
    ) -> Result<KvSet, StoreError> {
        let at = self.at("keep a value of a task");
        let (task, key) = (task.to_string(), key.as_str());
        let size = (key.len() + value.len()) as u64;
        let mut tx = self.begin(at).await?;
        let old = query_scalar!("SELECT size FROM kv WHERE task = ? AND key = ?", task, key)
            .fetch_optional(&mut *tx)
            .await
            .map_err(|e| at.sql(e))?
            .map(docs::natural);
        let totals = query!("SELECT keys, size FROM kv_totals WHERE task = ?", task)
            .fetch_optional(&mut *tx)
            .await
            .map_err(|e| at.sql(e))?;
        let (keys, bytes) = totals.map_or((0, 0), |row| (docs::natural(row.keys), docs::natural(row.size)));
        let whole = bytes.saturating_sub(old.unwrap_or(0)) + size;
        if old.is_none() && keys >= limits.keys {
            return Ok(KvSet::TooManyKeys);
        }
        // What is there already may always become smaller: limits can change.
        if whole > limits.task_bytes && old.is_none_or(|old| size > old) {
            return Ok(KvSet::TooManyBytes(whole));
        }
        let size = docs::integer(size);
        query!(
            "INSERT INTO kv (task, key, value, size, updated_at) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (task, key) DO UPDATE SET value = excluded.value, size = excluded.size,
                 updated_at = excluded.updated_at",
            task,
            key,
            value,
            size,
            now.0
        )
        .execute(&mut *tx)
        .await
        .map_err(|e| at.sql(e))?;
        tx.commit().await?;
        Ok(KvSet::Kept)
    }

    /// Forgets a key; gives back whether it was there.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn kv_delete(&self, task: &UnitId, key: &KvKey) -> Result<bool, StoreError> {
        let at = self.at("forget a value of a task");
        let (task, key) = (task.to_string(), key.as_str());
        let mut conn = self.write(at).await?;
        let done = query!("DELETE FROM kv WHERE task = ? AND key = ?", task, key)
            .execute(&mut *conn)
            .await
            .map_err(|e| at.sql(e))?;
        Ok(done.rows_affected() > 0)
    }

    /// The keys of a task that begin with `prefix`, in the order of their bytes.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn kv_list(&self, task: &UnitId, prefix: &str) -> Result<Vec<String>, StoreError> {
        let at = self.at("list the values of a task");
        let task = task.to_string();
        let mut conn = self.read(at).await?;
        query_scalar!(
            "SELECT key FROM kv WHERE task = ? AND key >= ? AND substr(key, 1, length(?)) = ? ORDER BY key",
            task,
            prefix,
            prefix,
            prefix
        )
        .fetch_all(&mut *conn)
        .await
        .map_err(|e| at.sql(e))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{AWKWARD, id};
    use super::*;

    const LIMITS: KvLimits = KvLimits { value_bytes: 100, task_bytes: 50, keys: 3 };

    fn key(text: &str) -> KvKey {
        KvKey::new(text).unwrap()
    }

    async fn set(store: &Store, n: u32, name: &str, value: &str) -> KvSet {
        store.kv_set(&id(n), &key(name), value, &LIMITS, Timestamp(1)).await.unwrap()
    }

    #[tokio::test]
    async fn values_come_back_as_they_were_set() {
        let store = Store::in_memory().await.unwrap();
        let text = serde_json::to_string(AWKWARD).unwrap();
        let limits = KvLimits::default();
        store.kv_set(&id(1), &key("a"), &text, &limits, Timestamp(1)).await.unwrap();
        assert_eq!(store.kv_get(&id(1), &key("a")).await.unwrap(), Some(text));
        assert_eq!(set(&store, 1, "a", "1").await, KvSet::Kept);
        assert_eq!(store.kv_get(&id(1), &key("a")).await.unwrap().as_deref(), Some("1"));
        assert_eq!(store.kv_get(&id(2), &key("a")).await.unwrap(), None);
        assert!(store.kv_delete(&id(1), &key("a")).await.unwrap());
        assert!(!store.kv_delete(&id(1), &key("a")).await.unwrap());
        assert_eq!(store.kv_get(&id(1), &key("a")).await.unwrap(), None);
    }

    #[tokio::test]
    async fn keys_are_listed_by_their_exact_beginning() {
        let store = Store::in_memory().await.unwrap();
        let limits = KvLimits::default();
        for name in ["a_1", "ab1", "a%", "A_1", "ä", "b"] {
            store.kv_set(&id(1), &key(name), "0", &limits, Timestamp(1)).await.unwrap();
        }
        store.kv_set(&id(2), &key("a_other"), "0", &limits, Timestamp(1)).await.unwrap();
        let list = |prefix: &'static str| async { store.kv_list(&id(1), prefix).await.unwrap() };
        assert_eq!(list("").await, ["A_1", "a%", "a_1", "ab1", "b", "ä"]);
        assert_eq!(list("a_").await, ["a_1"]);
        assert_eq!(list("a%").await, ["a%"]);
        assert_eq!(list("ä").await, ["ä"]);
        assert!(list("zz").await.is_empty());
    }

    #[tokio::test]
    async fn limits_hold_for_each_task_and_count_what_is_replaced() {
        let store = Store::in_memory().await.unwrap();
        let large = "1".repeat(30);
        assert_eq!(set(&store, 1, "a", &large).await, KvSet::Kept);
        assert_eq!(set(&store, 1, "b", &large).await, KvSet::TooManyBytes(62));
        assert_eq!(store.kv_get(&id(1), &key("b")).await.unwrap(), None);
        assert_eq!(set(&store, 2, "b", &large).await, KvSet::Kept, "another task");
        assert_eq!(set(&store, 1, "a", &"1".repeat(49)).await, KvSet::Kept, "it replaces what counted");
        assert_eq!(set(&store, 1, "a", &"1".repeat(50)).await, KvSet::TooManyBytes(51));
        assert_eq!(set(&store, 1, "a", "1").await, KvSet::Kept);
        assert_eq!(set(&store, 1, "b", "1").await, KvSet::Kept);
        assert_eq!(set(&store, 1, "c", "1").await, KvSet::Kept);
        assert_eq!(set(&store, 1, "d", "1").await, KvSet::TooManyKeys);
        assert_eq!(set(&store, 1, "c", "2").await, KvSet::Kept);
        assert!(store.kv_delete(&id(1), &key("a")).await.unwrap());
        assert_eq!(set(&store, 1, "d", "1").await, KvSet::Kept);
        // What is more than a limit that came later can still shrink.
        let less = KvLimits { task_bytes: 2, ..LIMITS };
        let shrunk = store.kv_set(&id(2), &key("b"), "12345", &less, Timestamp(1)).await.unwrap();
        assert_eq!(shrunk, KvSet::Kept);
    }
}
