//! The pure core: a state, a time and a request in, a reply out. No socket, no clock.

use std::collections::{BTreeMap, VecDeque};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::auth::Auth;
use super::fault::{Fault, Standing};
use super::journal::{Api, Journal, Poll};
use super::options::Options;
use super::reply::{Manner, Reply};
use super::route::Call;
use super::tasks::{Life, Task, task_id};
use super::windows::{Log, Windows};
use crate::clock::Steady;

/// What a create call must carry.
const CREATE_FIELDS: [&str; 3] = ["job_post_id", "user_id", "resume_file_id"];

/// Deleted tasks are swept every so many creations, so that a long run does not grow.
const SWEEP_EVERY: u64 = 1024;

/// One request, as far as Feishu looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// The path, still percent-encoded.
    pub path: &'a str,
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The body; a GET may have one, which is ignored (the Node SDK sends `{}`).
    pub body: &'a [u8],
}

/// The whole of the stand-in's state.
#[derive(Debug)]
pub struct Upstream {
    pub(super) options: Options,
    pub(super) auth: Auth,
    pub(super) tasks: BTreeMap<String, Task>,
    pub(super) scripted_lives: VecDeque<Life>,
    pub(super) faults: BTreeMap<Api, VecDeque<Fault>>,
    pub(super) journal: Journal,
    quotas: BTreeMap<(Api, String, String), Log>,
    births: StdRng,
    luck: StdRng,
    created: u64,
    answered: u64,
}

/// Who calls: an app, and a tenant of it.
type Caller = (String, String);

impl Upstream {
    /// A fresh upstream.
    #[must_use]
    pub fn new(options: Options) -> Self {
        // Apart, so that how often clients poll does not change which tasks come.
        let stream = |number| StdRng::seed_from_u64(options.seed.wrapping_mul(4) + number);
        let (births, luck, logins) = (stream(0), stream(1), stream(2));
        Self {
            auth: Auth::new(&options, logins),
            options,
            tasks: BTreeMap::new(),
            scripted_lives: VecDeque::new(),
            faults: BTreeMap::new(),
            journal: Journal::default(),
            quotas: BTreeMap::new(),
            births,
            luck,
            created: 0,
            answered: 0,
        }
    }

    /// Answers one request that arrives at `now`.
    pub fn answer(&mut self, now: Steady, request: &Request<'_>) -> Reply {
        let call = Call::named(request.method, request.path);
        let log_id = self.log_id();
        let token = request.authorization.and_then(|value| value.strip_prefix("Bearer "));
        let caller = token.and_then(|token| self.auth.caller(token, now));
        let mut reply = match call {
            Call::Unknown => Reply::unknown_path(),
            Call::Create { .. } | Call::Poll { .. } => {
                self.hire(now, &call, token, caller.as_ref(), request.body, &log_id)
            }
            _ => self.login(now, &call, request.body, &log_id),
        };
        self.journal.count(call.api(), reply.word);
        if let Call::Poll { task_id, .. } = call {
            let app = caller.map(|(app, _)| app).unwrap_or_default();
            self.journal.poll(Poll { app, task: task_id, at: now, answer: reply.word });
        }
        if reply.has_log_id() {
            reply.headers.push(("x-tt-logid", log_id));
        }
        reply.headers.push(("x-request-id", format!("{:032x}", self.answered)));
        reply
    }

    /// Creates a task with this life; its id is drawn unless given.
    pub(super) fn create(
        &mut self,
        now: Steady,
        (id, website_id): (Option<String>, &str),
        owner: Option<Caller>,
        life: Life,
    ) -> String {
        self.created += 1;
        if self.created.is_multiple_of(SWEEP_EVERY) {
            self.tasks.retain(|_, task| {
                task.life.deleted_after.is_none_or(|age| now.since(task.created) < age)
            });
        }
        let id = id.unwrap_or_else(|| task_id(&mut self.births));
        let task = Task {
            website_id: website_id.into(),
            owner,
            created: now,
            life,
            polls: 0,
            number: self.created,
            delivery: Task::delivery(&mut self.births),
        };
        self.tasks.insert(id.clone(), task);
        id
    }

    /// The next task's life, as the options have it.
    pub(super) fn draw_life(&mut self) -> Life {
        Life::draw(&self.options, &mut self.births)
    }

    /// Spends quota as a stranger with the same credentials would.
    pub(super) fn spend(&mut self, now: Steady, api: Api, caller: &Caller) -> bool {
        self.admit(now, api, caller).is_ok()
    }

    fn log_id(&mut self) -> String {
        self.answered += 1;
        format!("20261122{:06}{:018X}", self.answered % 1_000_000, self.luck.random::<u64>())
    }

    fn login(&mut self, now: Steady, call: &Call, body: &[u8], log_id: &str) -> Reply {
        let fault = self.scripted(Api::Auth).or_else(|| self.chance());
        self.with_fault(fault.as_ref(), log_id, |this| this.auth.answer(now, call, body))
    }

