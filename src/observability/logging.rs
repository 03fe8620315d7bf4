//! Logging set-up: every line to standard error, each a single write.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Scope};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::line::{Line, Look};
use crate::clock::{Clock, SystemClock};
use crate::config::{Log, LogFormat};

/// Why logging could not be set up as the settings say.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Neither a level nor a filter.
    #[error(
        "log.level `{level}` is not a level or filter such as `info` or `info,outcomed::polling=debug`: {detail}"
    )]
    Filter {
        /// What was written.
        level: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Something in this process logs already.
    #[error("logging is set up already: {0}")]
    Twice(#[from] TryInitError),
}

/// Changes what is logged, and how, while the daemon runs.
#[derive(Clone)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    look: Arc<RwLock<Look>>,
    surroundings: Surroundings,
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogHandle").finish_non_exhaustive()
    }
}

impl LogHandle {
    /// From now on, log as `log` says. A bad filter changes nothing.
    pub fn reload(&self, log: &Log) -> Result<(), LogError> {
        let filter = filter(&log.level)?;
        // It fails only once the subscriber is gone, and then there is nothing left to change.
        let _ = self.filter.reload(filter);
        *self.look.write().unwrap_or_else(PoisonError::into_inner) = self.surroundings.look(log);
        Ok(())
    }
}

/// Logs to standard error from now on. Once a process.
pub fn init(log: &Log) -> Result<LogHandle, LogError> {
    let out = Box::new(std::io::stderr());
    let (subscriber, handle) = subscriber(log, Surroundings::of_stderr(), out)?;
    subscriber.try_init()?;
    Ok(handle)
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(level)
        .map_err(|error| LogError::Filter { level: level.to_owned(), detail: error.to_string() })
}

/// What `auto` and colours depend on.
#[derive(Clone, Copy, Debug, Default)]
struct Surroundings {
    journald: bool,
    colour: bool,
}

impl Surroundings {
    fn of_stderr() -> Self {
        let stderr = std::io::stderr();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { journald: stderr_is_journald(), colour: stderr.is_terminal() && !no_colour }
    }

    fn look(self, log: &Log) -> Look {
        match log.format {
            LogFormat::Json => Look::Json,
            LogFormat::Journald => Look::Journald,
            LogFormat::Auto if self.journald => Look::Journald,
            LogFormat::Auto | LogFormat::Text => Look::Text { colour: self.colour },
        }
    }
}

/// systemd.exec(5): `JOURNAL_STREAM` is inherited, so it counts only if it names this very stream.
fn stderr_is_journald() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(copy) = std::io::stderr().as_fd().try_clone_to_owned() else { return false };
    let Ok(metadata) = std::fs::File::from(copy).metadata() else { return false };
    stream == format!("{}:{}", metadata.dev(), metadata.ino())
}

type Out = Box<dyn Write + Send>;

fn subscriber(
    log: &Log,
    surroundings: Surroundings,
    out: Out,
) -> Result<(impl Subscriber + Send + Sync + 'static, LogHandle), LogError> {
    let (filter, handle) = reload::Layer::new(filter(&log.level)?);
    let look = Arc::new(RwLock::new(surroundings.look(log)));
    let lines = Lines { look: look.clone(), out: Mutex::new(out), clock: SystemClock::new() };
    let subscriber = Registry::default().with(filter).with(lines);
    Ok((subscriber, LogHandle { filter: handle, look, surroundings }))
}

struct Lines {
    look: Arc<RwLock<Look>>,
    out: Mutex<Out>,
    clock: SystemClock,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut values = Values::default();
        attributes.record(&mut values);
        span.extensions_mut().insert(values);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(values) = span.extensions_mut().get_mut::<Values>() {
            record.record(values);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut values = Values::default();
        for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
            if let Some(of_span) = span.extensions().get::<Values>() {
                values.fields.extend(of_span.fields.iter().cloned());
            }
        }
        event.record(&mut values);
        let line = Line {
            at: self.clock.wall(),
            level: *event.metadata().level(),
            target: values.log_target.as_deref().unwrap_or(event.metadata().target()),
            message: &values.message,
            fields: &values.fields,
        };
        let look = *self.look.read().unwrap_or_else(PoisonError::into_inner);
        let text = line.render(look);
        // Whoever cannot be told is not worth dying for.
        let _ = self.out.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes());
    }
}

#[derive(Default)]
struct Values {
    message: String,
    log_target: Option<String>,
    fields: Vec<(&'static str, Value)>,
}

impl Values {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            // What the `log` crate's users say arrives with these in place of a real target.
            ("log.target", Value::String(text)) => self.log_target = Some(text),
            ("log.module_path" | "log.file" | "log.line", _) => {}
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Values {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::from(format!("{value:?}")));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::from(value));
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, Value::from(value.to_string()));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::from(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::from(value));
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Value::from(value));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::from(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
        }
    }

    fn log(level: &str, format: LogFormat) -> Log {
        Log { level: level.into(), format }
    }

    fn under(log: &Log, surroundings: Surroundings, run: impl FnOnce(&LogHandle, &Page)) {
        let page = Page::default();
        let (subscriber, handle) = subscriber(log, surroundings, Box::new(page.clone())).unwrap();
        tracing::subscriber::with_default(subscriber, || run(&handle, &page));
    }

    #[test]
    fn a_line_carries_its_own_values_and_those_of_its_spans() {
        under(&log("info", LogFormat::Journald), Surroundings::default(), |_, page| {
            let span =
                tracing::info_span!("lane", account = "default", epoch = tracing::field::Empty);
            span.record("epoch", 4);
            span.in_scope(|| tracing::warn!(polls = 3, "stopped"));
            let line = page.take();
            assert!(line.starts_with("<4>observability::logging::tests: stopped "), "{line}");
            assert!(line.ends_with(" account=default epoch=4 polls=3\n"), "{line}");
        });
    }

    #[test]
    fn a_reload_changes_level_and_format_and_a_bad_one_changes_nothing() {
        under(&log("warn", LogFormat::Text), Surroundings::default(), |handle, page| {
            tracing::info!("unheard");
            assert_eq!(page.take(), "");
            handle.reload(&log("debug", LogFormat::Json)).unwrap();
            tracing::debug!("heard");
            assert!(page.take().starts_with('{'));
            let error = handle.reload(&log("outcomed=loud", LogFormat::Text)).unwrap_err();
            assert!(error.to_string().contains("`outcomed=loud`"), "{error}");
            tracing::debug!("still heard");
            assert!(page.take().starts_with('{'));
        });
    }

    #[test]
    fn auto_is_journald_under_journald_and_text_elsewhere() {
        let auto = log("info", LogFormat::Auto);
        let journald = Surroundings { journald: true, colour: false };
        assert_eq!(journald.look(&auto), Look::Journald);
        assert_eq!(Surroundings::default().look(&auto), Look::Text { colour: false });
        assert_eq!(journald.look(&log("info", LogFormat::Text)), Look::Text { colour: false });
    }
}
