//! A store app's way to a tenant's token: `app_ticket` → `app_access_token` →
//! `tenant_access_token`. The first two belong to the app and are shared by all its tenants.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::issuer::{App, misplaced};
use super::tickets::SharedApp;
use super::token::{self, Call, Issued, Lent, Refused};
use crate::clock::Clock;
use crate::config::secret::Secret;
use crate::source::{PollError, TransientClass};

/// How long a fetch waits for the ticket it has asked for. Feishu pushes it at once; whoever
/// waits longer has an event URL that is wrong.
const TICKET_WAIT: Duration = Duration::from_secs(5);

/// A store app, for one tenant.
pub(super) struct StoreApp {
    pub(super) app: App,
    pub(super) tenant_key: String,
    pub(super) shared: Arc<SharedApp>,
    pub(super) clock: Arc<dyn Clock>,
}

#[derive(Serialize)]
struct TenantBody<'a> {
    app_access_token: &'a str,
    tenant_key: &'a str,
}

impl StoreApp {
    /// Fetches this tenant's token, and the app's if need be.
    pub(super) async fn issue(&self) -> Result<Issued, PollError> {
        let app_token = self.app_token().await?;
        let body =
            TenantBody { app_access_token: app_token.value.expose(), tenant_key: &self.tenant_key };
        let reply = self.app.http.post(&self.app.base_url, Call::Tenant.path(), &body).await?;
        match token::issued(&reply, Call::Tenant) {
            Ok(issued) => Ok(issued),
            Err(Refused::AppToken) => {
                self.shared.app_token_refused(app_token.generation);
                // The keeper's next quick try fetches another one.
                let detail = "Feishu refused the app_access_token; it has been dropped".to_owned();
                Err(PollError::Transient { class: TransientClass::Upstream, detail })
            }
            Err(Refused::Because(error)) => Err(error),
            Err(refused @ Refused::Ticket) => Err(misplaced(&refused)),
        }
    }

    /// The app's token: one tenant at a time looks, and fetches it for all.
    async fn app_token(&self) -> Result<Lent, PollError> {
        let _turn = self.shared.turn.lock().await;
        let now = self.clock.steady();
        let (lent, fresh) = self.shared.app_token(now);
        if let Some(lent) = lent.as_ref().filter(|_| fresh) {
            return Ok(lent.clone());
        }
        match (self.fetch_app_token().await, lent) {
            (Ok(fetched), _) => Ok(fetched),
            // The old one is good for a while yet.
            (Err(_), Some(lent)) => Ok(lent),
            (Err(error), None) => Err(error),
        }
    }

    async fn fetch_app_token(&self) -> Result<Lent, PollError> {
        let ticket = self.ticket().await?;
        let asked_at = self.clock.steady();
        match self.app.call(Call::App, Some(&ticket)).await {
            Ok(issued) => Ok(self.shared.keep_app_token(issued, asked_at)),
            Err(Refused::Ticket) => {
                self.shared.ticket_refused(&ticket);
                let detail = "Feishu refused the app_ticket; it has been dropped".to_owned();
                Err(PollError::Transient { class: TransientClass::Upstream, detail })
            }
            Err(Refused::Because(error)) => Err(error),
            Err(refused @ Refused::AppToken) => Err(misplaced(&refused)),
        }
    }

    /// Asks Feishu to push the app's ticket, unless it was asked a moment ago.
    pub(super) async fn ask(&self) -> Result<(), PollError> {
        if !self.shared.may_ask(self.clock.steady()) {
            return Ok(());
        }
        if let Err(refused) = self.app.resend().await {
            self.shared.asking_failed();
            return Err(match refused {
                Refused::Because(error) => error,
                refused => misplaced(&refused),
            });
        }
        tracing::info!(app_id = %self.app.id, "asked Feishu to push the app_ticket again");
        Ok(())
    }

    /// The app's ticket; without one, asks for it and waits a moment.
    async fn ticket(&self) -> Result<Arc<Secret>, PollError> {
        let mut arrivals = self.shared.arrivals();
        if let Some(ticket) = self.shared.ticket() {
            return Ok(ticket);
        }
        self.ask().await?;
        let wait = TICKET_WAIT.saturating_sub(self.shared.asked_ago(self.clock.steady()));
        let arrived = arrivals.wait_for(Option::is_some);
        match tokio::time::timeout(wait, arrived).await {
            Ok(Ok(ticket)) => ticket.clone(),
            _ => None,
        }
        .ok_or_else(|| PollError::Account(token::no_ticket(&self.app.id)))
    }
}
