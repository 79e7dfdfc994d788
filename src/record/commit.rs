//! What a pass records, in one transaction.

use serde::Serialize;

use super::error::StoreError;
use super::rows::Recording;
use super::store::Store;
use super::{events, history, outbox, sources, units, versions};

/// Rows travel to SQLite as one JSON text for each statement; it is cut when it is longer than this many bytes, so
/// that recording any number of units takes little memory.
const PIECE_BYTES: usize = 256 << 10;

impl Store {
    /// Records what a pass found and did: all of it becomes visible at once.
    ///
    /// # Errors
    /// It could not be written, or the source of a unit is not recorded; then nothing of it is visible.
    pub async fn commit(&self, recording: Recording) -> Result<(), StoreError> {
        let Recording { at: now, source, removed, units, versions, history, events, telling } = recording;
        let at = self.at("record what a pass did");
        let mut tx = self.begin(at).await?;
        if let Some(source) = &source {
            sources::update(&mut tx, at, source).await?;
        }
        units::remove(&mut tx, &removed, now).await?;
        units::upsert(&mut tx, &units).await?;
        versions::put(&mut tx, &versions, &units, now).await?;
        history::add(&mut tx, &history).await?;
        events::add(&mut tx, &events).await?;
        if let Some(telling) = &telling {
            outbox::put(&mut tx, telling, now).await.map_err(|e| at.sql(e))?;
        }
        tx.commit().await
    }
}

/// Takes rows from the front of `rest` and writes them as one JSON list of bounded length; nothing once there are
/// none left.
pub(super) fn piece<'a, T, D: Serialize>(rest: &mut &'a [T], doc: impl Fn(&'a T) -> D) -> Option<String> {
    if rest.is_empty() {
        return None;
    }
    let mut text = String::from("[");
    while text.len() < PIECE_BYTES
        && let Some((row, others)) = rest.split_first()
    {
        if text.len() > 1 {
            text.push(',');
        }
        // Texts, numbers and lists of them cannot fail to be written.
        text.push_str(&serde_json::to_string(&doc(row)).unwrap_or_default());
        *rest = others;
    }
    text.push(']');
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_all_rows_in_order() {
        let rows: Vec<String> = (0..100).map(|n| format!("{n}").repeat(PIECE_BYTES / 20)).collect();
        let mut rest = &rows[..];
        let mut texts = Vec::new();
        while let Some(text) = piece(&mut rest, |row| row) {
            texts.push(text);
        }
        assert!(texts.len() > 4 && texts.iter().all(|text| text.len() < PIECE_BYTES * 2));
        let read: Vec<String> =
            texts.iter().flat_map(|text| serde_json::from_str::<Vec<String>>(text).unwrap()).collect();
        assert_eq!(read, rows);
    }
}
