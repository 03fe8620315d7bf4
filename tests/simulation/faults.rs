//! Which faults a seed has: each enables a random subset, so that rare combinations are met and
//! each fault is also seen alone.

use rand::RngExt;
use rand::rngs::StdRng;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident: $share:literal,)*) => {
        /// What may go wrong in one history.
        #[derive(Clone, Debug)]
        pub struct Faults {
            $($(#[$doc])* pub $name: bool,)*
        }

        impl Faults {
            pub fn draw(rng: &mut StdRng) -> Self {
                Self { $($name: rng.random_bool($share),)* }
            }

            pub fn none() -> Self {
                Self { $($name: false,)* }
            }

            /// The names of those that are on, for the trace.
            pub fn names(&self) -> Vec<&'static str> {
                let all = [$((stringify!($name), self.$name),)*];
                all.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect()
            }
        }
    };
}

faults! {
    // The store.
    /// Every verb takes milliseconds, some seconds.
    store_slow: 0.4,
    /// Now and then nothing is answered for many seconds.
    store_stalls: 0.2,
    /// Verbs fail before anything is stored.
    store_refuses: 0.4,
    /// Verbs are stored and answer "unavailable".
    store_lies: 0.3,
    /// Hints between daemons are lost.
    hints_lost: 0.2,
    // The daemons.
    /// Processes die between any two effects.
    crashes: 0.4,
    /// Processes are told to stop.
    stops: 0.3,
    /// Processes are stopped by SIGSTOP for a while.
    pauses: 0.3,
    /// Machines sleep: the steady clock goes on, timers do not.
    sleeps: 0.2,
    /// Virtual machines are paused: only the wall clock goes on.
    vm_pauses: 0.15,
    /// Wall clocks are stepped.
    wall_steps: 0.25,
    /// A daemon does not reach the store for a while.
    partitions: 0.25,
    // Feishu.
    /// It is away for a while.
    upstream_away: 0.3,
    /// Replies are lost, or come late.
    replies_lost: 0.4,
    /// Some polls are never answered.
    replies_hang: 0.15,
    /// The quota is refused, tokens are refused, the account is suspended for a while.
    account_trouble: 0.3,
    /// Some tasks can never be polled.
    sick_tasks: 0.4,
    // Receivers and clients.
    /// Receivers fail now and then, or name a wait.
    receivers_fail: 0.4,
    /// Receivers take a callback and do not say so.
    receivers_forget: 0.3,
    /// One receiver is never there.
    sick_receiver: 0.3,
    /// One client's callbacks all fail, on an origin that others use.
    sick_client: 0.3,
    /// Some callbacks answer 410.
    gone: 0.2,
    /// Clients call off.
    cancels: 0.4,
    /// People send again, one and many.
    redeliveries: 0.3,
    /// Deadlines are short.
    short_deadlines: 0.3,
    /// Many registrations expire together.
    mass_expiry: 0.1,
}

impl Faults {
    /// Whether nothing is wrong with what all share: then bounds hold from the start.
    pub fn only_single_things_are_sick(&self) -> bool {
        !(self.store_slow
            || self.store_stalls
            || self.store_refuses
            || self.store_lies
            || self.hints_lost
            || self.daemons_suffer()
            || self.upstream_away
            || self.replies_lost
            || self.replies_hang
            || self.account_trouble
            || self.receivers_fail
            || self.receivers_forget)
    }

    /// Turns off what all share.
    pub fn leave_only_single_things_sick(&mut self) {
        *self = Self {
            sick_tasks: self.sick_tasks,
            sick_receiver: self.sick_receiver,
            sick_client: self.sick_client,
            gone: self.gone,
            cancels: self.cancels,
            redeliveries: self.redeliveries,
            short_deadlines: self.short_deadlines,
            mass_expiry: self.mass_expiry,
            ..Self::none()
        };
    }

    fn daemons_suffer(&self) -> bool {
        self.crashes
            || self.stops
            || self.pauses
            || self.sleeps
            || self.vm_pauses
            || self.wall_steps
            || self.partitions
    }
}
