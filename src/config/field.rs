//! One setting: its text, number, truth or list, and complaints about it at its place.

use std::cell::Cell;

use figment::value::{Num, Tag, Value};

use super::errors::Place;
use super::layers::variable_name;
use super::reader::{Bad, Reader};

/// One setting.
pub(super) struct Field<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) path: Vec<String>,
    pub(super) value: Option<Value>,
    complained: Cell<bool>,
}

impl<'a> Field<'a> {
    pub(super) fn new(reader: &'a Reader<'a>, path: Vec<String>, value: Option<Value>) -> Self {
        Self { reader, path, value, complained: Cell::new(false) }
    }

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
            Some(Value::Num(..)) => {
                let bad = Bad::new(format!("`{}` must be a string", self.shown()));
                self.error(bad.help("write it in quotes, a duration with its unit: \"30s\""));
                None
            }
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
            Field::new(self.reader, path, Some(value))
        };
        Some(elements.into_iter().enumerate().map(field).collect())
    }

    fn is_from_environment(&self, tag: Tag) -> bool {
        self.reader.layers.is_from_environment(tag)
    }

    pub(super) fn wrong_type<T>(&self, wanted: &str) -> Option<T> {
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
pub(super) fn shown(path: &[String]) -> String {
    path.iter().fold(String::new(), |text, part| {
        if part.parse::<usize>().is_ok() {
            format!("{text}[{part}]")
        } else if text.is_empty() {
            part.clone()
        } else {
            format!("{text}.{part}")
        }
    })
}
