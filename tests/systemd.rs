//! The service as shipped, under a real systemd. Needs root and Debian's `systemd-container`.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "systemd/machine.rs"]
mod machine;

use std::process::Command;

use machine::{APP_ID, APP_SECRET, CONFIG, Machine, TOKEN, WHSEC};
use serde_json::{Value, json};

const REGISTRATION: &str = r#"{"task":{"website_id":"1","delivery_task_id":"a"},"callback":{"url":"http://127.0.0.1:9/hook"}}"#;

/// `systemd-analyze security` in tenths; 12 is "1.2".
const EXPOSURE_MAX: &str = "--threshold=12";

fn register(machine: &Machine) -> String {
    let (status, body) = machine.call(8474, "POST /v1/registrations", TOKEN, REGISTRATION);
    assert_eq!(status, 201, "{body}\n{}", machine.journal(&[]));
    let at = body.find("reg_").expect("the reply holds the registration's id");
    body[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).collect()
}

fn active_again(machine: &Machine) {
    machine.until("restarted", || {
        machine.show("NRestarts") != "0" && machine.show("ActiveState") == "active"
    });
}

#[test]
fn the_units_are_valid_and_exposed_no_more_than_agreed() {
    let dir = tempfile::tempdir().unwrap();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd");
    let unit = std::fs::read_to_string(format!("{shipped}/outcomed.service")).unwrap();
    // The binary is looked for; everything else is read as it is shipped.
    let unit = unit.replace("/usr/bin/outcomed", env!("CARGO_BIN_EXE_outcomed"));
    let path = |name: &str| dir.path().join(name).into_os_string();
    std::fs::write(path("outcomed.service"), unit).unwrap();
    std::fs::copy(format!("{shipped}/outcomed.socket"), path("outcomed.socket")).unwrap();
    let analyze = |command: &[&str], unit: &str| {
        let output =
            Command::new("systemd-analyze").args(command).arg(path(unit)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{command:?} {unit}: {said}");
    };
    for unit in ["outcomed.service", "outcomed.socket"] {
        analyze(&["--man=no", "verify"], unit);
    }
    analyze(&["security", "--offline=true", EXPOSURE_MAX], "outcomed.service");
}

#[test]
fn a_started_service_is_ready_and_a_stopped_one_ended_well() {
    let machine = Machine::boot();
    machine.start();
    assert_eq!(machine.readyz(), 200);
    machine.until("telling what it does", || machine.show("StatusText").contains("tasks watched"));
    machine.run(&["systemctl", "stop", "outcomed.service"]);
    assert_eq!(machine.show("Result"), "success");
    assert_eq!(machine.show("ExecMainStatus"), "0");
    assert_eq!(machine.journal(&["-p", "err"]), "");
}

#[test]
fn the_daemon_has_no_privileges_and_others_cannot_read_its_secrets() {
    let machine = Machine::boot();
    machine.start();
    let status = machine.run(&["cat", &format!("/proc/{}/status", machine.show("MainPID"))]);
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.split_whitespace().next().unwrap().to_owned()
    };
    assert_ne!(value("Uid:"), "0");
    assert_eq!(value("NoNewPrivs:"), "1");
    assert_eq!(value("CapBnd:"), "0000000000000000");
    assert_eq!(value("Seccomp:"), "2");

    let (status, _) = machine.call(8474, "GET /v1/registrations", TOKEN, "");
    assert_eq!(status, 200, "the token came in as a credential");
    for file in
        ["/etc/outcomed/credentials/ats-token", "/run/credentials/outcomed.service/ats-token"]
    {
        let stranger = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", file];
        assert!(!machine.try_run(&stranger).status.success(), "{file}");
    }
    let state = machine.run(&["stat", "-c", "%a %U", "/var/lib/outcomed"]);
    assert_eq!(state.trim(), "700 outcomed");
}

#[test]
fn a_socket_unit_starts_the_service_and_wins_over_the_configured_address() {
    let machine = Machine::boot();
    machine.write("/etc/outcomed/config.toml", &CONFIG.replace("8474", "8475"));
    machine.run(&["systemctl", "start", "outcomed.socket"]);
    assert_eq!(machine.show("ActiveState"), "inactive");
    assert_eq!(machine.readyz(), 200, "the first caller waits for the start");
    assert_eq!(machine.show("ActiveState"), "active");
    assert_eq!(machine.call(8475, "GET /readyz", "", "").0, 0);
    // The socket stays while the service is away: the next caller brings it back.
    machine.run(&["systemctl", "stop", "outcomed.service"]);
    assert_eq!(machine.readyz(), 200);
}

