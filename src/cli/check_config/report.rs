//! What `check-config` prints. Secrets appear as where they came from, never as what they are.

use std::fmt::Write;
use std::time::Duration;

use url::Url;

use super::online::Check;
use crate::config::{
    Account, CallbackAllow, Client, Config, Credentials, Listen, Loaded, LogFormat, Role,
    SecretUse, StoreUrl,
};

/// Everything that was found.
pub(super) fn found(loaded: &Loaded) -> String {
    let mut text = match &loaded.file {
        Some(file) => format!("{}: ok\n\n", file.display()),
        None => "no configuration file: built-in defaults and environment: ok\n\n".to_owned(),
    };
    let config = &loaded.config;
    line(&mut text, "listen", &listen(&config.http.listen));
    line(&mut text, "store", &store(&config.store));
    let store_url: Vec<&SecretUse> = secrets(&loaded.secrets, "store.url").collect();
    sources(&mut text, &store_url);
    line(&mut text, "accounts", &config.accounts.len().to_string());
    for (index, each) in config.accounts.iter().enumerate() {
        line(&mut text, &format!("  {}", each.name), &account(each));
        let prefix = format!("accounts[{index}].");
        sources(&mut text, &secrets(&loaded.secrets, &prefix).collect::<Vec<_>>());
    }
    line(&mut text, "clients", &config.clients.len().to_string());
    for (index, each) in config.clients.iter().enumerate() {
        line(&mut text, &format!("  {}", each.name), &client(each));
        let prefix = format!("clients[{index}].");
        sources(&mut text, &secrets(&loaded.secrets, &prefix).collect::<Vec<_>>());
    }
    settings(&mut text, config);
    text
}

fn settings(text: &mut String, config: &Config) {
    let polling = &config.polling;
    let polling = format!(
        "gives up after {}, believes \"not found\" after {}, a poll is worth {}",
        duration(polling.give_up_after),
        duration(polling.not_found_grace),
        duration(polling.poll_worth)
    );
    line(text, "polling", &polling);
    let delivery = &config.delivery;
    let delivery = format!(
        "{} attempts over {}, {} each, {} at once to one host",
        delivery.retry_delays.len() + 1,
        duration(delivery.retry_delays.iter().sum()),
        duration(delivery.timeout),
        delivery.concurrency_per_host
    );
    line(text, "delivery", &delivery);
    line(text, "retention", &duration(config.retention.delivered));
    let format = match config.log.format {
        LogFormat::Auto => "auto",
        LogFormat::Text => "text",
        LogFormat::Json => "json",
        LogFormat::Journald => "journald",
    };
    line(text, "log", &format!("{}, {format}", config.log.level));
}

/// The result of every online check.
pub(super) fn checked(results: &[(String, Check)]) -> String {
    let mut text = String::from("\n");
    for (what, check) in results {
        let result = match check {
            Check::Ok(found) => format!("ok: {found}"),
            Check::Failed { what, advice } => format!("FAILED: {what}\n{:26}{advice}", ""),
            Check::Skipped(why) => format!("not checked: {why}"),
        };
        let _ = writeln!(text, "{what:<25} {result}");
    }
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{name:<12} {value}");
}

fn sources(text: &mut String, uses: &[&SecretUse]) {
    for secret in uses {
        let key = secret.key.split_once("].").map_or(secret.key.as_str(), |(_, key)| key);
        line(text, "", &format!("{key} from {}", secret.from));
    }
}

fn secrets<'a>(uses: &'a [SecretUse], prefix: &'a str) -> impl Iterator<Item = &'a SecretUse> {
    uses.iter().filter(move |secret| secret.key.starts_with(prefix))
}

fn listen(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => format!("http://{address}"),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn store(store: &StoreUrl) -> String {
    match store {
        StoreUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
        // User and parameters may be secret; the host and the database tell enough.
        StoreUrl::Postgres(url) => match Url::parse(url.expose()) {
            Ok(url) => format!("postgres://{}{}", url.host_str().unwrap_or(""), url.path()),
            Err(_) => "postgres".to_owned(),
        },
    }
}

fn account(account: &Account) -> String {
    let app = match &account.credentials {
        Credentials::Internal { app_id, .. } => format!("internal app {app_id}"),
        Credentials::Store { app_id, tenant_key, .. } => {
            format!("store app {app_id}, tenant {tenant_key}")
        }
    };
    let (second, minute) = (account.quota.per_second, account.quota.per_minute);
    let url = account.base_url.as_str().trim_end_matches('/');
    format!("{app}, {url}, quota {second} a second and {minute} a minute")
}

fn client(client: &Client) -> String {
    let role = match client.role {
        Role::Client => "client",
        Role::Operator => "operator",
    };
    let counted = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let mut signs = counted(client.signing_secrets.len(), "signing secret");
    if !client.signing_keys.is_empty() {
        signs = format!("{signs} and {}", counted(client.signing_keys.len(), "key"));
    }
    let allow: Vec<String> = client
        .callback_allow
        .iter()
        .map(|entry| match entry {
            CallbackAllow::Cidr(range) => range.to_string(),
            CallbackAllow::Host(host) => host.clone(),
            CallbackAllow::Origin(url) => url.as_str().trim_end_matches('/').to_owned(),
        })
        .collect();
    let allow = match allow.as_slice() {
        [] => "callbacks to public https".to_owned(),
        _ => format!("callbacks to public https and {}", allow.join(", ")),
    };
    format!("{role}, {signs}, {allow}")
}

fn duration(duration: Duration) -> String {
    let days = duration.as_secs() / 86_400;
    if days > 0 && duration == Duration::from_secs(days * 86_400) {
        return format!("{days}d");
    }
    jiff::SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{}s", duration.as_secs()), |duration| format!("{duration:#}"))
}
