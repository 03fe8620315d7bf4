//! Pushing events to store apps: on demand, and a ticket every hour.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use tokio::sync::mpsc;

use super::event::{Event, Salt};
use super::options::App;
use crate::clock::Clock;

/// Feishu's own deadline for an event's answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// How long a push that nobody answered waits before it is tried once more.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Feishu repeats an unanswered event; a stand-in does so a few times.
const PUSHES_MAX: u32 = 5;

/// Pushes events until nobody can ask for one any more.
pub(super) async fn run(mut due: mpsc::UnboundedReceiver<(App, Event)>, clock: Arc<dyn Clock>) {
    let client = match client() {
        Ok(client) => client,
        Err(error) => {
            tracing::warn!(%error, "the stand-in cannot push events");
            return;
        }
    };
    while let Some((app, event)) = due.recv().await {
        let (client, clock) = (client.clone(), Arc::clone(&clock));
        tokio::spawn(async move { push(&client, &app, &event, &*clock).await });
    }
}

fn client() -> reqwest::Result<reqwest::Client> {
    // Another part of the process may have been first; then its provider is the one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().redirect(Policy::none()).timeout(ANSWER_WITHIN).build()
}

async fn push(client: &reqwest::Client, app: &App, event: &Event, clock: &dyn Clock) {
    let Some((store, url)) =
        app.store.as_ref().and_then(|store| Some((store, store.event_url.as_ref()?)))
    else {
        return;
    };
    for number in 1..=PUSHES_MAX {
        let salt = Salt { nonce: rand::random(), iv: rand::random() };
        let rendered = event.render(store, clock.wall().unix_seconds(), salt);
        let mut request =
            client.post(url).header(CONTENT_TYPE, "application/json").body(rendered.body);
        for (name, value) in rendered.headers {
            request = request.header(name, value);
        }
        match request.send().await {
            Ok(reply) if reply.status().is_success() => return,
            Ok(reply) => tracing::warn!(status = reply.status().as_u16(), number, "event refused"),
            Err(error) => {
                tracing::warn!(error = %error.without_url(), number, "event not delivered");
            }
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}
