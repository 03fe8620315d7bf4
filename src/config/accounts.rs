//! `[[accounts]]`

use std::collections::BTreeMap;

use url::{Host, Url};

use super::field::Field;
use super::model::{Account, Credentials, QuotaLimits};
use super::reader::{Bad, Table};
use super::secrets::Secrets;
use super::values;

/// Far above any quota of Feishu's; more is a slip, and every poll in a window is remembered.
const QUOTA_MAX: u32 = 1_000_000;

/// The hosts whose published quota is known.
const PUBLIC_HOSTS: [&str; 2] = ["open.feishu.cn", "open.larksuite.com"];

/// Reads all accounts. Several things may be wrong with several of them.
pub(super) fn read(root: &Table<'_>, secrets: &Secrets<'_>) -> Option<Vec<Account>> {
    let (mut names, mut apps) = (BTreeMap::new(), BTreeMap::new());
    let rows = root.rows("accounts").into_iter();
    let accounts: Vec<Option<Account>> =
        rows.map(|row| account(row, secrets, &mut names, &mut apps)).collect();
    let accounts: Vec<Account> = accounts.into_iter().collect::<Option<_>>()?;
    if accounts.is_empty() {
        root.reader.warn("there are no accounts: nothing can be polled until [[accounts]] has one");
    }
    for (index, account) in accounts.iter().enumerate() {
        if let Some(twin) = accounts[..index].iter().find(|other| share_a_quota(account, other)) {
            root.reader.warn(format!(
                "accounts `{}` and `{}` are the same app and share one quota at Feishu: \
                 give each its part of it, or keep one",
                twin.name, account.name
            ));
        }
    }
    Some(accounts)
}

fn account(
    row: Table<'_>,
    secrets: &Secrets<'_>,
    names: &mut BTreeMap<String, String>,
    apps: &mut BTreeMap<String, (String, Credentials)>,
) -> Option<Account> {
    let name = unique_name(&row, names);
    let base_url = row.field("base_url").or("https://open.feishu.cn").parse(values::base_url);
    let credentials = credentials(&row, secrets).filter(|found| agrees(&row, found, apps));
    let quota = quota(&row);
    warn_above_published(&row, name.as_ref(), base_url.as_ref(), quota);
    row.finish();
    Some(Account { name: name?, credentials: credentials?, base_url: base_url?, quota: quota? })
}

/// A store app has one secret, one token and one key, whichever tenant an account is for: its events
/// are judged by them before anybody knows whose they are.
fn agrees(
    row: &Table<'_>,
    found: &Credentials,
    apps: &mut BTreeMap<String, (String, Credentials)>,
) -> bool {
    let app = row.field("app_id");
    let Some((first, known)) = apps.get(found.app_id()) else {
        if matches!(found, Credentials::Store { .. }) {
            apps.insert(found.app_id().to_owned(), (app.shown(), found.clone()));
        }
        return true;
    };
    let differs = differing(known, found);
    if let Some(key) = differs {
        let message =
            format!("`{}` is the store app of `{first}`, but its `{key}` is another", app.shown());
        let help = format!("give all accounts of the app the same {key}: it is the app's");
        app.error(Bad::new(message).help(help));
    }
    differs.is_none()
}

fn differing(one: &Credentials, other: &Credentials) -> Option<&'static str> {
    let (
        Credentials::Store { app_secret, verification_token, encrypt_key, .. },
        Credentials::Store {
            app_secret: secret, verification_token: token, encrypt_key: key, ..
        },
    ) = (one, other)
    else {
        return None;
    };
    let differ = [
        ("app_secret", app_secret != secret),
        ("verification_token", verification_token != token),
        ("encrypt_key", encrypt_key != key),
    ];
    differ.into_iter().find_map(|(key, differs)| differs.then_some(key))
}

