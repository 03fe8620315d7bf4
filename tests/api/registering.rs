//! Registering, alone and in batches.

use serde_json::{Value, json};

use crate::harness::{ATS, Api, CRM, OPERATOR, account, config, wanted};

#[tokio::test]
async fn a_new_registration_is_201_with_its_location_and_reads_as_the_contract_says() {
    let api = Api::start().await;
    let answer = api.post("/v1/registrations", ATS, &wanted("task-1")).await;
    assert_eq!(answer.status, 201);
    let registration = answer.json();
    let id = registration["id"].as_str().unwrap();
    assert!(id.starts_with("reg_"), "{id}");
    assert_eq!(answer.header("location"), format!("/v1/registrations/{id}"));
    let (created, gives_up) = (&registration["created_at"], &registration["give_up_at"]);
    let time = |text: &Value| text.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(time(gives_up).duration_since(time(created)).as_secs(), 3600);
    assert_eq!(created.as_str().unwrap().len(), "2026-11-22T10:00:00.123Z".len());
    assert_eq!(
        registration,
        json!({
            "id": id, "client": "ats",
            "task": {"kind": "hire.website_delivery", "account": "default",
                     "website_id": "7047318856652261676", "delivery_task_id": "task-1"},
            "callback": {"url": "https://hr.example.com/hooks/feishu"},
            "metadata": {"candidate": "42"},
            "state": "watching", "created_at": created, "give_up_at": gives_up,
            "outcome": null,
            "watch": {"polls": 0, "last_polled_at": null, "last_answer": null, "last_code": null,
                      "next_poll_at": null, "account_state": "ok", "account_message": null},
            "delivery": {"attempts": 0, "next_attempt_at": null, "last_status": null,
                         "last_error": null},
        })
    );
    let found = api.get(answer.header("location"), ATS).await;
    assert_eq!((found.status, found.json()), (200, registration));
}

#[tokio::test]
async fn a_repeated_registration_is_200_with_the_first_one_as_it_stands() {
    let api = Api::start().await;
    let first = api.register("task-1").await;
    let mut again = wanted("task-1");
    again["metadata"] = json!({"candidate": "43"});
    again["give_up_after"] = json!("5m");
    let answer = api.post("/v1/registrations", ATS, &again).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["id"], first);
    assert_eq!(answer.json()["metadata"], json!({"candidate": "42"}));
    let other = api.post("/v1/registrations", CRM, &wanted("task-1")).await;
    assert_eq!(other.status, 201, "another client's is another one");
}

#[tokio::test]
async fn a_cancelled_registration_does_not_count_as_registered_before() {
    let api = Api::start().await;
    let first = api.register("task-1").await;
    let path = format!("/v1/registrations/{first}");
    assert_eq!(api.call(reqwest::Method::DELETE, &path, ATS, None).await.status, 200);
    assert_ne!(api.register("task-1").await, first);
}

#[tokio::test]
async fn metadata_comes_back_to_the_byte() {
    let api = Api::start().await;
    let metadata = r#"{ "z":1.0, "a": [1e2,"飞\u4e66"] }"#;
    let body = format!(
        r#"{{"task":{{"website_id":"1","delivery_task_id":"2"}},
             "callback":{{"url":"https://hr.example.com/"}},"metadata":{metadata}}}"#
    );
    let path = "/v1/registrations";
    let answer = api.call(reqwest::Method::POST, path, ATS, Some(&body)).await;
    assert_eq!(answer.status, 201);
    assert!(answer.text.contains(metadata), "{}", answer.text);
}

#[tokio::test]
async fn what_is_left_out_is_filled_in_and_null_is_left_out() {
    let api = Api::start().await;
    let body = json!({"task": {"website_id": "1", "delivery_task_id": "2", "account": null,
                               "kind": null},
                      "callback": {"url": "https://hr.example.com/"},
                      "metadata": null, "give_up_after": null});
    let registration = api.post("/v1/registrations", ATS, &body).await.json();
    assert_eq!(registration["metadata"], json!({}));
    assert_eq!(registration["task"]["account"], "default");
    assert_eq!(registration["task"]["kind"], "hire.website_delivery");
}

#[tokio::test]
async fn every_wrong_field_of_a_body_is_told_at_once_and_nothing_is_stored() {
    let api = Api::start().await;
    let body = json!({
        "task": {"website_id": "飞", "account": "nobody", "kind": "drive.import"},
        "callback": {"url": "http://hr.example.com/"},
        "metadata": ["no object"],
        "give_up_after": "-5s",
    });
    let answer = api.post("/v1/registrations", ATS, &body).await;
    assert_eq!(
        answer.pointers(),
        [
            "/task/kind",
            "/task/account",
            "/task/website_id",
            "/task/delivery_task_id",
            "/callback/url",
            "/metadata",
            "/give_up_after"
        ]
    );
    assert_eq!(
        api.post("/v1/registrations", ATS, &json!({})).await.pointers(),
        ["/task", "/callback"]
    );
    assert_eq!(api.registrations().await, 0);
}

