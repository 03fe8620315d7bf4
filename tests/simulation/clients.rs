//! Downstream apps: they register, register again, call off and send again, whatever happens.

use std::sync::Arc;
use std::time::Duration;

use outcomed::clock::Timestamp;
use outcomed::outcome::Class;
use outcomed::store::{
    NewRedelivery, NewRegistration, Outbox, RedeliveryFilter, Registered, Registry,
};
use outcomed::task::{Kind, State, TaskRef};
use rand::RngExt;
use rand::seq::IndexedRandom;

use super::faults::Faults;
use super::store::Door;
use super::upstream::ACCOUNTS;
use super::world::{EPOCH, Life, Promise, Shared, Sickness};

pub const CLIENTS: [&str; 3] = ["ats", "crm", "erp"];
/// The client whose callbacks fail on the shared gateway.
const SICK_CLIENT: &str = "erp";
const BULK: i64 = 250;

/// Whether a callback there always fails in this history.
pub fn is_sick(faults: &Faults, url: &str) -> bool {
    faults.sick_receiver && url.contains("sick.example")
        || faults.sick_client && url.contains(&format!("gateway.example/{SICK_CLIENT}"))
}

/// Acts on one daemon's doors until the daemon dies or the world is calm.
pub async fn act(world: Shared, door: Arc<Door>, node: usize) {
    let daemons = i64::try_from(world.lock().daemons).unwrap_or(1);
    while !world.lock().calm {
        let pause = world.between(1, 3_000 * daemons).unsigned_abs();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let faults = world.lock().faults.clone();
        if faults.cancels && world.chance(0.08) {
            cancel_one(&world, &door, node).await;
        } else if faults.redeliveries && world.chance(0.08) {
            send_again(&world, &door, node).await;
        } else {
            register_some(&world, &door, node).await;
        }
    }
}

async fn register_some(world: &Shared, door: &Arc<Door>, node: usize) {
    let mass = world.lock().faults.mass_expiry && world.chance(0.02);
    let burst = match (mass, world.chance(0.03)) {
        (true, _) => BULK,
        (false, true) => world.between(10, 30),
        (false, false) => 1,
    };
    let give_up = mass.then(|| world.between(5_000, 30_000));
    let batch: Vec<NewRegistration> =
        (0..burst).map(|_| registration(world, node, give_up)).collect();
    // Not accepted is not promised, even if it was stored: the client would ask again.
    let Ok(answers) = door.register(batch).await else { return };
    let now = world.lock().now_of(node);
    for answer in answers {
        let (Registered::New(accepted) | Registered::Existing(accepted)) = answer;
        let promise = Promise {
            task: accepted.task.delivery_task_id,
            url: accepted.callback.url,
            cancelled: false,
            accepted_at: now,
        };
        world.node_tells(node, format_args!("accepts {:.10} of {:.6}", accepted.id, promise.task));
        world.lock().promises.entry(accepted.id).or_insert(promise);
    }
}

fn some_promise(world: &Shared) -> Option<String> {
    let mut world = world.lock();
    let ids: Vec<String> = world.promises.keys().cloned().collect();
    ids.choose(&mut world.rng).cloned()
}

async fn cancel_one(world: &Shared, door: &Arc<Door>, node: usize) {
    let Some(id) = some_promise(world) else { return };
    // Called off from the moment it is asked: whether it still arrives is open.
    if let Some(promise) = world.lock().promises.get_mut(&id) {
        promise.cancelled = true;
    }
    world.node_tells(node, format_args!("cancels {id:.10}"));
    let now = Timestamp(EPOCH + world.lock().now_of(node));
    let _ = door.cancel(&id, now).await;
}

