//! Claims about store apps' tickets.

use outcomed::clock::Timestamp;
use outcomed::config::secret::Secret;
use outcomed::store::AppTicket;

use super::fixture::Fixture;

fn ticket(app_id: &str, ticket: &str, at: i64) -> AppTicket {
    AppTicket { app_id: app_id.into(), ticket: Secret::new(ticket), at: Timestamp(at) }
}

pub async fn a_tickets_place_is_taken_by_a_newer_one_only(db: Fixture) {
    assert!(db.store.tickets().await.unwrap().is_empty());
    for kept in [
        ticket("cli_b", "b", 5),
        ticket("cli_a", "second", 2),
        ticket("cli_a", "first", 1),
        ticket("cli_b", "b again", 5),
    ] {
        db.store.keep_ticket(&kept).await.unwrap();
    }
    let expected = [ticket("cli_a", "second", 2), ticket("cli_b", "b again", 5)];
    assert_eq!(db.store.tickets().await.unwrap(), expected);
}