#[tokio::test]
async fn every_bad_value_is_refused_at_its_pointer_and_nothing_is_stored() {
    let api = Api::start().await;
    let long_id = "x".repeat(129);
    let long_url = format!("https://hr.example.com/{}", "x".repeat(2048));
    let long_metadata = json!({"x": "x".repeat(4096)});
    let cases = [
        ("/task/website_id", json!("")),
        ("/task/website_id", json!(7_047_318_856_652_261_676_u64)),
        ("/task/delivery_task_id", json!(long_id)),
        ("/task/delivery_task_id", json!("a/../b")),
        ("/task/delivery_task_id", json!("a b")),
        ("/task/account", json!("")),
        ("/task/kind", json!("hire")),
        ("/callback/url", json!("not a url")),
        ("/callback/url", json!("ftp://hr.example.com/")),
        ("/callback/url", json!("https://user:pass@hr.example.com/")),
        ("/callback/url", json!("http://hr.example.com/")),
        ("/callback/url", json!(long_url)),
        ("/callback/url", json!(["https://hr.example.com/"])),
        ("/metadata", json!("text")),
        ("/metadata", json!(7)),
        ("/metadata", long_metadata),
        ("/give_up_after", json!("soon")),
        ("/give_up_after", json!("999ms")),
        ("/give_up_after", json!("31d")),
        ("/give_up_after", json!(60)),
        ("/task/surprise", json!(1)),
        ("/callback/headers", json!({})),
        ("/surprise", json!(1)),
    ];
    for (pointer, value) in cases {
        let mut body = wanted("task-1");
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[name] = value.clone();
        let answer = api.post("/v1/registrations", ATS, &body).await;
        assert_eq!(answer.pointers(), [pointer], "{value}");
        if name == "surprise" {
            assert!(answer.text.contains("unknown field `surprise`"), "{}", answer.text);
        }
    }
    assert_eq!(api.registrations().await, 0);
}

#[tokio::test]
async fn with_several_accounts_one_must_be_named() {
    let mut config = config();
    config.accounts.push(account("second"));
    let api = Api::start_with(config, outcomed::api::Limits::default()).await;
    let answer = api.post("/v1/registrations", ATS, &wanted("task-1")).await;
    assert_eq!(answer.pointers(), ["/task/account"]);
    assert!(answer.text.contains("default, second"), "{}", answer.text);
    let mut named = wanted("task-1");
    named["task"]["account"] = json!("second");
    assert_eq!(api.post("/v1/registrations", ATS, &named).await.status, 201);
}

#[tokio::test]
async fn a_known_outcome_is_delivered_at_once() {
    let api = Api::start().await;
    api.register("task-1").await;
    api.settle("task-1").await;
    let answer = api.post("/v1/registrations", CRM, &wanted("task-1")).await;
    assert_eq!(answer.status, 201);
    let registration = answer.json();
    assert_eq!(registration["state"], "delivering");
    assert_eq!(registration["outcome"]["outcome"], "succeeded");
    assert_eq!(registration["outcome"]["delivery"]["application_id"], "6960663240925956657");
    assert!(registration["outcome"].get("registration_id").is_none());
}

#[tokio::test]
async fn a_client_without_a_signing_secret_cannot_register() {
    let api = Api::start().await;
    let answer = api.post("/v1/registrations", OPERATOR, &wanted("task-1")).await;
    let problem = answer.problem(403, "no-signing-secret");
    assert!(problem["detail"].as_str().unwrap().contains("`ops`"));
    let batch = json!({"registrations": [wanted("task-1")]});
    let answer = api.post("/v1/registrations/batch", OPERATOR, &batch).await;
    answer.problem(403, "no-signing-secret");
    assert_eq!(api.registrations().await, 0);
}

#[tokio::test]
async fn the_good_ones_of_a_batch_stand_and_the_others_say_why_in_order() {
    let api = Api::start().await;
    let mut bad = wanted("task-2");
    bad["task"]["website_id"] = json!("");
    let mut unknown = wanted("task-3");
    unknown["surprise"] = json!(true);
    let batch = json!({"registrations":
        [wanted("task-1"), bad, unknown, wanted("task-1"), wanted("task-4"), 7]});
    let answer = api.post("/v1/registrations/batch", ATS, &batch).await;
    assert_eq!(answer.status, 200);
    let results = answer.json()["results"].clone();
    let statuses: Vec<u64> =
        results.as_array().unwrap().iter().map(|it| it["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 422, 422, 200, 201, 422]);
    assert_eq!(results[0]["registration"]["id"], results[3]["registration"]["id"]);
    assert_eq!(results[4]["registration"]["task"]["delivery_task_id"], "task-4");
    assert_eq!(results[1]["problem"]["errors"][0]["pointer"], "/task/website_id");
    assert_eq!(results[2]["problem"]["errors"][0]["pointer"], "/surprise");
    assert!(results[1].get("registration").is_none() && results[0].get("problem").is_none());
    assert_eq!(api.registrations().await, 2);
}

#[tokio::test]
async fn a_batch_takes_a_thousand_and_no_more() {
    let api = Api::start().await;
    let batch = |count: u32| {
        let items: Vec<Value> = (0..count).map(|n| wanted(&format!("task-{n}"))).collect();
        json!({"registrations": items})
    };
    let answer = api.post("/v1/registrations/batch", ATS, &batch(1001)).await;
    assert_eq!(answer.pointers(), ["/registrations"]);
    assert_eq!(api.registrations().await, 0);
    let answer = api.post("/v1/registrations/batch", ATS, &batch(1000)).await;
    let results = answer.json()["results"].clone();
    assert!(results.as_array().unwrap().iter().all(|result| result["status"] == 201));
    assert_eq!(api.registrations().await, 1000);
    assert_eq!(
        api.post("/v1/registrations/batch", ATS, &json!({})).await.pointers(),
        ["/registrations"]
    );
}
