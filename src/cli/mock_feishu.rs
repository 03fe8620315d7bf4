//! `mock-feishu`: the stand-in upstream, as a command.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use super::Exit;
use super::stopping::stop_signal;
use crate::mock_feishu::{
    Api, App, Control, MockFeishu, Options, Percent, QuotaStatus, Settle, StoreApp, Windows,
    duration,
};

/// How often the status line comes while something happens.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8480")]
    listen: SocketAddr,
    /// Quota of the poll, per app and tenant: COUNT/DURATION[,…], or off
    #[arg(long, value_name = "QUOTA", default_value = "1000/60s,50/1s")]
    quota: Windows,
    /// Quota of the create call, per app and tenant
    #[arg(long, value_name = "QUOTA", default_value = "1000/60s,50/1s")]
    create_quota: Windows,
    /// HTTP status of a spent quota: 429 or 400
    #[arg(long, value_name = "STATUS", default_value = "429")]
    quota_status: QuotaStatus,
    /// How long tasks take, in seconds: logn:SIGMA,MEDIAN exp:MEAN fixed:S uniform:LOW,HIGH never
    /// or a mixture such as mix:80%logn:0.5,8+20%logn:0.5,50
    #[arg(long, value_name = "FORM", default_value = "logn:0.6,15")]
    settle: Settle,
    /// Which part of the tasks is rejected
    #[arg(long, value_name = "PERCENT", default_value = "0%")]
    fail: Percent,
    /// Which part of the tasks fails as a duplicate
    #[arg(long, value_name = "PERCENT", default_value = "0%")]
    duplicate: Percent,
    /// Which part of the calls meets a fault: 500, HTML 502 and 400, empty 504, reset, slow body
    #[arg(long, value_name = "PERCENT", default_value = "0%")]
    chaos: Percent,
    /// The same seed gives the same tasks and faults
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Life of a fresh access token
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2h")]
    token_life: Duration,
    /// Create this many tasks at once and print their ids
    #[arg(long, value_name = "N", default_value_t = 0)]
    tasks: u32,
    /// The website that they belong to
    #[arg(long, value_name = "ID", default_value = "7047318856652261676")]
    website_id: String,
    /// Age at which tasks are deleted, then answered with 1002008 [default: never]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    task_life: Option<Duration>,
    /// Network round trip to imitate
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    latency: Duration,
    /// The app that may log in
    #[arg(long, value_name = "ID", default_value = App::ID)]
    app_id: String,
    /// Its secret
    #[arg(long, value_name = "SECRET", default_value = App::SECRET)]
    app_secret: String,
    /// Make it a store app, and push its tickets here
    #[arg(long, value_name = "URL", requires = "verification_token")]
    event_url: Option<String>,
    /// The store app's verification token
    #[arg(long, value_name = "TOKEN", requires = "event_url")]
    verification_token: Option<String>,
    /// The store app's encrypt key: events are then encrypted and signed
    #[arg(long, value_name = "KEY", requires = "event_url")]
    encrypt_key: Option<String>,
    /// A tenant that installed the store app (repeatable) [default: any tenant]
    #[arg(long, value_name = "KEY", requires = "event_url")]
    tenant_key: Vec<String>,
}

/// Runs the command.
pub fn run(args: Args) -> Exit {
    let listen = args.listen;
    // An event that the daemon refuses is worth seeing.
    let log =
        tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let _ = log.with_max_level(tracing::Level::WARN).try_init();
    if args.fail.0 + args.duplicate.0 > 100.0 {
        let _ = failed("--fail and --duplicate are more than 100% together");
        return Exit::Usage;
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start: {error}")),
    };
    match runtime.block_on(serve(args)) {
        Ok(()) => Exit::Success,
        Err(error) => failed(&format!("cannot listen on {listen}: {error}")),
    }
}

fn failed(why: &str) -> Exit {
    let _ = writeln!(io::stderr(), "mock-feishu: {why}");
    Exit::Failure
}

impl Args {
    fn options(self) -> Options {
        let store = self.event_url.map(|url| StoreApp {
            event_url: Some(url),
            verification_token: self.verification_token.unwrap_or_default(),
            encrypt_key: self.encrypt_key,
            tenants: self.tenant_key,
        });
        Options {
            listen: self.listen,
            apps: vec![App { id: self.app_id, secret: self.app_secret, store }],
            poll_quota: self.quota,
            create_quota: self.create_quota,
            quota_status: self.quota_status,
            settle: self.settle,
            fail: self.fail,
            duplicate: self.duplicate,
            chaos: self.chaos,
            seed: self.seed,
            token_life: self.token_life,
            task_life: self.task_life,
            latency: self.latency,
        }
    }
}

async fn serve(args: Args) -> io::Result<()> {
    let stopped = stop_signal()?;
    tokio::pin!(stopped);
    let (tasks, website_id) = (args.tasks, args.website_id.clone());
    let options = args.options();
    let apps = options.apps.clone();
    let mock = MockFeishu::start(options).await?;
    let mut err = io::stderr();
    let _ = writeln!(err, "Feishu's stand-in listens on {}", mock.base_url());
    let snippets = apps.iter().map(|app| snippet(app, &mock.base_url()));
    let ids = (0..tasks).map(|_| {
        let task_id = mock.control().draw_task(&website_id);
        format!("# website_id {website_id} delivery_task_id {task_id}\n")
    });
    let usable: String = snippets.chain(ids).collect();
    let _ = io::stdout().write_all(usable.as_bytes()).and_then(|()| io::stdout().flush());
    let mut ticks = tokio::time::interval(STATUS_EVERY);
    let mut last = String::new();
    loop {
        tokio::select! {
            () = &mut stopped => break,
            _ = ticks.tick() => {}
        }
        let line = status(mock.control());
        if line != last {
            let _ = writeln!(err, "{line}");
            last = line;
        }
    }
    let _ = writeln!(err, "{}\nstopped", status(mock.control()));
    mock.stop().await;
    Ok(())
}

/// An account for `config.toml`, ready to be pasted.
fn snippet(app: &App, base_url: &str) -> String {
    let mut lines = vec!["[[accounts]]".to_owned(), "name = \"default\"".to_owned()];
    let mut line = |key: &str, value: &str| lines.push(format!("{key} = {value:?}"));
    if let Some(store) = &app.store {
        line("kind", "store");
        line("tenant_key", store.tenants.first().map_or("any-tenant", String::as_str));
        line("verification_token", &store.verification_token);
        if let Some(key) = &store.encrypt_key {
            line("encrypt_key", key);
        }
    }
    line("app_id", &app.id);
    line("app_secret", &app.secret);
    line("base_url", base_url);
    lines.push(String::new());
    lines.join("\n")
}

fn status(control: &Control) -> String {
    let tasks = control.task_count();
    control.journal(|journal| {
        let answered = |word| journal.answered(Api::Poll, word);
        format!(
            "tasks {tasks} · logins {} · polls {}: pending {}, succeeded {}, rejected {}, \
             duplicate {}, not found {}, quota {}",
            journal.calls(Api::Auth),
            journal.calls(Api::Poll),
            answered("pending"),
            answered("succeeded"),
            answered("rejected"),
            answered("duplicate"),
            answered("task_not_found"),
            answered("quota"),
        )
    })
}
