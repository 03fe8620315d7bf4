//! Callback receivers: each verifies with the reference library and answers as it is told.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::sync::watch;

use crate::http::{Answer, PATIENCE, Request, reply, serve_at};

/// One callback as it arrived. Only genuine ones become one.
#[derive(Clone, Debug)]
pub(crate) struct Callback {
    pub(crate) id: String,
    pub(crate) request: Request,
    /// Which arrival of this id it is, from 1.
    pub(crate) arrival: usize,
}

impl Callback {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.request.body).unwrap()
    }

    pub(crate) fn task(&self) -> String {
        self.json()["data"]["task"]["delivery_task_id"].as_str().unwrap().to_owned()
    }
}

type Behaviour = Arc<dyn Fn(&Callback) -> Answer + Send + Sync>;

/// A receiver on a port of its own.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    callbacks: watch::Receiver<Vec<Callback>>,
    forged: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    /// One that takes everything.
    pub(crate) async fn start(secrets: &[&str]) -> Self {
        Self::behaving(secrets, |_| reply(204, &[], "")).await
    }

    /// One that answers like this. A callback counts if every one of the secrets verifies it.
    pub(crate) async fn behaving(
        secrets: &[&str],
        behaviour: impl Fn(&Callback) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::behaving_at(Ipv4Addr::LOCALHOST, secrets, behaviour).await
    }

    /// The same, at this address.
    pub(crate) async fn behaving_at(
        address: Ipv4Addr,
        secrets: &[&str],
        behaviour: impl Fn(&Callback) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let webhooks: Vec<Webhook> = secrets.iter().map(|s| Webhook::new(s).unwrap()).collect();
        let (sender, callbacks) = watch::channel(Vec::new());
        let forged = Arc::new(Mutex::new(Vec::new()));
        let (behaviour, bad): (Behaviour, _) = (Arc::new(behaviour), Arc::clone(&forged));
        let handler = move |request: Request| {
            let headers = signature_headers(&request);
            let genuine = |webhook: &Webhook| webhook.verify(&request.body, &headers).is_ok();
            if request.method != "POST" || !webhooks.iter().all(genuine) {
                bad.lock().unwrap().push(request);
                return reply(401, &[], "");
            }
            let id = request.header("webhook-id").unwrap().to_owned();
            let mut answer = reply(500, &[], "");
            sender.send_modify(|all: &mut Vec<Callback>| {
                let arrival = all.iter().filter(|other| other.id == id).count() + 1;
                all.push(Callback { id, request, arrival });
                answer = behaviour(all.last().unwrap());
            });
            answer
        };
        let address = serve_at(address, Arc::new(handler)).await;
        Self { address, callbacks, forged }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Everything so far.
    pub(crate) fn so_far(&self) -> Vec<Callback> {
        self.callbacks.borrow().clone()
    }

    /// Waits until `so` of what has arrived.
    #[track_caller]
    pub(crate) fn until(
        &self,
        what: &str,
        so: impl Fn(&[Callback]) -> bool + Send + 'static,
    ) -> impl Future<Output = Vec<Callback>> {
        let mut callbacks = self.callbacks.clone();
        let (what, forged) = (what.to_owned(), Arc::clone(&self.forged));
        async move {
            let waited = tokio::time::timeout(PATIENCE, callbacks.wait_for(|all| so(all))).await;
            let all = waited.map(|all| all.unwrap().clone());
            let forged = forged.lock().unwrap();
            assert!(forged.is_empty(), "callbacks that do not verify: {forged:?}");
            all.unwrap_or_else(|_| {
                let tasks: Vec<_> = callbacks.borrow().iter().map(Callback::task).collect();
                panic!("{what}: not in time; so far {tasks:?}")
            })
        }
    }

    /// Waits until so many different callbacks have arrived.
    pub(crate) async fn distinct(&self, count: usize) -> Vec<Callback> {
        self.until(&format!("{count} callbacks"), move |all| {
            all.iter().filter(|callback| callback.arrival == 1).count() >= count
        })
        .await
    }

    /// Repeats are the same bytes under the same id, and no two registrations share an id.
    #[track_caller]
    pub(crate) fn assert_repeats_are_faithful(&self) {
        let mut bodies: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut registrations: BTreeMap<String, String> = BTreeMap::new();
        for callback in self.so_far() {
            let body = bodies.entry(callback.id.clone()).or_insert(callback.request.body.clone());
            assert_eq!(*body, callback.request.body, "{} came with other bytes", callback.id);
            let registration =
                callback.json()["data"]["registration_id"].as_str().unwrap().to_owned();
            let id = registrations.entry(registration).or_insert(callback.id.clone());
            assert_eq!(*id, callback.id, "one registration, two ids");
        }
    }
}

fn signature_headers(request: &Request) -> HeaderMap {
    ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .into_iter()
        .filter_map(|name| {
            let value = HeaderValue::from_str(request.header(name)?).ok()?;
            Some((HeaderName::from_static(name), value))
        })
        .collect()
}

/// Nothing more arrives for so long. The one thing that only time can tell.
pub(crate) async fn silence() {
    tokio::time::sleep(Duration::from_millis(1500)).await;
}
