//! How the stand-in behaves, before anybody steers it.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use super::settle::Settle;
use super::windows::Windows;

/// Life of a fresh token: what Feishu's own sample shows.
const TOKEN_LIFE: Duration = Duration::from_secs(7200);

/// Everything that can be set from outside.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The apps that may log in.
    pub apps: Vec<App>,
    /// The quota of the poll, per app and tenant.
    pub poll_quota: Windows,
    /// The quota of the create call, per app and tenant.
    pub create_quota: Windows,
    /// The HTTP status of 99991400: Feishu documents both 429 and 400.
    pub quota_status: QuotaStatus,
    /// How long tasks take.
    pub settle: Settle,
    /// Which part of the tasks is rejected.
    pub fail: Percent,
    /// Which part of the tasks fails as a duplicate.
    pub duplicate: Percent,
    /// Which part of the calls meets a fault (5xx, HTML pages, resets, slow bodies).
    pub chaos: Percent,
    /// The same seed gives the same tasks and the same faults.
    pub seed: u64,
    /// Life of a fresh token.
    pub token_life: Duration,
    /// Age at which Feishu deletes a task; never if `None`.
    pub task_life: Option<Duration>,
    /// Network round trip: half is waited before a call is judged, half after.
    pub latency: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            apps: vec![App::default()],
            poll_quota: Windows::default(),
            create_quota: Windows::default(),
            quota_status: QuotaStatus::TooManyRequests,
            settle: Settle::default(),
            fail: Percent(0.0),
            duplicate: Percent(0.0),
            chaos: Percent(0.0),
            seed: 0,
            token_life: TOKEN_LIFE,
            task_life: None,
            latency: Duration::ZERO,
        }
    }
}

/// One app of the open platform.
#[derive(Clone, Debug)]
pub struct App {
    /// `cli_…`
    pub id: String,
    /// Its secret.
    pub secret: String,
    /// For a store app, where its events go.
    pub store: Option<StoreApp>,
}

impl App {
    /// The id of the app that is there by default.
    pub const ID: &str = "cli_mock5a1d3b7c9e02";
    /// Its secret: of a stand-in, so it hides nothing.
    pub const SECRET: &str = "mock-app-secret";
}

impl Default for App {
    fn default() -> Self {
        Self { id: Self::ID.into(), secret: Self::SECRET.into(), store: None }
    }
}

/// What makes an app a store app.
#[derive(Clone, Debug, Default)]
pub struct StoreApp {
    /// Where tickets are pushed to; nowhere if `None`.
    pub event_url: Option<String>,
    /// Sent in every event.
    pub verification_token: String,
    /// Encrypts and signs events, where there is one.
    pub encrypt_key: Option<String>,
    /// The tenants that installed the app; any tenant if empty.
    pub tenants: Vec<String>,
}

/// The two statuses that Feishu uses for a spent quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaStatus {
    /// 429, what the documents promise.
    TooManyRequests,
    /// 400, what older gateways send.
    BadRequest,
}

impl QuotaStatus {
    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::TooManyRequests => 429,
            Self::BadRequest => 400,
        }
    }
}

impl FromStr for QuotaStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "429" => Ok(Self::TooManyRequests),
            "400" => Ok(Self::BadRequest),
            _ => Err("give 429 or 400".into()),
        }
    }
}

/// A share, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(pub f64);

impl Percent {
    /// The share as a probability.
    #[must_use]
    pub fn probability(self) -> f64 {
        self.0 / 100.0
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: Option<f64> = text.strip_suffix('%').unwrap_or(text).trim().parse().ok();
        match number {
            Some(value) if (0.0..=100.0).contains(&value) => Ok(Self(value)),
            _ => Err("give a percentage from 0% to 100%".into()),
        }
    }
}

/// A duration such as `250ms`, `60s`, `5m`, `2h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{text}` needs a unit: ms, s, m or h")),
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|value| Duration::try_from_secs_f64(value * scale).ok())
        .ok_or_else(|| format!("`{text}` is not a duration such as 250ms, 60s or 5m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert!(duration("60").is_err());
        assert!(duration("-1s").is_err());
        assert!(duration("s").is_err());
    }

    #[test]
    fn a_percentage_stays_within_its_bounds() {
        assert_eq!("10%".parse(), Ok(Percent(10.0)));
        assert_eq!("2.5".parse(), Ok(Percent(2.5)));
        assert!("101%".parse::<Percent>().is_err());
        assert!("-1".parse::<Percent>().is_err());
        assert!("NaN".parse::<Percent>().is_err());
    }
}
