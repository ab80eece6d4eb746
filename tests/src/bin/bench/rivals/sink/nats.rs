//! A consumer of the stream, which acknowledges each message.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use anyhow::{Error, Result};
use async_nats::jetstream::consumer::PullConsumer;
use futures_util::StreamExt as _;

use super::Shared;
use crate::rivals::nats::{CONSUMER, STREAM};

/// Consumes until the server or the sink ends it.
pub(super) fn consume(address: SocketAddr, batch: usize, shared: &Shared) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = async_nats::connect(address.to_string()).await?;
        let stream = async_nats::jetstream::new(client.clone()).get_stream(STREAM).await?;
        let consumer: PullConsumer = stream.get_consumer(CONSUMER).await.map_err(Error::from_boxed)?;
        let mut messages = consumer.stream().max_messages_per_batch(batch).messages().await?;
        shared.connected.store(true, Ordering::SeqCst);
        loop {
            let message = tokio::select! {
                () = shared.closed.cancelled() => return Ok(()),
                message = messages.next() => message,
            };
            let Some(message) = message.transpose()? else { return Ok(()) };
            shared.arrivals().take(&message.payload);
            message.ack().await.map_err(Error::from_boxed)?;
        }
    })
}
