//! Answers what scripts ask of what their task keeps.

use tokio::sync::mpsc;

use crate::act::KvCall;
use crate::model::id::UnitId;
use crate::model::kv::{KvAnswer, KvKey, KvLimits, KvRequest};
use crate::model::limits::Limits;
use crate::model::time::Timestamp;
use crate::record::{KvSet, Store};
use crate::support::clock::Clock;

use super::core::Live;
use super::runs::chain;

/// Keeps the values of tasks. What is answered is recorded.
#[derive(Clone)]
pub(super) struct Keeper {
    pub store: Store,
    pub clock: Clock,
    pub limits: Live<Limits>,
}

impl Keeper {
    /// Answers the calls of one run of `task`, one after the other, until there are no more.
    pub(super) async fn serve(&self, task: &UnitId, mut calls: mpsc::Receiver<KvCall>) {
        while let Some(KvCall { request, answer }) = calls.recv().await {
            // A script that is gone hears nothing; what it asked is done all the same.
            let _ = answer.send(self.answer(task, request).await);
        }
    }

    async fn answer(&self, task: &UnitId, request: KvRequest) -> Result<KvAnswer, String> {
        let failed = |error| format!("kv: {}", chain(&error));
        match request {
            KvRequest::Get(key) => self.store.kv_get(task, &key).await.map(KvAnswer::Value).map_err(failed),
            KvRequest::Set(key, value) => {
                let limits = self.limits.get().kv;
                if value.len() as u64 > limits.value_bytes {
                    return Err(too_large(&key, value.len(), &limits));
                }
                let now = Timestamp(self.clock.now_ms());
                let set = self.store.kv_set(task, &key, &value, &limits, now).await.map_err(failed)?;
                kept(set, &key, &limits)
            }
            KvRequest::Delete(key) => {
                self.store.kv_delete(task, &key).await.map(KvAnswer::Deleted).map_err(failed)
            }
            KvRequest::List(prefix) => {
                self.store.kv_list(task, &prefix).await.map(KvAnswer::Keys).map_err(failed)
            }
        }
    }
}

fn too_large(key: &KvKey, bytes: usize, limits: &KvLimits) -> String {
    let (key, most) = (key.as_str(), limits.value_bytes);
    format!(
        "kv: the value of `{key}` has {bytes} bytes as JSON, more than the {most} allowed (`limits.kv_value`)"
    )
}

fn kept(set: KvSet, key: &KvKey, limits: &KvLimits) -> Result<KvAnswer, String> {
    let key = key.as_str();
    match set {
        KvSet::Kept => Ok(KvAnswer::Kept),
        KvSet::TooManyKeys => Err(format!(
            "kv: with `{key}` the task would have more than the {} keys allowed (`limits.kv_keys`)",
            limits.keys
        )),
        KvSet::TooManyBytes(bytes) => Err(format!(
            "kv: with `{key}` the task would keep {bytes} bytes, more than the {} allowed (`limits.kv`)",
            limits.task_bytes
        )),
    }
}
