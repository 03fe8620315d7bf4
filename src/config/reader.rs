//! Reads merged settings key by key and gathers everything that is wrong on the way.
//!
//! A table remembers which keys were asked for; what was not asked for is unknown. So there is no
//! list of keys to keep in step with the code, and one mistake does not hide the next.

use std::cell::{Cell, RefCell};

use figment::value::{Dict, Num, Tag, Value};

use super::errors::{ConfigError, Place};
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

/// Everything found on the way.
pub(super) struct Reader<'a> {
    layers: &'a Layers,
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

    fn report(&self, place: Place, bad: Bad) {
        self.errors.borrow_mut().push(ConfigError { message: bad.message, help: bad.help, place });
    }

    /// `OUTCOMED_HTTP_LISTEN` with one underscore would silently do nothing. Other names without
    /// `__` are not ours to judge (Kubernetes sets `OUTCOMED_SERVICE_HOST` by itself).
    pub(super) fn finish(self) -> (Vec<ConfigError>, Vec<String>) {
        for name in &self.layers.flat_variables {
            let known = self.variables.borrow();
            let Some(meant) = known.iter().find(|known| known.replace("__", "_") == *name) else {
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
        Field { reader: self.reader, path, value, complained: Cell::new(false) }
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
                let odd = values.keys().find(|k| k.parse().map_or(true, |n: usize| n >= index));
                let path = [field.path.clone(), odd.cloned().into_iter().collect()].concat();
                let bad = Bad::new(format!("`{}` is not one of {key}", shown(&path)));
                let from_file =
                    matches!(self.reader.layers.place_of_key(&path), Place::File { .. });
                let number = format!("count from 0 without gaps: the next one is {index}");
                let bad = bad.help(if from_file { help } else { number });
                self.reader.report(self.reader.layers.place_of_key(&path), bad);
                break;
            };
            let path = [field.path.clone(), vec![index.to_string()]].concat();
            match value {
                Value::Dict(_, row) => rows.push(Table::new(self.reader, path, row.clone())),
                _ => {
                    let place = self.reader.layers.place_of_value(&path, value.tag());
                    let bad = Bad::new(format!("`{}` must be a table", shown(&path)));
                    self.reader.report(place, bad.help(help.clone()));
                }
            }
        }
        rows
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

/// One setting.
pub(super) struct Field<'a> {
    pub(super) reader: &'a Reader<'a>,
    path: Vec<String>,
    value: Option<Value>,
    complained: Cell<bool>,
}

impl<'a> Field<'a> {
    /// The setting, or `default` where it is absent.
    pub(super) fn or(mut self, default: &'static str) -> Self {
        self.value.get_or_insert_with(|| Value::from(default));
        self
    }

    pub(super) fn is_absent(&self) -> bool {
        self.value.is_none()
    }

    /// Its key, as people write it.
    pub(super) fn shown(&self) -> String {
        shown(&self.path)
    }

    /// Where it was written, without line and column.
    pub(super) fn written_in(&self) -> String {
        match self.place() {
            Place::File { path, .. } => path.display().to_string(),
            place => place.to_string(),
        }
    }

    /// Whether it was written in the file.
    pub(super) fn is_in_file(&self) -> bool {
        matches!(self.place(), Place::File { .. })
    }

    fn place(&self) -> Place {
        let layers = self.reader.layers;
        match &self.value {
            Some(value) => layers.place_of_value(&self.path, value.tag()),
            None => layers.place_of_key(&self.path),
        }
    }

    /// Reports something about it, at its value or, where it is absent, at its table. Only the
    /// first complaint about one setting is told.
    pub(super) fn error(&self, bad: Bad) {
        if self.complained.replace(true) {
            return;
        }
        self.reader.report(self.place(), bad);
    }

