//! The line of the file that an error points at, without anything that may be secret.
//!
//! A line is rebuilt rather than shown: keys, punctuation, and the values of keys that are known
//! to be public. Everything else (secrets, misspelt keys' values, comments) is left out, because
//! errors end up in terminals, journals and issue trackers.

use std::ops::Range;

use super::reference;

/// Keys whose values may be shown.
const PUBLIC: [&str; 19] = [
    "app_id",
    "base_url",
    "callback_allow",
    "concurrency_per_host",
    "delivered",
    "format",
    "give_up_after",
    "kind",
    "level",
    "listen",
    "name",
    "not_found_grace",
    "open_metrics",
    "per_minute",
    "per_second",
    "poll_worth",
    "retry_delays",
    "role",
    "timeout",
];

/// A line fit to be shown, and what in it is pointed at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Excerpt {
    /// The line.
    pub text: String,
    /// Where the pointed-at part starts, in characters.
    pub start: usize,
    /// How long it is, in characters.
    pub width: usize,
}

/// A key or a value in the file.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) span: Range<usize>,
    pub(super) shown: bool,
}

/// Whether the value of this key may be shown. An `@` may follow a password in a URL. A reference
/// says where a secret is, not what it is.
pub(super) fn is_public(key: &str, value: &str) -> bool {
    (PUBLIC.contains(&key) && !value.contains('@')) || reference::is_reference(value)
}

/// Line and column, both from 1, of a byte offset.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The line of `text` at `pointed.start`, rebuilt from `pieces`.
pub(super) fn excerpt(text: &str, pieces: &[Piece], pointed: &Range<usize>) -> Excerpt {
    let line = line_range(text, pointed.start);
    let mut shown = String::new();
    let (mut start, mut end) = (None, None);
    let mut at = line.start;
    while at < line.end {
        let piece = pieces.iter().find(|piece| piece.span.contains(&at));
        if at >= pointed.start && start.is_none() {
            start = Some(shown.chars().count());
        }
        let next = match piece {
            Some(piece) => {
                let stop = piece.span.end.min(line.end);
                shown.push_str(if piece.shown { &text[at..stop] } else { "…" });
                stop
            }
            None => match text[at..].chars().next() {
                Some(mark) if " \t=[]{},.".contains(mark) => {
                    shown.push(mark);
                    at + 1
                }
                // Something that no piece accounts for: `http.` of a second `http.key = …`.
                _ if at < pointed.start => {
                    shown.push('…');
                    pointed.start
                }
                _ => break, // a comment
            },
        };
        if next >= pointed.end && end.is_none() {
            end = Some(shown.chars().count());
        }
        at = next;
    }
    let text = shown.trim_end().replace('\t', " ");
    let length = text.chars().count();
    let start = start.unwrap_or(0).min(length);
    Excerpt { text, start, width: end.unwrap_or(length).min(length).saturating_sub(start) }
}

/// For a line that could not be parsed: its key at most, since the rest may be a secret.
pub(super) fn unparsed(text: &str, offset: usize) -> Option<Excerpt> {
    let line = &text[line_range(text, offset)];
    let shown = match line.split_once('=') {
        Some((key, _)) if is_key(key) => format!("{} = …", key.trim_end()),
        _ if is_key(line.trim().trim_matches(['[', ']'])) && line.trim().starts_with('[') => {
            line.trim_end().to_owned()
        }
        _ => return None,
    };
    let indent = shown.chars().take_while(|c| c.is_whitespace()).count();
    let width = shown.chars().count() - indent;
    Some(Excerpt { text: shown.replace('\t', " "), start: indent, width })
}

/// Whether the part before `=` can only be a key, and not a line of a long string (base64 has
/// capitals and `=` at its end).
fn is_key(text: &str) -> bool {
    let key = text.trim();
    !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || "_-.".contains(c))
}

fn line_range(text: &str, offset: usize) -> Range<usize> {
    let offset = offset.min(text.len());
    let start = text.get(..offset).and_then(|t| t.rfind('\n')).map_or(0, |at| at + 1);
    let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_leaves_out_hidden_pieces_and_comments() {
        let text = "a = { b = \"hush\", c = 7 } # psst\n";
        let piece = |part: &str, shown| {
            let at = text.find(part).unwrap();
            Piece { span: at..at + part.len(), shown }
        };
        let pieces =
            [piece("a", true), piece("b", true), piece("\"hush\"", false), piece("c", true)];
        let pieces: Vec<_> = pieces.into_iter().chain([piece("7", true)]).collect();
        let at = text.find('7').unwrap();
        let excerpt = excerpt(text, &pieces, &(at..at + 1));
        assert_eq!(excerpt.text, "a = { b = …, c = 7 }");
        assert_eq!((excerpt.start, excerpt.width), (17, 1));
    }

    #[test]
    fn what_is_pointed_at_is_shown_whatever_stands_before_it() {
        let text = "http.listen = 1\nhttp.lisen = \"hush\"\n";
        let key = text.find("lisen").unwrap()..text.find(" = \"").unwrap();
        let value = key.end + 3..text.len() - 1;
        let pieces =
            [Piece { span: key.clone(), shown: true }, Piece { span: value, shown: false }];
        let excerpt = excerpt(text, &pieces, &key);
        assert_eq!(excerpt.text, "…lisen = …");
        assert_eq!((excerpt.start, excerpt.width), (1, 5));
    }

    #[test]
    fn a_line_that_cannot_be_parsed_shows_its_key_only() {
        assert_eq!(unparsed("token = \"hush", 8).unwrap().text, "token = …");
        assert_eq!(unparsed("listen=more\"\"\"", 0).unwrap().text, "listen = …");
        assert_eq!(unparsed("aHVzaA==\"\"\"", 0), None);
        assert_eq!(unparsed("the hush=more\"\"\"", 0), None);
        assert_eq!(unparsed("[accounts", 3).unwrap().text, "[accounts");
    }

    #[test]
    fn positions_count_from_one_in_characters() {
        assert_eq!(position("é = 1\nab = 2", 0), (1, 1));
        assert_eq!(position("é = 1\nab = 2", 2), (1, 2));
        assert_eq!(position("é = 1\nab = 2", 8), (2, 2));
    }
}
