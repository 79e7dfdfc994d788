//! The stream of events, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as AxumState;
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::act::Target;
use crate::model::event::Event;
use crate::model::time::Timestamp;

use super::State;
use super::error::Failure;
use super::given::Params;
use super::wire::EventView;

/// Older events that one call may ask for.
const MOST_OLDER: u32 = 10_000;
/// A comment line this often shows both ends that the other is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Deserialize, JsonSchema)]
pub(super) struct Since {
    /// Older events first, from this time on, such as 2026-01-31T12:00:00Z.
    since: Option<String>,
}

/// Everything from now on; with `since` older events first. A listener that falls too far behind is cut off and has
/// to come again with `since`: it is never shown a gap as if it were none.
pub(super) async fn stream<T: Target>(
    AxumState(api): State<T>,
    Params(query): Params<Since>,
) -> Result<Sse<impl Stream<Item = Result<Frame, Infallible>>>, Failure> {
    let news = api.service.core().events.listen();
    let older = match query.since {
        None => Vec::new(),
        Some(text) => {
            let since = Timestamp::parse(&text)
                .ok_or_else(|| Failure::invalid("`since` is a time such as 2026-01-31T12:00:00Z"))?;
            api.service.core().store.events_since(since, MOST_OLDER).await?
        }
    };
    let feed = Feed { queue: older.into(), news, closing: api.closing.clone() };
    Ok(answer(stream::unfold(feed, next)))
}

/// Frames as an answer that stays open.
pub(super) fn answer<S>(frames: S) -> Sse<impl Stream<Item = Result<Frame, Infallible>>>
where
    S: Stream<Item = Result<Frame, Infallible>> + Send + 'static,
{
    Sse::new(frames).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

/// A frame that holds one value as JSON.
pub(super) fn frame(value: &impl Serialize) -> Frame {
    // Our own types cannot fail to be written.
    Frame::default().data(serde_json::to_string(value).unwrap_or_default())
}

struct Feed {
    queue: VecDeque<Event>,
    news: Receiver<Arc<[Event]>>,
    closing: CancellationToken,
}

async fn next(mut feed: Feed) -> Option<(Result<Frame, Infallible>, Feed)> {
    while feed.queue.is_empty() {
        // Cancel safe: both branches keep their value.
        let batch = tokio::select! {
            batch = feed.news.recv() => batch,
            () = feed.closing.cancelled() => return None,
        };
        match batch {
            Ok(batch) => feed.queue.extend(batch.iter().cloned()),
            Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
        }
    }
    let event = feed.queue.pop_front()?;
    Some((Ok(frame(&EventView::from(&event))), feed))
}
