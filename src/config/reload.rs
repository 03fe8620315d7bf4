//! What a reload can change, and what needs a restart.

use super::model::Config;

/// The keys that differ but only take effect after a restart. Accounts, clients, delivery and log
/// settings take effect at once (the contract's list); sockets, the store and what every lane was
/// started with do not.
#[must_use]
pub fn restart_needed(old: &Config, new: &Config) -> Vec<&'static str> {
    let differs = [
        ("http.listen", old.http.listen != new.http.listen),
        ("http.open_metrics", old.http.open_metrics != new.http.open_metrics),
        ("store.url", old.store != new.store),
        ("polling.give_up_after", old.polling.give_up_after != new.polling.give_up_after),
        ("polling.not_found_grace", old.polling.not_found_grace != new.polling.not_found_grace),
        ("polling.poll_worth", old.polling.poll_worth != new.polling.poll_worth),
        ("retention.delivered", old.retention.delivered != new.retention.delivered),
        ("retention.undeliverable", old.retention.undeliverable != new.retention.undeliverable),
        ("retention.attempts", old.retention.attempts != new.retention.attempts),
    ];
    differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}

/// The settings that hold after a reload: the new ones as far as a running daemon can change, and
/// what it was started with for the rest. So what is compared next time is what runs.
#[must_use]
pub fn reloaded(running: &Config, new: Config) -> Config {
    Config {
        http: running.http.clone(),
        store: running.store.clone(),
        polling: running.polling.clone(),
        retention: running.retention.clone(),
        ..new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_what_a_running_daemon_cannot_change_needs_a_restart() {
        let old = Config::default();
        let mut new = old.clone();
        new.delivery.timeout = Duration::from_secs(1);
        new.log.level = "debug".to_owned();
        assert_eq!(restart_needed(&old, &new), Vec::<&str>::new());
        new.http.open_metrics = true;
        new.retention.delivered = Duration::from_secs(1);
        assert_eq!(restart_needed(&old, &new), ["http.open_metrics", "retention.delivered"]);
        let after = reloaded(&old, new.clone());
        assert_eq!((after.delivery.timeout, &*after.log.level), (Duration::from_secs(1), "debug"));
        assert!(!after.http.open_metrics);
        let again = ["http.open_metrics", "retention.delivered"];
        assert_eq!(restart_needed(&after, &new), again, "said until it is true");
        assert_eq!(restart_needed(&after, &old), Vec::<&str>::new(), "taken back");
        new.store = crate::config::StoreUrl::Sqlite("elsewhere".into());
        new.polling.give_up_after = Duration::from_secs(1);
        assert_eq!(restart_needed(&old, &new).len(), 4);
        assert_eq!(restart_needed(&old, &reloaded(&old, new)), Vec::<&str>::new(), "as it runs");
    }
}
