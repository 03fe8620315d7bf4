//! What a lane has learned, as bytes for the store: a version, then one byte for each cell's chance.

use super::fit::CELLS;

/// The layout below. A reader of another version starts from the prior.
const VERSION: u8 = 1;
/// The smallest chance told apart from none; each step of the byte is 6 % more.
const LEAST: f64 = 1e-6;
const STEP: f64 = 0.055;

/// Chances as bytes.
pub(super) fn write(chances: &[f64]) -> Vec<u8> {
    let code = |chance: &f64| {
        let steps = ((chance / LEAST).max(1.0).ln() / STEP).round().min(255.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255")]
        let byte = steps as u8;
        byte
    };
    std::iter::once(VERSION).chain(chances.iter().map(code)).collect()
}

/// Bytes as chances, if they are of this version and length.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<f64>> {
    let (version, codes) = bytes.split_first()?;
    if *version != VERSION || codes.len() != CELLS {
        return None;
    }
    Some(
        codes
            .iter()
            .map(|code| LEAST * (f64::from(*code) * STEP).exp())
            .map(|c| c.min(0.95))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_come_back_to_within_three_percent() {
        let grows = |chance: &f64| Some(chance * 1.03);
        let chances: Vec<f64> = std::iter::successors(Some(1e-5), grows).take(CELLS).collect();
        let back = read(&write(&chances)).unwrap();
        for (chance, back) in chances.iter().zip(&back) {
            assert!((back / chance.min(0.95) - 1.0).abs() < 0.03, "{chance} {back}");
        }
    }

    #[test]
    fn another_version_or_length_is_not_read() {
        let bytes = write(&vec![0.1; CELLS]);
        assert_eq!(read(&bytes[..CELLS]), None);
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[vec![9], bytes[1..].to_vec()].concat()), None);
    }
}
