//! Whether both sides hold the same: their rows side by side, a page at a time.

use super::value::Checksum;
use super::{Arriving, Leaving, MoveError, Row, Step, Table, Tally, Told, Value};

/// Compares a table on both sides.
pub(super) async fn check(
    table: &'static Table,
    from: &Leaving,
    to: &Arriving,
    told: &Told<'_>,
) -> Result<Tally, MoveError> {
    let (mut ours, mut theirs) = (Checksum::default(), Checksum::default());
    let (mut here, mut there): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    let mut difference = None;
    let mut replaced = 0;
    loop {
        let (left, right) = tokio::join!(from.page(table, here.clone()), to.page(table, &there));
        let (mut left, right) = (left?, right?);
        if left.is_empty() && right.is_empty() {
            break;
        }
        replaced += make_storable(table, &mut left);
        for row in &left {
            ours.add(row);
        }
        for row in &right {
            theirs.add(row);
        }
        // Up to the first difference the pages are in step.
        difference = difference.or_else(|| first_difference(table, &left, &right));
        let key =
            |page: &[Row], before| page.last().map_or(before, |row| row[..table.key].to_vec());
        (here, there) = (key(&left, here), key(&right, there));
        told.rows(table, left.len() as u64, Step::Checking);
    }
    let counted = from.count(table).await?;
    let (rows, found) = (ours.rows(), theirs.rows());
    let (checksum, other) = (ours.finish(), theirs.finish());
    if checksum != other || rows != found || counted != rows {
        let first = difference.unwrap_or_else(|| "the checksums differ".into());
        return Err(MoveError::Differs { table: table.name, rows: counted, found, first });
    }
    Ok(Tally { table: table.name, rows, replaced, checksum })
}

/// Makes the rows such as Postgres can hold; the keys are left to be refused by name.
pub(super) fn make_storable(table: &Table, page: &mut [Row]) -> u64 {
    let values = page.iter_mut().flat_map(|row| &mut row[table.key..]);
    values.map(|value| u64::from(value.make_storable())).sum()
}

fn first_difference(table: &Table, ours: &[Row], theirs: &[Row]) -> Option<String> {
    let both = ours.len().min(theirs.len());
    let at = (0..both).find(|n| ours[*n] != theirs[*n]).unwrap_or(both);
    let shown = |row: &Row| format!("{} {}", table.name, key(&row[..table.key]));
    match (ours.get(at), theirs.get(at)) {
        (None, None) => None,
        (Some(ours), Some(theirs)) if ours[..table.key] == theirs[..table.key] => {
            let pairs = table.columns.iter().zip(ours.iter().zip(theirs));
            let other = pairs.filter(|(_, (ours, theirs))| ours != theirs);
            let names: Vec<&str> = other.map(|(column, _)| column.name).collect();
            Some(format!("{} differs in {}", shown(ours), names.join(", ")))
        }
        (Some(ours), Some(theirs)) if ours > theirs => {
            Some(format!("{} is in the target only", shown(theirs)))
        }
        (None, Some(theirs)) => Some(format!("{} is in the target only", shown(theirs))),
        (Some(ours), _) => Some(format!("{} is missing in the target", shown(ours))),
    }
}

/// Ids and names only; never a URL, a body or a text from outside.
fn key(key: &[Value]) -> String {
    let part = |value: &Value| match value {
        Value::Int(number) => number.to_string(),
        Value::Text(text) => format!("{text:?}"),
        Value::Null | Value::Bytes(_) => "?".into(),
    };
    key.iter().map(part).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::moving::table::TABLES;

    fn row(client: &str, position: i64) -> Row {
        vec![Value::Text(client.into()), Value::Int(position)]
    }

    #[test]
    fn the_first_difference_is_named() {
        let log = TABLES.iter().find(|table| table.name == "outcome_log").unwrap();
        let of = |ours: &[Row], theirs: &[Row]| first_difference(log, ours, theirs);
        let [a, b, c] = [row("a", 1), row("b", 2), row("c", 3)];
        let all = [a.clone(), b.clone(), c.clone()];
        assert_eq!(of(&all, &all), None);
        let changed = of(&all, &[a.clone(), row("b", 9), c.clone()]).unwrap();
        assert_eq!(changed, "outcome_log \"b\" differs in position");
        let missing = of(&all, &[a.clone(), c.clone()]).unwrap();
        assert_eq!(missing, "outcome_log \"b\" is missing in the target");
        assert_eq!(
            of(&all, &[a.clone(), b.clone()]).unwrap(),
            "outcome_log \"c\" is missing in the target"
        );
        assert_eq!(
            of(&[a.clone(), c.clone()], &all).unwrap(),
            "outcome_log \"b\" is in the target only"
        );
        assert_eq!(of(&[a, b], &all).unwrap(), "outcome_log \"c\" is in the target only");
    }
}
