//! A request's query string: each parameter once, unknown ones refused, all mistakes at once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::duration;
use super::problem::{FieldError, Problem, Result};

/// The parameters not yet taken, and what was wrong with those taken.
pub struct Query {
    left: BTreeMap<String, String>,
    errors: Vec<FieldError>,
    known: Vec<&'static str>,
}

impl Query {
    /// Reads a query string.
    #[must_use]
    pub fn parse(query: Option<&str>) -> Self {
        let mut left = BTreeMap::new();
        let mut errors = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if left.insert(name.to_string(), value.to_string()).is_some() {
                errors.push(FieldError::of_parameter(name, "may be given once only"));
            }
        }
        Self { left, errors, known: Vec::new() }
    }

    /// Takes a parameter as text; an empty one counts as absent.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        self.left.remove(name).filter(|value| !value.is_empty())
    }

    /// Takes a parameter and reads it with `read`, which says what is wrong with it.
    pub fn read<T, E: ToString>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> std::result::Result<T, E>,
    ) -> Option<T> {
        let text = self.text(name)?;
        read(&text)
            .map_err(|error| self.errors.push(FieldError::of_parameter(name, error.to_string())))
            .ok()
    }

    /// Takes a number from 1 to `most`.
    pub fn limit(&mut self, name: &'static str, default: u32, most: u32) -> u32 {
        self.read(name, |text| {
            let number = text.parse().ok().filter(|number| (1..=most).contains(number));
            number.ok_or_else(|| format!("must be a number from 1 to {most}"))
        })
        .unwrap_or(default)
    }

    /// Takes a duration of at most `most`.
    pub fn duration(&mut self, name: &'static str, most: Duration) -> Option<Duration> {
        self.read(name, |text| {
            let duration = duration::parse(text)?;
            let too_long = || format!("may be at most {}", duration::print(most));
            if duration > most { Err(too_long()) } else { Ok(duration) }
        })
    }

    /// Refuses what is left over, and everything that was wrong.
    pub fn finish(mut self) -> Result<()> {
        for name in self.left.into_keys() {
            let known = match self.known.as_slice() {
                [] => "takes no parameters".to_owned(),
                known => format!("takes only: {}", known.join(", ")),
            };
            let detail = format!("unknown parameter `{name}`; this call {known}");
            self.errors.push(FieldError::of_parameter(name, detail));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_of_a_query_is_told_at_once() {
        let mut query = Query::parse(Some("limit=0&wait=2h&sate=watching&state=a&state=b"));
        assert_eq!(query.limit("limit", 50, 1000), 50);
        assert_eq!(query.duration("wait", Duration::from_secs(60)), None);
        query.text("state");
        let problem = query.finish().unwrap_err().to_json();
        let names: Vec<&str> = problem["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["parameter"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["state", "limit", "wait", "sate"]);
    }

    #[test]
    fn good_parameters_are_read() {
        let mut query = Query::parse(Some("limit=7&wait=30s&state=&x=%E9%A3%9E"));
        assert_eq!(query.limit("limit", 50, 1000), 7);
        assert_eq!(query.duration("wait", Duration::from_secs(60)), Some(Duration::from_secs(30)));
        assert_eq!(query.text("state"), None);
        assert_eq!(query.text("x").as_deref(), Some("飞"));
        assert!(query.finish().is_ok());
    }
}
