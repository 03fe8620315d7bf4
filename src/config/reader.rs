//! Reads merged settings key by key and gathers everything that is wrong on the way.
//!
//! A table remembers which keys were asked for; what was not asked for is unknown. So there is no
//! list of keys to keep in step with the code, and one mistake does not hide the next.

use std::cell::RefCell;

use figment::value::{Dict, Value};

use super::errors::{ConfigError, Place};
use super::field::{Field, shown};
use super::layers::{Layers, variable_name};
use super::suggest;

/// What is wrong with a value: a message, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Bad {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// Something was wrong, and has been reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported;

/// Everything found on the way.
pub(super) struct Reader<'a> {
    pub(super) layers: &'a Layers,
    errors: RefCell<Vec<ConfigError>>,
    warnings: RefCell<Vec<String>>,
    /// The variables that would set the keys that were asked for.
    variables: RefCell<Vec<String>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a Layers) -> Self {
        Self {
            layers,
            errors: RefCell::default(),
            warnings: RefCell::default(),
            variables: RefCell::default(),
        }
    }

    /// The whole of the settings.
    pub(super) fn root(&'a self) -> Table<'a> {
        Table::new(self, Vec::new(), self.layers.values())
    }

    pub(super) fn warn(&self, warning: impl Into<String>) {
        self.warnings.borrow_mut().push(warning.into());
    }

    pub(super) fn report(&self, place: Place, bad: Bad) {
        self.errors.borrow_mut().push(ConfigError { message: bad.message, help: bad.help, place });
    }

    /// `OUTCOMED_HTTP_LISTEN` with one underscore would silently do nothing. Other names without
    /// `__` are not ours to judge (Kubernetes sets `OUTCOMED_SERVICE_HOST` by itself).
    pub(super) fn finish(self) -> (Vec<ConfigError>, Vec<String>) {
        for name in &self.layers.flat_variables {
            let known = self.variables.borrow();
            let is_meant =
                |known: &&String| known.contains("__") && known.replace("__", "_") == *name;
            let Some(meant) = known.iter().find(is_meant) else {
                continue;
            };
            let bad = Bad::new(format!("unknown environment variable {name}"));
            let bad = bad.help(format!("did you mean {meant}, with two underscores?"));
            self.report(Place::Variable(name.clone()), bad);
        }
        (self.errors.into_inner(), self.warnings.into_inner())
    }
}

/// A table of settings.
pub(super) struct Table<'a> {
    pub(super) reader: &'a Reader<'a>,
    path: Vec<String>,
    values: Dict,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    fn new(reader: &'a Reader<'a>, path: Vec<String>, values: Dict) -> Self {
        Self { reader, path, values, asked: RefCell::default() }
    }

    /// One key.
    pub(super) fn field(&self, key: &'static str) -> Field<'a> {
        self.asked.borrow_mut().push(key);
        let path: Vec<String> = self.path.iter().cloned().chain([key.to_owned()]).collect();
        self.reader.variables.borrow_mut().push(variable_name(&path));
        let value = self.values.get(key).cloned();
        Field::new(self.reader, path, value)
    }

    /// A table under this one; an absent one is empty.
    pub(super) fn table(&self, key: &'static str) -> Option<Table<'a>> {
        let field = self.field(key);
        match &field.value {
            None => Some(Table::new(self.reader, field.path, Dict::new())),
            Some(Value::Dict(_, values)) => {
                Some(Table::new(self.reader, field.path.clone(), values.clone()))
            }
            Some(_) => field.wrong_type("a table"),
        }
    }

    /// The tables of `[[key]]`, in order.
    pub(super) fn rows(&self, key: &'static str) -> Vec<Table<'a>> {
        let field = self.field(key);
        let help = format!("write [[{key}]] above each one");
        let Some(Value::Dict(_, values)) = &field.value else {
            field.error(Bad::new(format!("`{key}` must be tables")).help(help));
            return Vec::new();
        };
        let mut rows = Vec::new();
        for index in 0..values.len() {
            let Some(value) = values.get(&index.to_string()) else {
                self.gap(key, values, index);
                break;
            };
            let path = [field.path.clone(), vec![index.to_string()]].concat();
            if let Value::Dict(_, row) = value {
                rows.push(Table::new(self.reader, path, row.clone()));
            } else {
                let place = self.reader.layers.place_of_value(&path, value.tag());
                let bad = Bad::new(format!("`{}` must be a table", shown(&path)));
                self.reader.report(place, bad.help(help.clone()));
            }
        }
        rows
    }

    /// Reports the entry of `rows` that is out of the count at `index`: `[accounts]` with single
    /// brackets, or a variable that skips a number.
    fn gap(&self, key: &str, rows: &Dict, index: usize) {
        let is_odd = |name: &&String| name.parse().map_or(true, |number: usize| number >= index);
        let odd = rows.keys().find(is_odd).cloned().unwrap_or_default();
        let path = [key.to_owned(), odd];
        let place = self.reader.layers.place_of_key(&path);
        let help = match place {
            Place::File { .. } => format!("write [[{key}]], with two brackets"),
            _ => format!("count {key} from 0 without gaps: the next one is {index}"),
        };
        let bad = Bad::new(format!("`{}` does not belong to any of {key}", shown(&path)));
        self.reader.report(place, bad.help(help));
    }

    /// Reports something about the table as a whole.
    pub(super) fn error(&self, bad: Bad) {
        self.reader.report(self.reader.layers.place_of_key(&self.path), bad);
    }

    /// Its path, as people write it.
    pub(super) fn shown(&self) -> String {
        shown(&self.path)
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.into_inner();
        for key in self.values.keys().filter(|key| !asked.contains(&key.as_str())) {
            let path = [self.path.clone(), vec![key.clone()]].concat();
            let mut bad = Bad::new(format!("unknown key `{}`", shown(&path)));
            let place = self.reader.layers.place_of_key(&path);
            bad = match suggest::nearest(key, asked.iter().copied()) {
                Some(meant) if matches!(place, Place::Variable(_)) => {
                    let path = [self.path.clone(), vec![meant.to_owned()]].concat();
                    bad.help(format!("did you mean {}?", variable_name(&path)))
                }
                Some(meant) => bad.help(format!("did you mean `{meant}`?")),
                None => bad.help(format!("known here: {}", asked.join(", "))),
            };
            self.reader.report(place, bad);
        }
    }
}
