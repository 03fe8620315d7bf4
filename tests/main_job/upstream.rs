//! A Feishu of this test's own, written from Feishu's documents: scripted tasks, tokens that can
//! be killed, and exact sliding windows. It remembers every poll.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use outcomed::clock::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::http::{Answer, Request, reply, serve_at};

pub(crate) const APP_ID: &str = "cli_a1b2c3d4e5f60001";
pub(crate) const APP_SECRET: &str = "the-right-secret-of-the-app";
pub(crate) const WEBSITE: &str = "7047318856652261676";
const JSON: (&str, &str) = ("Content-Type", "application/json; charset=utf-8");

/// What it says to one poll.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    /// Feishu's own words.
    Json(u16, String),
    /// The quota is spent, for so many seconds.
    Quota(u16, &'static str),
    /// Anything else.
    Else(Answer),
}

/// `code` 0 with this `data`.
pub(crate) fn data(data: &Value) -> Say {
    Say::Json(200, json!({"code": 0, "msg": "success", "data": data}).to_string())
}

/// An error of Feishu's.
pub(crate) fn error(status: u16, code: i64) -> Say {
    Say::Json(status, json!({"code": code, "msg": "words that decide nothing"}).to_string())
}

/// Still pending.
pub(crate) fn pending() -> Say {
    data(&json!({"status": 1}))
}

/// A success with every id, all beyond 2^53.
pub(crate) fn success() -> Say {
    data(&json!({"status": 2, "status_msg": " ", "extra_info": "", "delivery": ids()}))
}

/// The ids of a delivery as Feishu sends them, the deprecated one among them.
pub(crate) fn ids() -> Value {
    json!({"application_id": "6960663240925956657", "id": "9007199254740993",
           "job_id": "6960663240925956660", "job_post_id": "6960663240925956661",
           "portal_resume_id": "6960663240925956662", "user_id": "6960663240925956663",
           "talent_id": "18446744073709551615"})
}

/// What it says about one task: pending for a while, then the steps, the last one for ever.
#[derive(Clone, Debug)]
struct Script {
    pending_until: Instant,
    steps: VecDeque<Say>,
}

/// One poll as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Poll {
    pub(crate) at: Instant,
    pub(crate) wall: Timestamp,
    pub(crate) task: String,
    pub(crate) user_agent: String,
    pub(crate) log_id: String,
    pub(crate) status: u16,
    /// It said that the task is over.
    pub(crate) ends: bool,
    /// The token was refused, the quota was spent, or the account may not.
    pub(crate) refused: bool,
    /// Which of its doors it came through.
    pub(crate) door: usize,
}

#[derive(Default)]
pub(crate) struct State {
    secret: String,
    scripts: BTreeMap<String, Script>,
    tokens: BTreeSet<String>,
    /// Token calls so far, as (Content-Type, body).
    pub(crate) token_calls: Vec<(Option<String>, Value)>,
    pub(crate) polls: Vec<Poll>,
    /// What the next token calls get instead of a token.
    pub(crate) token_faults: VecDeque<Say>,
    /// Requests for nothing that exists.
    pub(crate) lost: usize,
    /// What it says to every poll, whatever the task.
    pub(crate) to_all: Option<Say>,
    /// Nothing of the API is here.
    pub(crate) elsewhere: bool,
    limits: Option<(usize, usize)>,
}

