//! Downstream apps: they register, register again, and call off, whatever happens to the daemon.

use std::sync::Arc;
use std::time::Duration;

use outcomed::clock::{Clock, Timestamp};
use outcomed::outcome::Class;
use outcomed::store::{NewRegistration, Registered, Store};
use outcomed::task::{Kind, TaskRef};
use rand::RngExt;

use super::world::{Life, Promise, Shared};

pub const CLIENTS: [&str; 3] = ["ats", "crm", "erp"];

/// Acts until the daemon dies under it.
pub async fn act(world: Shared, store: Arc<dyn Store>) {
    loop {
        let pause = world.between(1, 3_000).unsigned_abs();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if world.chance(0.08) {
            cancel_one(&world, &store).await;
        } else {
            register_some(&world, &store).await;
        }
    }
}

async fn register_some(world: &Shared, store: &Arc<dyn Store>) {
    let burst = if world.chance(0.03) { world.between(20, 60) } else { 1 };
    let batch: Vec<NewRegistration> = (0..burst).map(|_| registration(world)).collect();
    // Not accepted is not promised, even if it was stored: the client would ask again.
    let Ok(answers) = store.register(batch).await else { return };
    for answer in answers {
        let (Registered::New(accepted) | Registered::Existing(accepted)) = answer;
        world.lock().promises.insert(
            accepted.id,
            Promise { task: accepted.task.delivery_task_id, cancelled: false },
        );
    }
}

async fn cancel_one(world: &Shared, store: &Arc<dyn Store>) {
    let ids: Vec<String> = world.lock().promises.keys().cloned().collect();
    if ids.is_empty() {
        return;
    }
    let index = world.lock().rng.random_range(0..ids.len());
    // Called off from the moment it is asked: whether it still arrives is open.
    world.lock().promises.get_mut(&ids[index]).unwrap().cancelled = true;
    let _ = store.cancel(&ids[index], world.wall()).await;
}

/// A registration of a new task, or of one that is there already.
fn registration(world: &Shared) -> NewRegistration {
    let now = world.wall();
    let known: Vec<String> = world.lock().lives.keys().cloned().collect();
    let task = if !known.is_empty() && world.chance(0.2) {
        known[world.lock().rng.random_range(0..known.len())].clone()
    } else {
        new_task(world)
    };
    let client = CLIENTS[usize::try_from(world.between(0, 3)).unwrap()];
    let give_up_after = if world.chance(0.2) { world.between(1_000, 30_000) } else { 600_000 };
    let id: u128 = world.lock().rng.random();
    NewRegistration {
        id: format!("reg_{id:032x}"),
        client: client.into(),
        task: TaskRef {
            kind: Kind::HireWebsiteDelivery,
            account: "default".into(),
            website_id: "7047318856652261676".into(),
            delivery_task_id: task,
        },
        callback_url: format!("https://{client}.example/hook"),
        callback_origin: format!("https://{client}.example:443"),
        callback_host: format!("{client}.example"),
        metadata: "{}".into(),
        created_at: now,
        give_up_at: Timestamp(now.0 + give_up_after),
    }
}

fn new_task(world: &Shared) -> String {
    let now = world.now();
    let mut world = world.lock();
    let id: u128 = world.rng.random();
    let end = match world.rng.random_range(0..20) {
        0 => None,
        1..5 => Some(Class::Failed),
        _ => Some(Class::Succeeded),
    };
    let life = Life {
        known_from: now + world.rng.random_range(-3_000..1_500),
        settles_at: now + world.rng.random_range(-2_000..90_000),
        end,
    };
    let name = format!("{id:032x}");
    world.lives.insert(name.clone(), life);
    name
}
