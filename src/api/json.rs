//! What serde would take or say, and a client must not see: lists for objects, names of Rust types.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// A field that is an object or null. Derived code alone would take a list of its fields as well.
pub fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    field: D,
) -> Result<Option<T>, D::Error> {
    field.deserialize_option(ObjectOrNull(PhantomData))
}

/// An object and nothing else.
pub fn required_object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    value: D,
) -> Result<T, D::Error> {
    value.deserialize_map(Object(PhantomData))
}

struct Object<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

struct ObjectOrNull<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectOrNull<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, field: D) -> Result<Self::Value, D::Error> {
        required_object(field).map(Some)
    }
}

/// serde's words for a value that does not fit, as JSON names it.
pub(super) fn plain(message: &str) -> String {
    let kinds = ["invalid type: ", "invalid value: ", "invalid length "];
    let found = kinds.into_iter().find_map(|kind| message.strip_prefix(kind));
    let Some((found, expected)) = found.and_then(|rest| rest.rsplit_once(", expected ")) else {
        return message.to_owned();
    };
    let (found, expected) = (found_name(found), expected_name(expected));
    if found == expected || message.starts_with("invalid value") {
        return format!("must be {expected}");
    }
    format!("must be {expected}, not {found}")
}

/// The value itself is left out: it may be long, and whoever sent it knows it.
fn found_name(found: &str) -> &'static str {
    match found.split([' ', '`']).next().unwrap_or_default() {
        "boolean" => "true or false",
        "integer" | "floating" => "a number",
        "string" | "character" => "a string",
        "null" | "unit" | "Option" => "null",
        "sequence" => "a list",
        "map" => "an object",
        _ => "this",
    }
}

fn expected_name(expected: &str) -> &str {
    match expected.split(' ').next().unwrap_or_default() {
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "struct" => "an object",
        "enum" | "string" => "a string",
        "option" | "newtype" | "unit" | "tuple" | "variant" | "identifier" => "another value",
        _ => match expected {
            "a boolean" => "true or false",
            "a sequence" => "a list",
            "a map" => "an object",
            other => other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rust_type_is_named() {
        for (serde, ours) in [
            ("invalid type: sequence, expected struct Wanted", "must be an object, not a list"),
            ("invalid type: integer `5`, expected a string", "must be a string, not a number"),
            ("invalid type: map, expected a sequence", "must be a list, not an object"),
            (
                "invalid type: string \"a, expected b\", expected u8",
                "must be a whole number that is not negative, not a string",
            ),
            ("invalid type: null, expected a boolean", "must be true or false, not null"),
            (
                "invalid value: integer `-1`, expected u32",
                "must be a whole number that is not negative",
            ),
            (
                "invalid type: floating point `1.5`, expected i64",
                "must be a whole number, not a number",
            ),
            ("unknown field `x`, expected `url`", "unknown field `x`, expected `url`"),
        ] {
            assert_eq!(plain(serde), ours, "{serde}");
        }
    }
}