    fn hire(
        &mut self,
        now: Steady,
        call: &Call,
        token: Option<&str>,
        caller: Option<&Caller>,
        body: &[u8],
        log_id: &str,
    ) -> Reply {
        if token.is_none_or(str::is_empty) {
            return Reply::no_token(log_id);
        }
        let Some(caller) = caller else { return Reply::bad_token(log_id) };
        let app = self.auth.app(&caller.0);
        let refused = app.and_then(|state| state.standing.refusal(&state.app, log_id));
        if let Some(refusal) = refused {
            return refusal;
        }
        if let Some(fault) = self.scripted(call.api()) {
            return self.with_fault(Some(&fault), log_id, |this| {
                this.counted(now, call, caller, body, log_id)
            });
        }
        self.counted(now, call, caller, body, log_id)
    }

    /// What costs quota: even a call that then meets a fault.
    fn counted(
        &mut self,
        now: Steady,
        call: &Call,
        caller: &Caller,
        body: &[u8],
        log_id: &str,
    ) -> Reply {
        if let Err(spent) = self.admit(now, call.api(), caller) {
            return Reply::quota(self.options.quota_status, spent, log_id);
        }
        let fault = self.chance();
        self.with_fault(fault.as_ref(), log_id, |this| match call {
            Call::Create { website_id } => this.create_call(now, website_id, caller, body, log_id),
            Call::Poll { website_id, task_id } => {
                this.poll(now, website_id, task_id, caller, log_id)
            }
            _ => Reply::unknown_path(),
        })
    }

    fn admit(
        &mut self,
        now: Steady,
        api: Api,
        caller: &Caller,
    ) -> Result<(), super::windows::Spent> {
        let windows: &Windows = match api {
            Api::Create => &self.options.create_quota,
            _ => &self.options.poll_quota,
        };
        let key = (api, caller.0.clone(), caller.1.clone());
        self.quotas.entry(key).or_default().admit(windows, now)
    }

    fn create_call(
        &mut self,
        now: Steady,
        website_id: &str,
        caller: &Caller,
        body: &[u8],
        log_id: &str,
    ) -> Reply {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let blank = |field: &&str| body[*field].as_str().is_none_or(str::is_empty);
        let missing: Vec<&str> = CREATE_FIELDS.into_iter().filter(blank).collect();
        if !missing.is_empty() {
            return Reply::missing_fields(&missing, log_id);
        }
        // Drawn even where a script overrides it: the tasks after it stay the same.
        let drawn = self.draw_life();
        let life = self.scripted_lives.pop_front().unwrap_or(drawn);
        let task_id = self.create(now, (None, website_id), Some(caller.clone()), life);
        Reply::json("ok", 200, &json!({ "code": 0, "msg": "ok", "data": { "task_id": task_id } }))
    }

    fn poll(
        &mut self,
        now: Steady,
        website_id: &str,
        task_id: &str,
        caller: &Caller,
        log_id: &str,
    ) -> Reply {
        let theirs = |task: &&mut Task| {
            task.website_id == website_id
                && task.owner.as_ref().is_none_or(|owner| owner == caller)
                && !task.is_gone(now)
        };
        let known = self.tasks.contains_key(task_id);
        match self.tasks.get_mut(task_id).filter(theirs) {
            Some(task) => {
                let (body, word) = task.read(now);
                Reply::json(word, 200, &body)
            }
            None if known || well_formed(website_id, task_id) => Reply::task_not_found(log_id),
            None => Reply::invalid_task(log_id),
        }
    }

    fn scripted(&mut self, api: Api) -> Option<Fault> {
        self.faults.get_mut(&api)?.pop_front()
    }

    fn chance(&mut self) -> Option<Fault> {
        let unlucky = self.luck.random_bool(self.options.chaos.probability());
        unlucky.then(|| Fault::draw(&mut self.luck))
    }

    fn with_fault(
        &mut self,
        fault: Option<&Fault>,
        log_id: &str,
        right: impl FnOnce(&mut Self) -> Reply,
    ) -> Reply {
        let quota = self.options.quota_status;
        let instead = fault.and_then(|fault| fault.reply(quota, log_id));
        let mut reply = instead.unwrap_or_else(|| right(self));
        if let Some(Fault::SlowBody(pace)) = fault {
            reply.manner = Manner::Slowly(*pace);
        }
        reply
    }

    /// Puts an app into a standing; false if there is no such app.
    pub(super) fn set_standing(&mut self, app_id: &str, standing: Standing) -> bool {
        self.auth.app_mut(app_id).map(|state| state.standing = standing).is_some()
    }
}

/// Feishu's website ids are decimal, its task ids 32 lower-case hex digits.
fn well_formed(website_id: &str, task_id: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    website_id.bytes().all(|byte| byte.is_ascii_digit())
        && task_id.len() == 32
        && task_id.bytes().all(hex)
}
