//! How long an attempt took to connect, measured where the HTTP client connects.
//!
//! The client connects within the request that asks for it, unless another connection becomes free
//! first; then it goes on connecting in the background, for later. So a connection counts for an
//! attempt only if it was completed within that attempt's own task.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tower::{Layer, Service};

use crate::clock::{Clock, SystemClock};

tokio::task_local! {
    static CONNECTED: Arc<Mutex<Option<Duration>>>;
}

/// Runs `attempt`; says how long it took to connect (name, TCP and TLS together), or `None` if it
/// used a connection that was open, or got none.
pub(super) async fn with_connect_time<F: Future>(attempt: F) -> (F::Output, Option<Duration>) {
    let connected = Arc::new(Mutex::new(None));
    let output = CONNECTED.scope(Arc::clone(&connected), attempt).await;
    let took = *connected.lock().unwrap_or_else(PoisonError::into_inner);
    (output, took)
}

/// Measures every connection that is made.
#[derive(Clone)]
pub(super) struct TimedLayer(pub(super) Arc<SystemClock>);

impl<S> Layer<S> for TimedLayer {
    type Service = Timed<S>;

    fn layer(&self, inner: S) -> Timed<S> {
        Timed { inner, clock: Arc::clone(&self.0) }
    }
}

/// See [`TimedLayer`].
#[derive(Clone)]
pub(super) struct Timed<S> {
    inner: S,
    clock: Arc<SystemClock>,
}

impl<S, Target> Service<Target> for Timed<S>
where
    S: Service<Target>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let (clock, began) = (Arc::clone(&self.clock), self.clock.steady());
        let connecting = self.inner.call(target);
        Box::pin(async move {
            let connection = connecting.await?;
            let took = clock.steady().since(began);
            let note = |connected: &Arc<Mutex<Option<Duration>>>| {
                *connected.lock().unwrap_or_else(PoisonError::into_inner) = Some(took);
            };
            // Not within an attempt: it is made for later.
            let _ = CONNECTED.try_with(note);
            Ok(connection)
        })
    }
}
