//! How a command reaches the daemon.

use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use url::Url;

use super::failure::Failure;

/// The longest long poll, and the time it takes to get there and back.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(75);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Where the daemon is, and how to show what it says.
#[derive(Debug, clap::Args)]
pub(super) struct ConnectionArgs {
    /// Where the daemon's API is: an http(s) URL, or unix: and a socket's path
    #[arg(
        long,
        env = "OUTCOMED_URL",
        default_value = "http://127.0.0.1:8474",
        help_heading = "Connection"
    )]
    url: String,
    /// The client's token
    #[arg(long, env = "OUTCOMED_TOKEN", hide_env_values = true, help_heading = "Connection")]
    token: Option<String>,
    /// Print the API's JSON as it is
    #[arg(long)]
    pub(super) json: bool,
}

/// A connection to the daemon.
pub(super) struct Connection {
    client: reqwest::Client,
    base: Url,
    shown: String,
    token: String,
    /// Whether to print the API's JSON as it is.
    pub(super) json: bool,
}

/// What the daemon answered.
pub(super) struct Reply {
    /// The HTTP status, of success.
    pub(super) status: u16,
    /// The body as it came.
    pub(super) text: String,
    /// The body, parsed.
    pub(super) value: Value,
}

impl Connection {
    /// Gets ready; connects to nothing yet.
    pub(super) fn new(args: ConnectionArgs) -> Result<Self, Failure> {
        let token = args.token.filter(|token| !token.is_empty()).ok_or_else(|| {
            Failure::Usage("a token is needed: pass --token, or set OUTCOMED_TOKEN".to_owned())
        })?;
        // Whoever came first has installed the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("outcomed/", env!("CARGO_PKG_VERSION")))
            .timeout(REQUEST_TIME_MAX)
            .connect_timeout(CONNECT_TIME_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        let base = match args.url.strip_prefix("unix:") {
            Some(path) => {
                builder = builder.unix_socket(Path::new(path));
                "http://localhost".to_owned()
            }
            None => args.url.trim_end_matches('/').to_owned(),
        };
        let unfit = |error: &dyn std::fmt::Display| {
            Failure::Usage(format!("`{}` is not an API address: {error}", args.url))
        };
        let base = Url::parse(&base).map_err(|error| unfit(&error))?;
        if base.cannot_be_a_base() || !matches!(base.scheme(), "http" | "https") {
            return Err(unfit(&"give http://, https:// or unix:/path"));
        }
        let client = builder.build().map_err(|error| unfit(&error))?;
        Ok(Self { client, base, shown: args.url, token, json: args.json })
    }

    /// One call; anything but success is a failure.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<String>,
    ) -> Result<Reply, Failure> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        let mut request = self.client.request(method, url).bearer_auth(&self.token);
        if !query.is_empty() {
            request = request.query(query);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let unreachable = |error: reqwest::Error| Failure::unreachable(&self.shown, &error);
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let text = response.text().await.map_err(unreachable)?;
        let parsed = serde_json::from_str(&text);
        match parsed {
            Ok(value) if status.is_success() => Ok(Reply { status: status.as_u16(), text, value }),
            Ok(problem) => Err(Failure::Refused { status: status.as_u16(), problem }),
            Err(_) => Err(Failure::NotTheApi { url: self.shown.clone(), status: status.as_u16() }),
        }
    }

    /// `GET`.
    pub(super) async fn get(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Reply, Failure> {
        self.call(Method::GET, path, query, None).await
    }
}
