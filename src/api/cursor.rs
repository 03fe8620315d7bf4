//! Opaque cursors: clients hand back what they were given and need not know what it means.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const ADVICE: &str = "is not a cursor of this call: use `next_cursor` of an earlier page";

/// The cursor after a registration, in a list of registrations.
#[must_use]
pub fn after_registration(id: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("r1:{id}"))
}

/// Reads [`after_registration`].
pub fn registration(cursor: &str) -> Result<String, &'static str> {
    decode(cursor, "r1:")
}

/// The cursor after a position, in the order of outcomes.
#[must_use]
pub fn after_position(position: u64) -> String {
    URL_SAFE_NO_PAD.encode(format!("o1:{position}"))
}

/// Reads [`after_position`].
pub fn position(cursor: &str) -> Result<u64, &'static str> {
    decode(cursor, "o1:")?.parse().map_err(|_| ADVICE)
}

fn decode(cursor: &str, prefix: &str) -> Result<String, &'static str> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| ADVICE)?;
    let text = String::from_utf8(bytes).map_err(|_| ADVICE)?;
    text.strip_prefix(prefix).map(str::to_owned).ok_or(ADVICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_own_call_only() {
        assert_eq!(registration(&after_registration("reg_1")), Ok("reg_1".into()));
        assert_eq!(position(&after_position(u64::MAX)), Ok(u64::MAX));
        assert!(registration(&after_position(1)).is_err());
        assert!(position(&after_registration("reg_1")).is_err());
        assert!(position("12").is_err());
    }
}
