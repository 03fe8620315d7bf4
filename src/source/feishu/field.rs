//! Lenient reading of Feishu's JSON: no field's type is trusted, nothing panics, and an id that
//! comes as a number keeps every digit (they exceed 2^53, so no float may touch them).

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// A JSON object whose values are not looked at yet; of repeated keys the last one stands.
pub(super) type Object<'a> = BTreeMap<String, &'a RawValue>;

/// The object that this value is, if it is one.
pub(super) fn object(value: &RawValue) -> Option<Object<'_>> {
    serde_json::from_str(value.get()).ok()
}

/// The items of the array that this value is, if it is one.
pub(super) fn array(value: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(value.get()).ok()
}

/// The value under `key`; `null` counts as absent.
pub(super) fn present<'a>(object: &Object<'a>, key: &str) -> Option<&'a RawValue> {
    object.get(key).copied().filter(|value| value.get() != "null")
}

/// The integer that this value is, if it is one; one beyond 64 bits becomes the nearest that fits.
pub(super) fn integer(value: &RawValue) -> Option<i64> {
    let text = value.get();
    if !is_integer(text) {
        return None;
    }
    let limit = if text.starts_with('-') { i64::MIN } else { i64::MAX };
    Some(text.parse().unwrap_or(limit))
}

/// The text under `key`, trimmed; an integer as its own digits; anything else, and blanks, `None`.
pub(super) fn text(object: &Object<'_>, key: &str) -> Option<String> {
    let value = present(object, key)?.get();
    let text =
        if is_integer(value) { value.to_owned() } else { serde_json::from_str(value).ok()? };
    let trimmed = text.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

fn is_integer(json: &str) -> bool {
    let digits = json.strip_prefix('-').unwrap_or(json);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Object<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_id_beyond_2_to_the_53_keeps_its_digits_as_text_and_as_number() {
        let object = read(r#"{"a":" 6960663240925956657 ","b":69606632409259566571234567890}"#);
        assert_eq!(text(&object, "a").as_deref(), Some("6960663240925956657"));
        assert_eq!(text(&object, "b").as_deref(), Some("69606632409259566571234567890"));
    }

    #[test]
    fn what_is_not_text_is_absent() {
        let object = read(
            r#"{"n":null,"s":"","w":" \u3000\t","t":true,"o":{},"a":["x"],"f":1.5,"l":"\ud800"}"#,
        );
        for key in ["n", "s", "w", "t", "o", "a", "f", "l", "missing"] {
            assert_eq!(text(&object, key), None, "{key}");
        }
    }

    #[test]
    fn only_integers_are_integers() {
        let object =
            read(r#"{"i":2,"z":-0,"m":-1,"b":99999999999999999999,"f":2.0,"e":2e0,"s":"2"}"#);
        let of = |key: &str| integer(object[key]);
        assert_eq!(
            (of("i"), of("z"), of("m"), of("b")),
            (Some(2), Some(0), Some(-1), Some(i64::MAX))
        );
        assert_eq!((of("f"), of("e"), of("s")), (None, None, None));
    }
}
