//! A durable store as a sink: what a node collects is confirmed once it is kept.

use std::future::Future;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use crate::batch::Batch;
use crate::lease::{Lease, Receipt};
use crate::sink::{Event, Sink, SinkEnd};

/// Batches that may be on their way into the store.
const IN_FLIGHT_MAX: usize = 64;

/// Keeps batches.
pub trait Store: Send + Sync + 'static {
    /// Keeps `batch`; when this returns it is durable, or was before.
    fn store(&self, batch: &Batch) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Why a batch is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It never will be: set it aside.
    #[error("{0}")]
    Refused(String),
    /// Not now, nor any other: give them back.
    #[error("{0}")]
    Closed(String),
}

/// Puts batches into a [`Store`].
pub struct StoreSink<S> {
    store: Arc<S>,
    in_flight: FuturesUnordered<BoxFuture<'static, (Lease, Result<(), StoreError>)>>,
}

impl<S: Store> StoreSink<S> {
    /// A sink that is open from now on.
    pub fn new(store: Arc<S>) -> Self {
        Self { store, in_flight: FuturesUnordered::new() }
    }
}

impl<S: Store> Sink for StoreSink<S> {
    async fn send(&mut self, lease: Lease) -> Result<(), SinkEnd> {
        let store = Arc::clone(&self.store);
        self.in_flight.push(Box::pin(async move {
            let stored = store.store(lease.batch()).await;
            (lease, stored)
        }));
        Ok(())
    }

    async fn event(&mut self) -> Result<Event, SinkEnd> {
        match self.in_flight.next().await {
            Some((lease, Ok(()))) => {
                let receipt = Receipt::of(&lease);
                Ok(Event::Confirmed(lease, receipt))
            }
            Some((lease, Err(StoreError::Refused(reason)))) => Ok(Event::Refused(lease, reason)),
            Some((_, Err(StoreError::Closed(reason)))) => Err(SinkEnd::Closed(reason)),
            None => std::future::pending().await,
        }
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < IN_FLIGHT_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Notify;

    use super::*;
    use crate::lease::{LeaseKey, Returns};

    #[derive(Default)]
    struct Source(Mutex<Vec<u64>>);

    impl Returns for Source {
        fn give_back(&self, key: LeaseKey) {
            self.0.lock().unwrap().push(key.0);
        }
    }

    /// Keeps what has one line, once it is told to.
    struct OneLine {
        go: Notify,
    }

    impl Store for OneLine {
        async fn store(&self, batch: &Batch) -> Result<(), StoreError> {
            self.go.notified().await;
            match batch.lines() {
                1 => Ok(()),
                2 => Err(StoreError::Refused("two lines".to_owned())),
                _ => Err(StoreError::Closed("the spool is full".to_owned())),
            }
        }
    }

    fn lease(source: &Arc<Source>, key: u64, lines: u32) -> Lease {
        let part = crate::Part {
            seq: key,
            lines,
            raw_bytes: 6,
            body: bytes::Bytes::from_static(b"a 1 1\n"),
            plain: None,
        };
        let batch =
            Batch { label: None, encoding: crate::Encoding::Plain, parts: vec![part], accepted_ms: 0..=0 };
        Lease::new(LeaseKey(key), batch, source.clone())
    }

    #[tokio::test]
    async fn only_what_is_kept_is_confirmed() {
        let (source, store) = (Arc::<Source>::default(), Arc::new(OneLine { go: Notify::new() }));
        let mut sink = StoreSink::new(Arc::clone(&store));
        sink.send(lease(&source, 1, 1)).await.unwrap();
        assert!(futures_util::FutureExt::now_or_never(sink.event()).is_none(), "silence confirms nothing");
        store.go.notify_one();
        assert!(matches!(sink.event().await, Ok(Event::Confirmed(lease, _)) if lease.key() == LeaseKey(1)));

        sink.send(lease(&source, 2, 2)).await.unwrap();
        store.go.notify_one();
        assert!(matches!(sink.event().await, Ok(Event::Refused(_, reason)) if reason == "two lines"));

        sink.send(lease(&source, 3, 3)).await.unwrap();
        store.go.notify_one();
        assert_eq!(sink.event().await.unwrap_err(), SinkEnd::Closed("the spool is full".to_owned()));
        drop(sink);
        assert!(source.0.lock().unwrap().contains(&3), "what is not kept goes back");
    }

    #[tokio::test]
    async fn there_is_a_bound_on_what_is_under_way() {
        let (source, store) = (Arc::<Source>::default(), Arc::new(OneLine { go: Notify::new() }));
        let mut sink = StoreSink::new(store);
        for key in 0..IN_FLIGHT_MAX {
            assert!(sink.has_room());
            sink.send(lease(&source, key as u64, 1)).await.unwrap();
        }
        assert!(!sink.has_room());
    }
}
