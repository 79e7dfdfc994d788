//! The ledger of deliveries: whoever writes into it at a time is written in one transaction.

use tokio::sync::{mpsc, oneshot};

use crate::act::Target;
use crate::model::delivery::Delivery;
use crate::model::time::Timestamp;
use crate::record::{Noted, Store, StoreError};

use super::announced::GIVEN_UP;
use super::board::Board;
use super::handle::Handle;
use super::runs::chain;

/// Deliveries that one transaction takes at most.
const BATCH: usize = 256;
/// Deliveries that wait for a transaction at most; more wait to wait.
const WAITING: usize = 4096;

type Entry = (Delivery, oneshot::Sender<Result<Noted, String>>);

/// Writes deliveries. Clones are one ledger.
#[derive(Clone, Debug)]
pub struct Ledger(mpsc::Sender<Entry>);

impl Ledger {
    /// A ledger in `store`, which is written to until the last clone is gone.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let (queue, entries) = mpsc::channel(WAITING);
        tokio::spawn(write(store, entries));
        Self(queue)
    }

    /// Records a delivery; it is on the disk when this returns.
    ///
    /// # Errors
    /// Why it could not be.
    pub async fn note(&self, delivery: Delivery) -> Result<Noted, String> {
        let closing = || "the service is ending".to_owned();
        let (reply, answer) = oneshot::channel();
        self.0.send((delivery, reply)).await.map_err(|_| closing())?;
        answer.await.map_err(|_| closing())?
    }
}

/// Shows when the last deliveries came in, as far as they are recorded.
///
/// # Errors
/// The store cannot be read.
pub async fn recall(store: &Store, board: &Board) -> Result<(), StoreError> {
    for (source, at) in store.last_deliveries().await? {
        board.change_webhook(&source, |health| health.last_delivery_at = Some(at));
    }
    Ok(())
}

/// Waits on for the pushes that came in just before the service ended, and whose commits may still have to show.
///
/// # Errors
/// The store cannot be read.
pub async fn wait_on<T: Target>(service: &Handle<T>) -> Result<(), StoreError> {
    let core = service.core();
    let lasts = i64::try_from(GIVEN_UP.as_millis()).unwrap_or(i64::MAX);
    for (source, push) in core.store.pushes_since(Timestamp(core.now().0 - lasts)).await? {
        service.announce(&source, push);
    }
    Ok(())
}

async fn write(store: Store, mut entries: mpsc::Receiver<Entry>) {
    let mut batch = Vec::with_capacity(BATCH);
    while entries.recv_many(&mut batch, BATCH).await > 0 {
        let (deliveries, replies): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let noted = store.put_deliveries(&deliveries).await;
        let failed = noted.as_ref().err().map(|error| chain(error));
        let mut noted = noted.unwrap_or_default().into_iter();
        for reply in replies {
            let answer = noted.next().ok_or_else(|| failed.clone().unwrap_or_default());
            // Whoever asked may be gone.
            let _ = reply.send(answer);
        }
    }
}