/// The stand-in.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Upstream {
    /// With Feishu's published quota.
    pub(crate) async fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST).await
    }

    /// The same, at this address.
    pub(crate) async fn start_at(address: Ipv4Addr) -> Self {
        let state =
            State { secret: APP_SECRET.into(), limits: Some((50, 1000)), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let handler = Arc::clone(&state);
        let address =
            serve_at(address, Arc::new(move |request| handler.lock().unwrap().answer(&request, 0)))
                .await;
        Self { address, state }
    }

    /// Another address of the same one; its polls carry this number. Each reply takes `latency`.
    pub(crate) async fn door(&self, number: usize, latency: Duration) -> SocketAddr {
        let IpAddr::V4(address) = self.address.ip() else { unreachable!("it is an IPv4 one") };
        let handler = Arc::clone(&self.state);
        let answer = move |request: Request| {
            let answer = handler.lock().unwrap().answer(&request, number);
            if latency.is_zero() { answer } else { Answer::After(latency, Box::new(answer)) }
        };
        serve_at(address, Arc::new(answer)).await
    }

    /// Another quota, judged as exactly.
    pub(crate) fn limit(&self, per_second: usize, per_minute: usize) {
        self.state().limits = Some((per_second, per_minute));
    }

    /// Polls that were refused for lack of quota.
    pub(crate) fn beyond_quota(&self) -> usize {
        self.state().polls.iter().filter(|poll| poll.status == 429).count()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn script(&self, task: &str, steps: impl IntoIterator<Item = Say>) {
        self.script_after(Duration::ZERO, task, steps);
    }

    /// Pending for so long from now on, then the steps.
    pub(crate) fn script_after(
        &self,
        wait: Duration,
        task: &str,
        steps: impl IntoIterator<Item = Say>,
    ) {
        let steps = steps.into_iter().collect();
        let script = Script { pending_until: Instant::now() + wait, steps };
        self.state().scripts.insert(task.to_owned(), script);
    }

    /// No token that was issued is good any more.
    pub(crate) fn kill_tokens(&self) {
        self.state().tokens.clear();
    }

    /// The polls of one task, in order.
    pub(crate) fn polls_of(&self, task: &str) -> Vec<Poll> {
        self.state().polls.iter().filter(|poll| poll.task == task).cloned().collect()
    }

    /// No poll was refused for lack of quota, and none followed the one that told the end.
    #[track_caller]
    pub(crate) fn assert_polite(&self) {
        let state = self.state();
        assert_eq!(state.lost, 0, "requests that Feishu does not know");
        let mut over = BTreeSet::new();
        for poll in &state.polls {
            assert_ne!(poll.status, 429, "beyond the quota: {poll:?}");
            assert!(!over.contains(&poll.task), "polled after its end: {poll:?}");
            if poll.ends {
                over.insert(poll.task.clone());
            }
        }
    }

    /// The most polls in any window of this length, by when they arrived.
    pub(crate) fn most_in_any(&self, window: Duration) -> usize {
        let state = self.state();
        let mut inside = VecDeque::new();
        let mut most = 0;
        for poll in &state.polls {
            inside.push_back(poll.at);
            while inside.front().is_some_and(|first| *first + window <= poll.at) {
                inside.pop_front();
            }
            most = most.max(inside.len());
        }
        most
    }
}

impl State {
    fn answer(&mut self, request: &Request, door: usize) -> Answer {
        let path: Vec<&str> = request.target.trim_start_matches('/').split('/').collect();
        match (request.method.as_str(), path.as_slice()) {
            _ if self.elsewhere => not_found(),
            ("POST", ["open-apis", "auth", "v3", "tenant_access_token", "internal"]) => {
                self.token(request)
            }
            ("GET", ["open-apis", "hire", "v1", "websites", WEBSITE, "delivery_tasks", task]) => {
                self.poll(request, task, door)
            }
            _ => {
                self.lost += 1;
                not_found()
            }
        }
    }

    /// Flat, with HTTP 200 whatever comes of it.
    fn token(&mut self, request: &Request) -> Answer {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let content_type = request.header("content-type").map(str::to_owned);
        self.token_calls.push((content_type, body.clone()));
        if let Some(fault) = self.token_faults.pop_front() {
            return spoken(fault, "20261122FFFFFF");
        }
        let answer = if body["app_id"] != APP_ID {
            json!({"code": 10003, "msg": "invalid param"})
        } else if body["app_secret"] != self.secret.as_str() {
            json!({"code": 10014, "msg": "app secret invalid"})
        } else {
            let known = self.tokens.first().cloned();
            let token = known.unwrap_or_else(|| format!("t-g{:08}", self.token_calls.len()));
            self.tokens.insert(token.clone());
            json!({"code": 0, "msg": "ok", "tenant_access_token": token, "expire": 7200})
        };
        reply(200, &[JSON], &answer.to_string())
    }

    fn poll(&mut self, request: &Request, task: &str, door: usize) -> Answer {
        let bearer = request.header("authorization").unwrap_or_default();
        let token = bearer.strip_prefix("Bearer ").unwrap_or_default();
        let over = self.quota_spent(request.at);
        let (say, refused) = if over {
            (Say::Quota(429, "1"), true)
        } else if token.is_empty() {
            (error(400, 99_991_661), true)
        } else if !self.tokens.contains(token) {
            (error(400, 99_991_663), true)
        } else if let Some(say) = self.to_all.clone() {
            (say, true)
        } else {
            (self.say(task, request.at), false)
        };
        let log_id = format!("20261122{:06}ABCDEF", self.polls.len());
        let status = match &say {
            Say::Json(status, _) | Say::Quota(status, _) => *status,
            Say::Else(_) => 0,
        };
        self.polls.push(Poll {
            at: request.at,
            wall: request.wall,
            task: task.to_owned(),
            user_agent: request.header("user-agent").unwrap_or_default().to_owned(),
            log_id: log_id.clone(),
            // A scripted refusal is not one for lack of quota.
            status: if over { 429 } else { status.min(428) },
            ends: ends(&say),
            door,
            refused: refused || !matches!(&say, Say::Json(_, body) if tells(body)),
        });
        spoken(say, &log_id)
    }

    fn say(&mut self, task: &str, now: Instant) -> Say {
        let Some(script) = self.scripts.get_mut(task) else { return error(400, 1_002_008) };
        if now < script.pending_until {
            return pending();
        }
        match script.steps.len() {
            0 => pending(),
            1 => script.steps[0].clone(),
            _ => script.steps.pop_front().unwrap(),
        }
    }

    /// Both windows, exactly.
    fn quota_spent(&self, now: Instant) -> bool {
        let Some((per_second, per_minute)) = self.limits else { return false };
        let within = |window: Duration| {
            self.polls.iter().rev().take_while(|poll| poll.at + window > now).count()
        };
        within(Duration::from_secs(1)) >= per_second
            || within(Duration::from_secs(60)) >= per_minute
    }
}

fn not_found() -> Answer {
    reply(404, &[("Content-Type", "text/plain")], "404 page not found")
}

fn spoken(say: Say, log_id: &str) -> Answer {
    let log_id = ("X-Tt-Logid", log_id);
    match say {
        Say::Json(status, body) => reply(status, &[JSON, log_id], &body),
        Say::Quota(status, reset) => {
            let (limit, reset) =
                (("x-ogw-ratelimit-limit", "1000"), ("x-ogw-ratelimit-reset", reset));
            let body = json!({"code": 99_991_400, "msg": "request trigger frequency limit"});
            reply(status, &[JSON, log_id, limit, reset], &body.to_string())
        }
        Say::Else(answer) => answer,
    }
}

/// It says something about the task.
fn tells(body: &str) -> bool {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    [0, 1_002_002, 1_002_008].iter().any(|code| body["code"] == *code)
}

fn ends(say: &Say) -> bool {
    let Say::Json(status, body) = say else { return false };
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let done =
        *status == 200 && body["code"] == 0 && [2, 3].iter().any(|s| body["data"]["status"] == *s);
    done || (*status == 400 && body["code"] == 1_002_002)
}
