//! What a setting's text means. Complaints follow the key's name: "`http.listen` is not …".

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use url::{Host, Url};

use super::model::{Listen, LogFormat};
use super::reader::Bad;

/// Names are labels of metrics and parts of log lines.
const NAME_CHARS_MAX: usize = 64;
/// Longer is a slip, and times are summed in 64-bit milliseconds.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);
/// Times are whole milliseconds: anything shorter would silently be zero.
const DURATION_MIN: Duration = Duration::from_millis(1);

/// `[a-z0-9_-]{1,64}`
pub(super) fn name(text: &str) -> Result<String, Bad> {
    let is_fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    if (1..=NAME_CHARS_MAX).contains(&text.len()) && text.chars().all(is_fine) {
        return Ok(text.to_owned());
    }
    Err(Bad::new("is not a name").help("use 1 to 64 of a-z, 0-9, `_` and `-`"))
}

/// An id that Feishu gave: `cli_…`, a tenant key.
pub(super) fn upstream_id(text: &str) -> Result<String, Bad> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(Bad::new("is empty, or holds spaces or characters that no such id has")
        .help("copy it from the developer console"))
}

/// `30s`, `1h 30m`, `30d` (days are 24 hours); zero is allowed.
pub(super) fn duration_or_zero(text: &str) -> Result<Duration, Bad> {
    let bad = |message: &str| Err(Bad::new(message).help("write one such as 500ms, 30s, 1h or 7d"));
    let Ok(span) = text.parse::<Span>() else {
        return bad("is not a duration");
    };
    // jiff's own duration type refuses days, because some are 23 hours long; ours never are.
    let to_duration = |span: Span| span.to_duration(SpanRelativeTo::days_are_24_hours());
    let Ok(duration) = to_duration(span) else {
        return bad("is not a duration: months and years have no fixed length");
    };
    if duration < SignedDuration::ZERO {
        return bad("must not be negative");
    }
    let duration = duration.unsigned_abs();
    if duration > DURATION_MAX {
        return bad("is longer than 100 years");
    }
    if !duration.is_zero() && duration < DURATION_MIN {
        return bad("is shorter than a millisecond");
    }
    Ok(duration)
}

/// As [`duration_or_zero`], where zero makes no sense.
pub(super) fn duration(text: &str) -> Result<Duration, Bad> {
    match duration_or_zero(text)? {
        Duration::ZERO => Err(Bad::new("must be more than zero")),
        duration => Ok(duration),
    }
}

/// `127.0.0.1:8474` or `unix:/run/outcomed/api.sock`
pub(super) fn listen(text: &str) -> Result<Listen, Bad> {
    let help = "write an address such as 127.0.0.1:8474 or [::]:8474, or unix:/path";
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() {
            return Err(Bad::new("names no socket").help(help));
        }
        return Ok(Listen::Unix(PathBuf::from(path)));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Listen::Tcp(address));
    }
    if let Some(port) = text.strip_prefix(':').filter(|port| port.parse::<u16>().is_ok()) {
        return Err(Bad::new("has no address before the port")
            .help(format!("write 0.0.0.0:{port} for every interface, or 127.0.0.1:{port}")));
    }
    Err(Bad::new("is not an address to listen on").help(help))
}

/// The origin of an upstream, perhaps with a path: https, or http within one's own network (a
/// stand-in, a gateway), because the app's secret travels there.
pub(super) fn base_url(text: &str) -> Result<Url, Bad> {
    let help = "write an origin such as https://open.feishu.cn or https://open.larksuite.com";
    let Ok(mut url) = Url::parse(text) else {
        return Err(Bad::new("is not a URL").help(help));
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Bad::new("must not hold a user name or a password").help(help));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Bad::new("must not have a query or a fragment").help(help));
    }
    match url.scheme() {
        "https" => {}
        "http" if url.host().is_some_and(|host| is_own_network(&host)) => {}
        "http" => {
            return Err(Bad::new("must be https, because the app's secret is sent there")
                .help("http is for loopback, private addresses and names without a dot"));
        }
        _ => return Err(Bad::new("must be an https URL").help(help)),
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Where alerts go: an http(s) URL. Whether it may be called is judged at every attempt, by the
/// rules for the client's callbacks.
pub(super) fn alert_url(text: &str) -> Result<Url, Bad> {
    let help = "write one such as https://hooks.example.com/alerts";
    let url = Url::parse(text).map_err(|_| Bad::new("is not a URL").help(help))?;
    if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
        return Err(Bad::new("must be an https URL").help(help));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(Bad::new("must not hold a user, a password or a fragment").help(help));
    }
    Ok(url)
}

