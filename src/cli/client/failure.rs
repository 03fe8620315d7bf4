//! What can go wrong between a command and the daemon, told so that a person knows what to do.

use std::fmt;

use serde_json::Value;

use super::render::{escaped, text};
use crate::cli::Exit;

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The arguments are wrong.
    Usage(String),
    /// The daemon cannot be reached.
    Unreachable(String),
    /// The daemon refused.
    Refused {
        /// The HTTP status.
        status: u16,
        /// RFC 9457.
        problem: Value,
    },
    /// Whatever answered, it is not the daemon.
    NotTheApi {
        /// Where.
        url: String,
        /// What it answered.
        status: u16,
    },
    /// The time that the caller allowed is over.
    TimedOut,
}

impl Failure {
    /// No answer, or half of one.
    pub(super) fn unreachable(url: &str, error: &reqwest::Error) -> Self {
        // The outer errors only repeat the URL; the innermost says what happened.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Self::Unreachable(format!(
            "cannot reach the daemon at {url}: {cause}\n  is `outcomed serve` running? \
             is --url (or OUTCOMED_URL) right?"
        ))
    }

    /// Whether trying again shortly may help.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { status, .. } | Self::NotTheApi { status, .. } => {
                matches!(status, 408 | 429 | 500..)
            }
            Self::Usage(_) | Self::TimedOut => false,
        }
    }

    /// The exit code.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            _ => Exit::Failure,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(detail) | Self::Unreachable(detail) => write!(f, "outcomed: {detail}"),
            Self::Refused { status, problem } => {
                write!(f, "outcomed: {} ({status})", text(problem, "/title"))?;
                let errors = problem.get("errors").and_then(Value::as_array);
                for error in errors.into_iter().flatten() {
                    let place = error.get("pointer").or_else(|| error.get("parameter"));
                    let place = place.and_then(Value::as_str).unwrap_or_default();
                    write!(f, "\n  {}: {}", escaped(place), text(error, "/detail"))?;
                }
                if errors.is_none() {
                    write!(f, "\n  {}", text(problem, "/detail"))?;
                }
                Ok(())
            }
            Self::NotTheApi { url, status } => write!(
                f,
                "outcomed: {url} answered {status} with something that is not the API's\n  \
                 is --url (or OUTCOMED_URL) right?"
            ),
            Self::TimedOut => f.write_str("outcomed: the time is over and no outcome is known yet"),
        }
    }
}