/// Reads `name`, which no other row of the list may have.
pub(super) fn unique_name(row: &Table<'_>, names: &mut BTreeMap<String, String>) -> Option<String> {
    let field = row.field("name");
    let name = field.parse(values::name)?;
    if let Some(first) = names.get(&name) {
        let bad = Bad::new(format!("`{}` repeats `{first}`", field.shown()));
        field.error(bad.help("every name must be different"));
        return None;
    }
    names.insert(name.clone(), field.shown());
    Some(name)
}

fn credentials(row: &Table<'_>, secrets: &Secrets<'_>) -> Option<Credentials> {
    let kind = row.field("kind").or("internal");
    let is_store = kind.parse(|text| match text {
        "internal" => Ok(false),
        "store" => Ok(true),
        _ => Err(Bad::new("is not a kind of app").help("use \"internal\" or \"store\"")),
    });
    let app_id = row.field("app_id").parse(values::upstream_id);
    let app_secret = secrets.follow(&row.field("app_secret"));
    let tenant_key = row.field("tenant_key");
    let verification_token = row.field("verification_token");
    let encrypt_key = row.field("encrypt_key");
    if !is_store? {
        for field in [&tenant_key, &verification_token, &encrypt_key] {
            refuse(field);
        }
        return Some(Credentials::Internal { app_id: app_id?, app_secret: app_secret? });
    }
    let tenant_key = tenant_key.parse(values::upstream_id);
    let verification_token = secrets.follow(&verification_token);
    // Followed before the other parts are insisted on, so that all complaints are told.
    let encrypt_key =
        if encrypt_key.is_absent() { Some(None) } else { secrets.follow(&encrypt_key).map(Some) };
    Some(Credentials::Store {
        app_id: app_id?,
        app_secret: app_secret?,
        tenant_key: tenant_key?,
        verification_token: verification_token?,
        encrypt_key: encrypt_key?,
    })
}

fn refuse(field: &Field<'_>) {
    if !field.is_absent() {
        let bad = Bad::new(format!("`{}` is for store apps only", field.shown()));
        field.error(bad.help("remove it, or set kind = \"store\""));
    }
}

fn quota(row: &Table<'_>) -> Option<QuotaLimits> {
    let table = row.table("quota")?;
    let published = QuotaLimits::default();
    let limit = |key, default| {
        let field = table.field(key);
        if field.is_absent() { Some(default) } else { field.count(QUOTA_MAX) }
    };
    let per_second = limit("per_second", published.per_second);
    let per_minute = limit("per_minute", published.per_minute);
    let quota = match (per_second, per_minute) {
        (Some(second), Some(minute)) if second > minute => {
            let shown = table.shown();
            let bad = format!("`{shown}` allows more a second ({second}) than a minute ({minute})");
            table.error(Bad::new(bad).help("set both per_second and per_minute"));
            None
        }
        (Some(per_second), Some(per_minute)) => Some(QuotaLimits { per_second, per_minute }),
        _ => None,
    };
    table.finish();
    quota
}

/// Warns of a quota that Feishu will not honour.
fn warn_above_published(
    row: &Table<'_>,
    name: Option<&String>,
    base_url: Option<&Url>,
    quota: Option<QuotaLimits>,
) {
    let (Some(name), Some(base_url), Some(quota)) = (name, base_url, quota) else { return };
    let published = QuotaLimits::default();
    let is_public = matches!(base_url.host(), Some(Host::Domain(h)) if PUBLIC_HOSTS.contains(&h));
    let is_more =
        quota.per_second > published.per_second || quota.per_minute > published.per_minute;
    if is_public && is_more {
        row.reader.warn(format!(
            "account `{name}` has a quota above Feishu's published {} a second and {} a minute: \
             polls beyond it are refused unless Feishu raised it for this app",
            published.per_second, published.per_minute
        ));
    }
}

fn share_a_quota(a: &Account, b: &Account) -> bool {
    let tenant = |account: &Account| match &account.credentials {
        Credentials::Internal { .. } => None,
        Credentials::Store { tenant_key, .. } => Some(tenant_key.clone()),
    };
    a.base_url == b.base_url
        && a.credentials.app_id() == b.credentials.app_id()
        && tenant(a) == tenant(b)
}
