//! Logging in: tokens of self-built apps, tickets and tokens of store apps.
//!
//! Failures come with HTTP 200 and a `code`, as Feishu sends them; the body is read whatever its
//! Content-Type says, and unknown fields in it are ignored: the official SDKs need both.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::fault::Standing;
use super::options::{App, Options};
use super::reply::Reply;
use super::route::Call;
use super::tokens::Tokens;
use crate::clock::Steady;

/// The tenant of a self-built app: it has one, which nobody names.
pub(super) const OWN_TENANT: &str = "self";

/// A ticket and the one before it both work: a push may overtake a login.
const TICKETS_KEPT: usize = 2;

/// What is known of one app.
#[derive(Clone, Debug)]
pub(super) struct AppState {
    pub(super) app: App,
    pub(super) standing: Standing,
    /// Tokens are refused while logging in hands out the same ones.
    pub(super) stubborn: bool,
    tenants: BTreeMap<String, Tokens>,
    own: Tokens,
    tickets: VecDeque<String>,
}

impl AppState {
    pub(super) fn new(app: App) -> Self {
        Self {
            app,
            standing: Standing::Good,
            stubborn: false,
            tenants: BTreeMap::new(),
            own: Tokens::default(),
            tickets: VecDeque::new(),
        }
    }

    /// The tenant whose token `text` is.
    pub(super) fn tenant_of(&self, text: &str, now: Steady) -> Option<&str> {
        let holder = self.tenants.iter().find(|(_, tokens)| tokens.holds(text, now));
        holder.map(|(tenant, _)| tenant.as_str()).filter(|_| !self.stubborn)
    }

    /// Withdraws every token.
    pub(super) fn kill_tokens(&mut self) {
        self.own.kill();
        self.tenants.values_mut().for_each(Tokens::kill);
    }

    /// Makes the next ticket.
    pub(super) fn new_ticket(&mut self, random: &mut StdRng) -> String {
        let ticket = format!("{:032x}", random.random::<u128>());
        self.tickets.push_back(ticket.clone());
        if self.tickets.len() > TICKETS_KEPT {
            self.tickets.pop_front();
        }
        ticket
    }
}

/// All apps, and the randomness of their tokens.
#[derive(Debug)]
pub(super) struct Auth {
    apps: BTreeMap<String, AppState>,
    random: StdRng,
    token_life: Duration,
    /// Apps whose ticket is to be pushed.
    pub(super) due_tickets: Vec<String>,
}

impl Auth {
    pub(super) fn new(options: &Options, random: StdRng) -> Self {
        let state = |app: &App| (app.id.clone(), AppState::new(app.clone()));
        Self {
            apps: options.apps.iter().map(state).collect(),
            random,
            token_life: options.token_life,
            due_tickets: Vec::new(),
        }
    }

    pub(super) fn app(&self, app_id: &str) -> Option<&AppState> {
        self.apps.get(app_id)
    }

    pub(super) fn app_mut(&mut self, app_id: &str) -> Option<&mut AppState> {
        self.apps.get_mut(app_id)
    }

    pub(super) fn new_ticket(&mut self, app_id: &str) -> Option<String> {
        let app = self.apps.get_mut(app_id)?;
        Some(app.new_ticket(&mut self.random))
    }

    /// Whose token this is.
    pub(super) fn caller(&self, token: &str, now: Steady) -> Option<(String, String)> {
        self.apps.values().find_map(|state| {
            let tenant = state.tenant_of(token, now)?;
            Some((state.app.id.clone(), tenant.to_owned()))
        })
    }

    /// Answers one call that logs in.
    pub(super) fn answer(&mut self, now: Steady, call: &Call, body: &[u8]) -> Reply {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let given = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let result = match call {
            Call::TenantToken => {
                self.store_tenant(now, &given("app_access_token"), &given("tenant_key"))
            }
            _ => self.app_call(now, call, &given),
        };
        match result {
            Ok(body) => Reply::json("ok", 200, &body),
            Err((word, code, msg)) => Reply::json(word, 200, &json!({ "code": code, "msg": msg })),
        }
    }

    fn app_call(&mut self, now: Steady, call: &Call, given: &impl Fn(&str) -> String) -> Login {
        let Self { apps, random, token_life, due_tickets } = self;
        let state = apps.get_mut(&given("app_id")).ok_or(INVALID_PARAM)?;
        if given("app_secret") != state.app.secret {
            return Err(("bad_secret", 10_014, "app secret invalid"));
        }
        let is_store = state.app.store.is_some();
        match call {
            Call::InternalTenantToken | Call::InternalAppToken if !is_store => {
                let tokens = state.tenants.entry(OWN_TENANT.into()).or_default();
                let (token, expire) = tokens.fetch(now, "t-", *token_life, random);
                let mut body = flat("tenant_access_token", &token, expire);
                if *call == Call::InternalAppToken {
                    body["app_access_token"] = token.into();
                }
                Ok(body)
            }
            Call::ResendTicket if is_store => {
                due_tickets.push(state.app.id.clone());
                Ok(json!({ "code": 0, "msg": "success" }))
            }
            Call::AppToken if is_store => {
                if !state.tickets.contains(&given("app_ticket")) {
                    return Err(("bad_ticket", 10_012, "app_ticket invalid"));
                }
                let (token, expire) = state.own.fetch(now, "a-", *token_life, random);
                Ok(flat("app_access_token", &token, expire))
            }
            _ => Err(INVALID_PARAM),
        }
    }

    fn store_tenant(&mut self, now: Steady, token: &str, tenant: &str) -> Login {
        let Self { apps, random, token_life, .. } = self;
        let holder = apps.values_mut().find(|state| state.own.holds(token, now));
        let state = holder.ok_or(("bad_token", 99_991_664, "invalid app_access_token"))?;
        let installed =
            |tenants: &Vec<String>| tenants.is_empty() || tenants.iter().any(|t| t == tenant);
        let store = state.app.store.as_ref();
        if tenant.is_empty() || !store.is_some_and(|store| installed(&store.tenants)) {
            return Err(INVALID_PARAM);
        }
        let tokens = state.tenants.entry(tenant.into()).or_default();
        let (token, expire) = tokens.fetch(now, "t-", *token_life, random);
        Ok(flat("tenant_access_token", &token, expire))
    }
}

type Login = Result<Value, (&'static str, i64, &'static str)>;

const INVALID_PARAM: (&str, i64, &str) = ("invalid_param", 10_003, "invalid param");

fn flat(name: &str, token: &str, expire: u64) -> Value {
    let mut body = json!({ "code": 0, "msg": "ok", "expire": expire });
    body[name] = token.into();
    body
}
