//! The file: TOML 1.1, with the place of every key and value.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::{ConfigError, Place};
use super::excerpt::{self, Piece};

/// The keys that hold one table an entry. They are read as tables keyed "0", "1", … so that the
/// environment can set one key of one of them.
const ROWS: [&str; 2] = ["accounts", "clients"];

/// A file that was read.
pub(super) struct TomlFile {
    pub(super) path: PathBuf,
    pub(super) values: Dict,
    text: String,
    spans: BTreeMap<Vec<String>, Entry>,
}

/// Where one setting stands.
struct Entry {
    /// Its key; of a row, its header; of an array's element, the element.
    key: Range<usize>,
    value: Range<usize>,
    is_leaf: bool,
    shown: bool,
}

impl TomlFile {
    /// Parses `text`; the errors are those of syntax, all that could be found.
    pub(super) fn parse(path: &Path, text: String) -> Result<Self, Vec<ConfigError>> {
        let (table, errors) = DeTable::parse_recoverable(&text);
        if !errors.is_empty() {
            return Err(errors.iter().map(|error| syntax_error(path, &text, error)).collect());
        }
        let mut spans = BTreeMap::new();
        let values = convert_table(table.get_ref(), &[], &mut spans);
        drop(table);
        Ok(Self { path: path.to_owned(), values, text, spans })
    }

    /// Where a value stands, pointing at the value itself.
    pub(super) fn place_of_value(&self, path: &[String]) -> Option<Place> {
        self.spans
            .get(path)
            .map(|entry| self.place(if entry.is_leaf { &entry.value } else { &entry.key }))
    }

    /// Where a key stands.
    pub(super) fn place_of_key(&self, path: &[String]) -> Option<Place> {
        self.spans.get(path).map(|entry| self.place(&entry.key))
    }

    fn place(&self, span: &Range<usize>) -> Place {
        let pieces: Vec<Piece> =
            self.spans.iter().flat_map(|(path, entry)| self.pieces(path, entry)).collect();
        let (line, column) = excerpt::position(&self.text, span.start);
        let excerpt = Some(excerpt::excerpt(&self.text, &pieces, span));
        Place::File { path: self.path.clone(), line, column, excerpt }
    }

    /// What an excerpt may contain of a setting: its key, and its value if that may be shown. A
    /// table between braces is neither: its own keys and values are pieces.
    fn pieces(&self, path: &[String], entry: &Entry) -> Vec<Piece> {
        let value = Piece { span: entry.value.clone(), shown: entry.shown };
        let is_element = entry.key == entry.value;
        let header = self.text.get(entry.key.clone()).unwrap_or("");
        let is_header = path.first().is_some_and(|row| {
            header.strip_prefix("[[").is_some_and(|rest| rest.trim_end_matches(']').trim() == row)
        });
        let key = Piece { span: entry.key.clone(), shown: true };
        match (is_element, entry.is_leaf) {
            (true, true) => vec![value],
            (true, false) if is_header => vec![key],
            (true, false) => vec![],
            (false, true) => vec![key, value],
            (false, false) => vec![key],
        }
    }
}

fn syntax_error(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let offset = error.span().map_or(0, |span| span.start);
    let (line, column) = excerpt::position(text, offset);
    ConfigError {
        message: format!("not valid TOML: {}", error.message().replace('\n', ", ")),
        help: None,
        place: Place::File {
            path: path.to_owned(),
            line,
            column,
            excerpt: excerpt::unparsed(text, offset),
        },
    }
}

type Spans = BTreeMap<Vec<String>, Entry>;

fn convert_table(table: &DeTable<'_>, path: &[String], spans: &mut Spans) -> Dict {
    let mut values = Dict::new();
    for (key, value) in table {
        let path = below(path, key.get_ref());
        values.insert(key.get_ref().to_string(), convert(value, key.span(), &path, spans));
    }
    values
}

fn convert(
    value: &Spanned<DeValue<'_>>,
    key: Range<usize>,
    path: &[String],
    spans: &mut Spans,
) -> Value {
    let is_leaf = !matches!(value.get_ref(), DeValue::Array(_) | DeValue::Table(_));
    let name = path.iter().rev().find(|part| part.parse::<usize>().is_err());
    let shown = match value.get_ref() {
        DeValue::String(text) => name.is_some_and(|name| excerpt::is_public(name, text)),
        _ => name.is_some_and(|name| excerpt::is_public(name, "")),
    };
    spans.insert(path.to_vec(), Entry { key, value: value.span(), is_leaf, shown });
    match value.get_ref() {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(truth) => Value::from(*truth),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            // Too large for any setting: keep it a number, out of every range.
            .map_or_else(|_| Value::from(i64::MAX), Value::from),
        DeValue::Float(number) => Value::from(number.as_str().parse::<f64>().unwrap_or(f64::NAN)),
        // No setting is a date; as a string it would be accepted where it should be refused.
        DeValue::Datetime(_) => Value::from(f64::NAN),
        DeValue::Array(elements) => {
            let elements = elements.iter().enumerate().map(|(index, element)| {
                let path = below(path, &index.to_string());
                (index.to_string(), convert(element, element.span(), &path, spans))
            });
            let is_rows = path.len() == 1 && ROWS.contains(&path[0].as_str());
            if is_rows {
                Value::from(elements.collect::<Dict>())
            } else {
                Value::from(elements.map(|(_, element)| element).collect::<Vec<_>>())
            }
        }
        DeValue::Table(table) => Value::from(convert_table(table, path, spans)),
    }
}

fn below(path: &[String], key: &str) -> Vec<String> {
    path.iter().cloned().chain([key.to_owned()]).collect()
}
