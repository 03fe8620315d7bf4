//! Claims about notices.

use outcomed::clock::Timestamp;
use outcomed::store::Notice;

use super::fixture::Fixture;

fn notice(client: &str, subject: &str) -> Notice {
    Notice {
        client: client.into(),
        subject: subject.into(),
        raised: true,
        since: Timestamp(1),
        at: Timestamp(2),
        id: "msg_1".into(),
        body: b"{}".to_vec(),
        attempts: 0,
        next_attempt_at: Some(Timestamp(2)),
    }
}

pub async fn there_is_one_notice_a_client_and_subject_until_it_is_over(db: Fixture) {
    assert!(db.store.notices().await.unwrap().is_empty());
    let [account, origin] = ["account default", "origin https://a:443"];
    let mut first = notice("ats", account);
    for one in [&first, &notice("ats", origin), &notice("crm", account)] {
        db.store.keep_notice(one).await.unwrap();
    }
    first = Notice { attempts: 1, next_attempt_at: None, ..first };
    db.store.keep_notice(&first).await.unwrap();
    let again = Notice { id: "msg_2".into(), ..notice("ats", account) };
    db.store.keep_notice(&again).await.unwrap();
    let expected = [first.clone(), notice("ats", origin), notice("crm", account)];
    assert_eq!(db.store.notices().await.unwrap(), expected, "an incident is told once");
    let recovering = Notice { raised: false, next_attempt_at: Some(Timestamp(9)), ..again };
    db.store.keep_notice(&recovering).await.unwrap();
    assert_eq!(db.store.notices().await.unwrap()[0], recovering, "it is still to be told");
    db.store.keep_notice(&Notice { next_attempt_at: None, ..recovering }).await.unwrap();
    assert_eq!(db.store.notices().await.unwrap(), expected[1..]);
}