#[test]
fn a_reload_takes_the_new_settings_and_a_bad_file_changes_nothing() {
    let machine = Machine::boot();
    machine.start();
    let pid = machine.show("MainPID");
    let list = |token: &str| machine.call(8474, "GET /v1/registrations", token, "").0;
    let newcomer = "oct_newcomer_0123456789abcdef0123456789abcdef";
    assert_eq!(list(newcomer), 401);
    let client =
        format!("[[clients]]\nname = \"new\"\nrole = \"operator\"\ntoken = \"{newcomer}\"");
    machine.write("/etc/outcomed/config.toml", &format!("{CONFIG}{client}\n"));
    machine.run(&["systemctl", "reload", "outcomed.service"]);
    machine.until("reloaded", || list(newcomer) == 200);

    machine.write("/etc/outcomed/config.toml", &format!("{CONFIG}[polling]\nhurry = \"very\"\n"));
    machine.run(&["systemctl", "reload", "outcomed.service"]);
    machine.until("said in the journal", || machine.journal(&["-p", "warning"]).contains("hurry"));
    assert_eq!(list(newcomer), 200, "the settings before are still in force");
    assert_eq!(machine.show("MainPID"), pid);
    assert_eq!(machine.show("ActiveState"), "active");
}

#[test]
fn a_bad_configuration_is_named_and_not_tried_again() {
    let machine = Machine::boot();
    machine.write("/etc/outcomed/config.toml", &format!("{CONFIG}[polling]\nhurry = \"very\"\n"));
    assert!(!machine.try_run(&["systemctl", "start", "outcomed.service"]).status.success());
    machine.until("failed", || machine.show("ActiveState") == "failed");
    assert_eq!(machine.show("ExecMainStatus"), "78");
    assert_eq!(machine.show("NRestarts"), "0");
    assert!(machine.journal(&[]).contains("hurry"), "{}", machine.journal(&[]));
}

#[test]
fn a_killed_daemon_comes_back_with_its_registrations() {
    let machine = Machine::boot();
    machine.start();
    let id = register(&machine);
    machine.run(&["kill", "-KILL", &machine.show("MainPID")]);
    active_again(&machine);
    let (status, body) = machine.call(8474, &format!("GET /v1/registrations/{id}"), TOKEN, "");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"watching\""), "{body}");
}

#[test]
fn a_hung_daemon_is_killed_by_the_watchdog_and_comes_back() {
    let machine = Machine::boot();
    machine.drop_in("[Service]\nWatchdogSec=4\n");
    machine.start();
    machine.run(&["kill", "-STOP", &machine.show("MainPID")]);
    active_again(&machine);
    assert_eq!(machine.readyz(), 200);
    assert!(machine.journal(&[]).contains("Watchdog timeout"), "{}", machine.journal(&[]));
}

/// Resolves a name, polls, writes, signs and delivers: whatever the unit forbids, not these.
#[test]
fn the_sandbox_leaves_room_for_the_whole_job() {
    let machine = Machine::boot();
    let background = |name: &str, command: &[&str]| {
        let unit = format!("--unit={name}");
        machine.run(&[&["systemd-run", "-q", &unit, "/usr/bin/outcomed"], command].concat());
    };
    let app = ["--app-id", APP_ID, "--app-secret", APP_SECRET];
    let mock = ["mock-feishu", "--listen", "127.0.0.1:9000", "--settle", "fixed:1"];
    background("mock", &[&mock[..], &app[..]].concat());
    background("receiver", &["listen", "--secret", WHSEC, "--listen", "127.0.0.1:9001"]);
    let config = CONFIG.replace("http://127.0.0.1:9\"", "http://127.0.0.1:9000\"");
    machine.write("/etc/outcomed/config.toml", &config);
    machine.start();

    let feishu = |path: &str, token: &str, body: Value| {
        let line = format!("POST /open-apis/{path}");
        let (status, reply) = machine.call(9000, &line, token, &body.to_string());
        assert_eq!(status, 200, "{reply}");
        serde_json::from_str::<Value>(&reply).unwrap()
    };
    machine.until("listening", || machine.call(9000, "GET /", "", "").0 != 0);
    let login = json!({"app_id": APP_ID, "app_secret": APP_SECRET});
    let token = feishu("auth/v3/tenant_access_token/internal", "", login);
    let token = token["tenant_access_token"].as_str().unwrap();
    let delivery = json!({"job_post_id": "1", "user_id": "2", "resume_file_id": "3"});
    let task = feishu("hire/v1/websites/7/deliveries/create_by_attachment", token, delivery);
    let registration = json!({
        "task": {"website_id": "7", "delivery_task_id": task["data"]["task_id"]},
        "callback": {"url": "http://localhost:9001/hook"},
    });
    let body = registration.to_string();
    let (status, reply) = machine.call(8474, "POST /v1/registrations", TOKEN, &body);
    assert_eq!(status, 201, "{reply}");
    let id = serde_json::from_str::<Value>(&reply).unwrap()["id"].as_str().unwrap().to_owned();
    let line = format!("GET /v1/registrations/{id}");
    machine.until("delivered", || machine.call(8474, &line, TOKEN, "").1.contains("\"delivered\""));
}
