//! What is wrong with the settings, where, and what to do: everything at once.

use std::fmt;
use std::path::PathBuf;

use super::excerpt::Excerpt;

/// One thing that is wrong. Neither field ever holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// What is wrong, naming the key.
    pub message: String,
    /// What to do about it, where the message does not say so already.
    pub help: Option<String>,
    /// Where it was written.
    pub place: Place,
}

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// The line, without what may be secret.
        excerpt: Option<Excerpt>,
    },
    /// The file as a whole.
    Path(PathBuf),
    /// In an environment variable.
    Variable(String),
    /// On the command line.
    Flag(&'static str),
    /// Nowhere: it is missing everywhere.
    Nowhere,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column, .. } => {
                write!(f, "{}:{line}:{column}", path.display())
            }
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Nowhere => f.write_str("the configuration"),
        }
    }
}

impl ConfigError {
    /// The error in one line, for a log.
    #[must_use]
    pub fn one_line(&self) -> String {
        match &self.help {
            Some(help) => format!("{}: {}: {help}", self.place, self.message),
            None => format!("{}: {}", self.place, self.message),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        match &self.place {
            Place::File { line, excerpt: Some(excerpt), .. } => {
                let margin = " ".repeat(line.to_string().len());
                let caret =
                    format!("{}{}", " ".repeat(excerpt.start), "^".repeat(excerpt.width.max(1)));
                writeln!(f, "{margin}--> {}", self.place)?;
                writeln!(f, "{margin} |")?;
                writeln!(f, "{line} | {}", excerpt.text)?;
                write!(f, "{margin} | {caret}")?;
                if let Some(help) = &self.help {
                    write!(f, " {help}")?;
                }
                writeln!(f)
            }
            place => {
                writeln!(f, " --> {place}")?;
                self.help.as_ref().map_or(Ok(()), |help| writeln!(f, "  = help: {help}"))
            }
        }
    }
}

/// Everything that is wrong: first the file from top to bottom, then variables, then flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by(|a, b| a.place.cmp(&b.place));
        Self(errors)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.0 {
            writeln!(f, "{error}")?;
        }
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "{} error{plural} in the configuration", self.0.len())
    }
}

impl std::error::Error for ConfigErrors {}