    /// Its text; absent or of another type is an error.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Some(Value::String(_, text)) => Some(text),
            Some(_) => self.wrong_type("a string"),
            None => {
                let bad = Bad::new(format!("`{}` is missing", self.shown()));
                let variable = variable_name(&self.path);
                self.error(bad.help(format!("add it here, or set {variable}")));
                None
            }
        }
    }

    /// Its text, understood by `parse`, whose complaint is put after the key's name.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, Bad>) -> Option<T> {
        match parse(self.text()?) {
            Ok(value) => Some(value),
            Err(bad) => {
                let message = format!("`{}` {}", self.shown(), bad.message);
                self.error(Bad { message, help: bad.help });
                None
            }
        }
    }

    /// A whole number of at least 1 and at most `max`.
    pub(super) fn count(&self, max: u32) -> Option<u32> {
        let number = match self.value.as_ref()? {
            Value::Num(_, Num::I64(number)) => Some(*number),
            Value::String(tag, text) if self.is_from_environment(*tag) => text.trim().parse().ok(),
            _ => None,
        };
        let Some(number) = number else { return self.wrong_type("a whole number") };
        match u32::try_from(number) {
            Ok(number) if (1..=max).contains(&number) => Some(number),
            _ => {
                self.error(Bad::new(format!("`{}` must be from 1 to {max}", self.shown())));
                None
            }
        }
    }

    /// True or false.
    pub(super) fn truth(&self) -> Option<bool> {
        match self.value.as_ref()? {
            Value::Bool(_, truth) => Some(*truth),
            Value::String(tag, text) if self.is_from_environment(*tag) && text == "true" => {
                Some(true)
            }
            Value::String(tag, text) if self.is_from_environment(*tag) && text == "false" => {
                Some(false)
            }
            _ => self.wrong_type("true or false"),
        }
    }

    /// The elements of a list; none where it is absent. A variable holds one as TOML or JSON.
    pub(super) fn list(&self) -> Option<Vec<Field<'a>>> {
        let (elements, tag) = match &self.value {
            None => (Vec::new(), Tag::Default),
            Some(Value::Array(tag, elements)) => (elements.clone(), *tag),
            Some(Value::String(tag, text)) if self.is_from_environment(*tag) => {
                let list = parse_list(text);
                match list {
                    Some(elements) => (elements, *tag),
                    None => return self.wrong_type("a list such as [\"a\", \"b\"]"),
                }
            }
            Some(_) => return self.wrong_type("a list such as [\"a\", \"b\"]"),
        };
        let field = |(index, value): (usize, Value)| {
            let path = [self.path.clone(), vec![index.to_string()]].concat();
            let value = if value.tag() == Tag::Default { retag(value, tag) } else { value };
            Field { reader: self.reader, path, value: Some(value), complained: Cell::new(false) }
        };
        Some(elements.into_iter().enumerate().map(field).collect())
    }

    fn is_from_environment(&self, tag: Tag) -> bool {
        self.reader.layers.is_from_environment(tag)
    }

    fn wrong_type<T>(&self, wanted: &str) -> Option<T> {
        self.error(Bad::new(format!("`{}` must be {wanted}", self.shown())));
        None
    }
}

fn parse_list(text: &str) -> Option<Vec<Value>> {
    let value = toml::de::DeValue::parse(text.trim()).ok()?;
    let strings = value.get_ref().as_array()?.iter();
    strings.map(|element| element.get_ref().as_str().map(Value::from)).collect()
}

/// An element of a variable's list belongs to the variable.
fn retag(value: Value, tag: Tag) -> Value {
    match value {
        Value::String(_, text) => Value::String(tag, text),
        other => other,
    }
}

/// `accounts[0].app_id`
fn shown(path: &[String]) -> String {
    let mut text = String::new();
    for part in path {
        if part.parse::<usize>().is_ok() {
            text.push_str(&format!("[{part}]"));
        } else {
            text.push_str(if text.is_empty() { "" } else { "." });
            text.push_str(part);
        }
    }
    text
}