fn is_own_network(host: &Host<&str>) -> bool {
    match host {
        // A name without a dot (a container's, say) and `.internal` are never public.
        Host::Domain(name) => {
            !name.contains('.') || name.ends_with(".localhost") || name.ends_with(".internal")
        }
        Host::Ipv4(ip) => ip.is_loopback() || ip.is_private(),
        Host::Ipv6(ip) => ip.is_loopback() || ip.is_unique_local(),
    }
}

/// A level, or a filter such as `info,outcomed::polling=debug`.
pub(super) fn level(text: &str) -> Result<String, Bad> {
    let bad = || {
        Bad::new("is not a level or a filter")
            .help("use error, warn, info, debug or trace, or info,outcomed::polling=debug")
    };
    // A lone word that is no level would be read as a module's name, and silence all the rest.
    let is_word = text.chars().all(char::is_alphanumeric);
    let is_level = text.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    if text.trim().is_empty() || (is_word && (!is_level || text.parse::<u8>().is_ok())) {
        return Err(bad());
    }
    let filter = tracing_subscriber::EnvFilter::builder().parse(text);
    filter.map(|_| text.to_owned()).map_err(|_| bad())
}

/// `auto`, `text`, `json` or `journald`.
pub(super) fn log_format(text: &str) -> Result<LogFormat, Bad> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        "journald" => Ok(LogFormat::Journald),
        _ => Err(Bad::new("is not a format").help("use auto, text, json or journald")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_what_people_write_and_a_day_is_24_hours() {
        let seconds = |text| duration_or_zero(text).map(|d| d.as_secs_f64()).ok();
        assert_eq!(seconds("30s"), Some(30.0));
        assert_eq!(seconds("1h 30m"), Some(5400.0));
        assert_eq!(seconds("30d"), Some(30.0 * 86_400.0));
        assert_eq!(seconds("2w"), Some(14.0 * 86_400.0));
        assert_eq!(seconds("10ms"), Some(0.01));
        assert_eq!(seconds("0s"), Some(0.0));
        for nonsense in ["", "30", "-5s", "5s ago", "1mo", "1y", "5 parsecs", "10us", "9999999d"] {
            assert_eq!(seconds(nonsense), None, "{nonsense}");
        }
        assert!(duration("0s").is_err());
    }

    #[test]
    fn a_base_url_is_https_or_in_ones_own_network() {
        let url = |text| base_url(text).map(|url| url.to_string()).ok();
        assert_eq!(url("https://open.feishu.cn").as_deref(), Some("https://open.feishu.cn/"));
        assert_eq!(url("https://gw.example/feishu/").as_deref(), Some("https://gw.example/feishu"));
        assert_eq!(url("http://127.0.0.1:9/").as_deref(), Some("http://127.0.0.1:9/"));
        for fine in [
            "http://localhost:1",
            "http://mock:80",
            "http://gw.internal",
            "http://[::1]:1",
            "http://10.0.0.7",
            "http://[fd00::1]",
        ] {
            assert!(url(fine).is_some(), "{fine}");
        }
        for bad in [
            "http://open.feishu.cn",
            "open.feishu.cn",
            "https://u:p@x.cn",
            "https://x.cn?a=1",
            "ftp://x.cn",
            "http://8.8.8.8",
            "https://x.cn#f",
        ] {
            assert_eq!(url(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_level_is_a_level_or_a_filter_but_no_other_word() {
        for fine in ["info", "WARN", "off", "info,outcomed::polling=debug", "outcomed=trace"] {
            assert!(level(fine).is_ok(), "{fine}");
        }
        for bad in ["", "loud", "inf", "3", "info,outcomed=loud"] {
            assert!(level(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_to_listen_on_is_numeric_or_a_socket() {
        assert_eq!(listen("[::1]:80"), Ok(Listen::Tcp("[::1]:80".parse().unwrap())));
        assert_eq!(listen("unix:/run/a.sock"), Ok(Listen::Unix("/run/a.sock".into())));
        for bad in ["", "localhost:80", "127.0.0.1", ":80", "unix:", "127.0.0.1:99999"] {
            assert!(listen(bad).is_err(), "{bad}");
        }
        assert!(listen(":80").unwrap_err().help.unwrap().contains("0.0.0.0:80"));
    }
}
