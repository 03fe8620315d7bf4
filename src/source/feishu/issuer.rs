//! Who issues an account's token: one call for a self-built app, up to three for a store app.

use std::sync::Arc;

use serde::Serialize;
use url::Url;

use super::http::Http;
use super::store_app::StoreApp;
use super::tickets::Tickets;
use super::token::{self, Call, Issued, Refused};
use crate::clock::Clock;
use crate::config::secret::Secret;
use crate::config::{Account, Credentials};
use crate::source::{PollError, TransientClass};

/// Who issues an account's token.
pub(super) enum Issuer {
    /// Feishu, for the app's own tenant.
    Internal(App),
    /// Feishu, for a tenant that installed the app.
    Store(Box<StoreApp>),
}

/// An app and where its tokens come from.
pub(super) struct App {
    pub(super) http: Http,
    pub(super) base_url: Url,
    pub(super) id: String,
    pub(super) secret: Secret,
}

#[derive(Serialize)]
struct AppBody<'a> {
    app_id: &'a str,
    app_secret: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_ticket: Option<&'a str>,
}

impl Issuer {
    pub(super) fn of(
        account: &Account,
        http: Http,
        tickets: &Tickets,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let base_url = account.base_url.clone();
        match account.credentials.clone() {
            Credentials::Internal { app_id, app_secret } => {
                Self::Internal(App { http, base_url, id: app_id, secret: app_secret })
            }
            Credentials::Store { app_id, app_secret, tenant_key, .. } => {
                let shared = tickets.app(&app_id);
                let app = App { http, base_url, id: app_id, secret: app_secret };
                Self::Store(Box::new(StoreApp { app, tenant_key, shared, clock }))
            }
        }
    }

    /// Fetches a token.
    pub(super) async fn issue(&self) -> Result<Issued, PollError> {
        match self {
            Self::Internal(app) => match app.call(Call::Internal, None).await {
                Err(Refused::Because(error)) => Err(error),
                Err(refused @ (Refused::Ticket | Refused::AppToken)) => Err(misplaced(&refused)),
                Ok(issued) => Ok(issued),
            },
            Self::Store(store) => store.issue().await,
        }
    }
}

impl App {
    /// Makes a call that names the app and its secret.
    pub(super) async fn call(
        &self,
        call: Call,
        ticket: Option<&Secret>,
    ) -> Result<Issued, Refused> {
        token::issued(&self.post_app(call, ticket).await?, call)
    }

    /// Asks Feishu to push the app's ticket again.
    pub(super) async fn resend(&self) -> Result<(), Refused> {
        token::accepted(&self.post_app(Call::Resend, None).await?, Call::Resend).map(|_| ())
    }

    async fn post_app(
        &self,
        call: Call,
        ticket: Option<&Secret>,
    ) -> Result<super::reply::Reply, Refused> {
        let body = AppBody {
            app_id: &self.id,
            app_secret: self.secret.expose(),
            app_ticket: ticket.map(Secret::expose),
        };
        self.http.post(&self.base_url, call.path(), &body).await.map_err(Refused::Because)
    }
}

/// A refusal that makes no sense for the call: nothing to act on, so it is the moment's.
pub(super) fn misplaced(refused: &Refused) -> PollError {
    let detail = format!("Feishu refused a token call for what it does not take ({refused:?})");
    PollError::Transient { class: TransientClass::Upstream, detail }
}
