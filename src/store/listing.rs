//! How a list is found without looking at more rows than a bound. Pure: it makes SQL for both
//! stores.
//!
//! If a part of the filter is passed by few rows, those are read and sorted. Else rows are looked
//! at in the order of an index, newest first, as many as one page may cost; a page that is not full
//! by then says where the next one goes on.

use std::fmt::Write as _;

use crate::task::{Registration, State};

/// Rows looked at for one page: some tens of milliseconds.
pub const LOOKED_AT_MAX: u32 = 10_000;
/// So few are read and sorted rather than looked for.
pub(super) const FEW: u32 = 1_000;
/// Room for what is registered between counting the few and reading them.
pub(super) const FEW_READ: u32 = 2 * FEW;

/// The states that an index has, and its condition, which some planners need to read.
const OPEN: &str = "r.state IN ('watching', 'delivering', 'undeliverable') AND ";

/// Which registrations to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this client's.
    pub client: Option<String>,
    /// Only in this state.
    pub state: Option<State>,
    /// Only on this account.
    pub account: Option<String>,
    /// Only of this task.
    pub delivery_task_id: Option<String>,
    /// Only to this callback host.
    pub callback_host: Option<String>,
}

/// A page of a list.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// What was found, newest first.
    pub items: Vec<Registration>,
    /// Where to go on, if the page is not full and there may be more: the id looked at last.
    pub resume: Option<String>,
}

/// SQL, and the texts that its placeholders stand for.
#[derive(Clone, Debug)]
pub(super) struct Sql {
    pub(super) text: String,
    pub(super) values: Vec<String>,
    /// What a placeholder begins with.
    mark: char,
}

impl Sql {
    pub(super) fn new(text: impl Into<String>, mark: char) -> Self {
        Self { text: text.into(), values: Vec::new(), mark }
    }

    /// Appends a condition up to its value, and the value.
    fn value(&mut self, condition: &str, value: &str) {
        self.values.push(value.to_owned());
        let _ = write!(self.text, "{condition}{}{}", self.mark, self.values.len());
    }

    /// Appends the placeholder of a number that comes after the texts.
    pub(super) fn number(&mut self, before: &str, nth: usize) {
        let _ = write!(self.text, "{before}{}{}", self.mark, self.values.len() + nth);
    }
}

/// One part of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'a> {
    Client(&'a str),
    State(State),
    Account(&'a str),
    Task(&'a str),
    Host(&'a str),
}

fn parts(filter: &Filter) -> Vec<Part<'_>> {
    let Filter { client, state, account, delivery_task_id, callback_host } = filter;
    let parts = [
        client.as_deref().map(Part::Client),
        state.map(Part::State),
        account.as_deref().map(Part::Account),
        delivery_task_id.as_deref().map(Part::Task),
        callback_host.as_deref().map(Part::Host),
    ];
    parts.into_iter().flatten().collect()
}

impl Part<'_> {
    fn write(self, sql: &mut Sql) {
        match self {
            Self::Client(name) => sql.value("r.client = ", name),
            // In the text itself: only so are partial indexes found.
            Self::State(state) => {
                let _ = write!(sql.text, "r.state = '{}'", state.name());
            }
            Self::Account(name) => sql.value("l.account = ", name),
            Self::Task(id) => sql.value("t.delivery_task_id = ", id),
            Self::Host(host) => sql.value("r.callback_host = ", host),
        }
    }

    fn is_open_state(self) -> bool {
        matches!(self, Self::State(State::Watching | State::Delivering | State::Undeliverable))
    }
}

/// The parts by whose index rows are looked at, in the order of their ids.
fn leading<'a>(filter: &'a Filter) -> Vec<Part<'a>> {
    let all = parts(filter);
    let find = |wanted: fn(&Part<'a>) -> bool| all.iter().copied().find(wanted);
    let client = find(|part| matches!(part, Part::Client(_)));
    match (client, find(|part| part.is_open_state())) {
        (Some(client), Some(state)) => vec![state, client],
        _ => find(|part| matches!(part, Part::Host(_))).or(client).into_iter().collect(),
    }
}