/// One, or all that are dead letters.
async fn send_again(world: &Shared, door: &Arc<Door>, node: usize) {
    let now = world.lock().now_of(node);
    if world.chance(0.5) {
        let Some(id) = some_promise(world) else { return };
        world.asked_again(&id);
        world.node_tells(node, format_args!("sends {id:.10} again"));
        let _ = door.redeliver(&id, Timestamp(EPOCH + now)).await;
        return;
    }
    world.lock().all_sent_again += 1;
    world.node_tells(node, format_args!("sends all dead letters again"));
    let client = world.chance(0.5).then(|| CLIENTS[0].to_owned());
    let filter = RedeliveryFilter {
        client,
        state: if world.chance(0.8) { State::Undeliverable } else { State::Delivered },
        since: Timestamp(0),
        until: Timestamp(EPOCH + now),
        callback_host: None,
    };
    let id = format!("rdl_{:032x}", world.lock().rng.random::<u128>());
    let created_at = Timestamp(EPOCH + now);
    let new = NewRedelivery { id, owner: "ats".to_owned(), filter, created_at };
    let _ = door.begin_redelivery(new).await;
    let _ = door.step_redelivery(&[], 1, created_at).await;
}

fn callback(world: &Shared, client: &str) -> (String, String) {
    let host = match world.between(0, 10) {
        0..4 => "gateway.example".to_owned(),
        4 => "sick.example".to_owned(),
        _ => format!("{client}.example"),
    };
    let gone = world.lock().faults.gone && host.starts_with(client) && world.chance(0.2);
    let url = format!("https://{host}/{client}{}", if gone { "/gone" } else { "" });
    if gone {
        world.lock().gone.insert(url.clone());
    }
    (url, host)
}

/// A registration of a new task, or of one that is there already.
fn registration(world: &Shared, node: usize, give_up: Option<i64>) -> NewRegistration {
    let now = world.lock().now_of(node);
    let known: Vec<String> = world.lock().lives.keys().cloned().collect();
    let task = match known.choose(&mut world.lock().rng) {
        Some(known) if give_up.is_none() => Some(known.clone()),
        _ => None,
    };
    let task = task.filter(|_| world.chance(0.2)).unwrap_or_else(|| new_task(world, now));
    let accounts = if world.lock().daemons > 1 { ACCOUNTS.len() } else { 1 };
    let which = usize::try_from(u128::from_str_radix(&task, 16).unwrap_or(0) % 3).unwrap_or(0);
    let account = ACCOUNTS[which % accounts];
    let client = CLIENTS[usize::try_from(world.between(0, 3)).unwrap_or(0)];
    let (callback_url, callback_host) = callback(world, client);
    let short = world.lock().faults.short_deadlines && world.chance(0.2);
    let give_up_after = match give_up {
        Some(after) => after,
        None if short => world.between(1_000, 30_000),
        None => 240_000,
    };
    let id = format!("reg_{:032x}", world.lock().rng.random::<u128>());
    let created_at = world.wall_of(node);
    NewRegistration {
        id,
        client: client.into(),
        task: TaskRef {
            kind: Kind::HireWebsiteDelivery,
            account: account.into(),
            website_id: "7047318856652261676".into(),
            delivery_task_id: task,
        },
        callback_url,
        callback_origin: format!("https://{callback_host}:443"),
        callback_host,
        metadata: "{}".into(),
        created_at,
        give_up_at: Timestamp(created_at.0 + give_up_after),
    }
}

fn new_task(world: &Shared, now: i64) -> String {
    let mut world = world.lock();
    let id: u128 = world.rng.random();
    let end = match world.rng.random_range(0..20) {
        0 => None,
        1..5 => Some(Class::Failed),
        _ => Some(Class::Succeeded),
    };
    let sick = world.faults.sick_tasks && world.rng.random_bool(0.15);
    let kinds = [
        Sickness::UnknownCode,
        Sickness::Html,
        Sickness::AccountCode,
        Sickness::Reset,
        Sickness::Hangs,
    ];
    let life = Life {
        known_from: now + world.rng.random_range(-3_000..1_500),
        settles_at: now + world.rng.random_range(-2_000..60_000),
        end,
        sick: kinds.choose(&mut world.rng).copied().filter(|_| sick),
    };
    let name = format!("{id:032x}");
    world.lives.insert(name.clone(), life);
    name
}