fn all_of(parts: &[Part<'_>], sql: &mut Sql) {
    for part in parts {
        sql.text.push_str(" AND ");
        part.write(sql);
    }
}

/// Parts of the filter that few rows may pass: each the ids of all that pass it, in no order.
pub(super) fn narrow(filter: &Filter, mark: char) -> Vec<Sql> {
    let of = |part: Part<'_>| {
        let from = match part {
            Part::Task(_) => "task t CROSS JOIN registration r WHERE r.task = t.id AND ".to_owned(),
            Part::Account(_) => "lane l CROSS JOIN task t CROSS JOIN registration r
                 WHERE t.lane = l.id AND r.task = t.id AND "
                .to_owned(),
            Part::State(_) if part.is_open_state() && filter.client.is_none() => {
                format!("registration r WHERE {OPEN}")
            }
            _ => return None,
        };
        let mut sql = Sql::new(format!("SELECT r.id FROM {from}"), mark);
        part.write(&mut sql);
        Some(sql)
    };
    let mut narrow: Vec<Part<'_>> = parts(filter);
    narrow.sort_by_key(|part| !matches!(part, Part::Task(_)));
    narrow.into_iter().filter_map(of).collect()
}

/// The whole filter, after `few`, which holds the few that pass a part of it.
pub(super) fn among(
    few: Sql,
    columns: &str,
    from: &str,
    filter: &Filter,
    before: Option<&str>,
) -> Sql {
    let mut sql = few;
    sql.text = format!("SELECT {columns} {from} WHERE r.id IN ({} LIMIT {FEW_READ})", sql.text);
    all_of(&parts(filter), &mut sql);
    if let Some(before) = before {
        sql.value(" AND r.id < ", before);
    }
    sql.number(" ORDER BY r.id DESC LIMIT ", 1);
    sql
}

/// Appends the leading parts, and the order.
pub(super) fn lead(sql: &mut Sql, filter: &Filter, before: Option<&str>) {
    let leading = leading(filter);
    let open = leading.iter().any(|part| part.is_open_state());
    let _ = write!(sql.text, " WHERE {}TRUE", if open { OPEN } else { "" });
    all_of(&leading, sql);
    if let Some(before) = before {
        sql.value(" AND r.id < ", before);
    }
    sql.text.push_str(" ORDER BY r.id DESC");
}

/// Appends the other parts, as one condition.
pub(super) fn rest(sql: &mut Sql, filter: &Filter) {
    let leading = leading(filter);
    sql.text.push_str("TRUE");
    let rest: Vec<_> = parts(filter).into_iter().filter(|part| !leading.contains(part)).collect();
    all_of(&rest, sql);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_filter_is_applied_once_on_either_way() {
        let text = |name: &str| Some(name.to_owned());
        let filter = Filter {
            client: text("c"),
            state: Some(State::Undeliverable),
            account: text("a"),
            delivery_task_id: text("t"),
            callback_host: text("h"),
        };
        let few = narrow(&filter, '$');
        let first: Vec<&str> = few.iter().map(|sql| sql.values[0].as_str()).collect();
        assert_eq!(first, ["t", "a"], "a task first; a client's state has an index of its own");
        let among = among(few[0].clone(), "r.id", "FROM x", &filter, Some("b"));
        assert_eq!(among.values, ["t", "c", "a", "t", "h", "b"]);
        assert!(among.text.ends_with("r.id < $6 ORDER BY r.id DESC LIMIT $7"), "{}", among.text);
        let mut sql = Sql::new("", '?');
        rest(&mut sql, &filter);
        lead(&mut sql, &filter, Some("b"));
        assert_eq!(sql.values, ["a", "t", "h", "c", "b"]);
    }

    #[test]
    fn rows_are_looked_at_by_the_narrowest_index() {
        let text = |name: &str| Some(name.to_owned());
        let by = |filter: Filter| {
            let mut sql = Sql::new("", '?');
            lead(&mut sql, &filter, None);
            sql.text
        };
        let of_client = || Filter { client: text("c"), ..Filter::default() };
        let host = Filter { callback_host: text("h"), ..of_client() };
        assert!(by(host).contains("callback_host") && !by(of_client()).contains("state"));
        let delivered = Filter { state: Some(State::Delivered), ..of_client() };
        assert!(!by(delivered).contains("state"), "no index has it");
        let open = Filter { state: Some(State::Watching), ..of_client() };
        assert!(by(open).contains("r.state = 'watching' AND r.client = ?1"));
    }
}
