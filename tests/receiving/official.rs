//! What we sign, judged by Standard Webhooks' official libraries: Rust's, Python's, JavaScript's.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outcomed::clock::{Clock, SystemClock};
use outcomed::config::{SigningKey, SigningSecret};
use outcomed::delivery::sign;
use serde_json::{Value, json};

const NEW: [u8; 32] = [7; 32];
const OLD: [u8; 24] = [9; 24];
const ID: &str = "msg_reg_1";
const BODY: &str = r#"{"type":"delivery_task.succeeded","data":{"n":"1"}}"#;

struct Case {
    secret: String,
    headers: [(&'static str, String); 3],
    body: String,
    genuine: bool,
}

impl Case {
    /// Nothing of it was changed, whoever's secret it is checked with.
    fn is_ours(&self) -> bool {
        self.body == BODY && self.headers[0].1 == ID
    }
}

fn whsec(secret: &[u8]) -> String {
    format!("whsec_{}", STANDARD.encode(secret))
}

/// What we send, and everything that differs from it by one bit (the top bit of each byte aside,
/// without which it would be no text).
fn cases() -> Vec<Case> {
    let secrets = [SigningSecret::new(NEW.to_vec()), SigningSecret::new(OLD.to_vec())];
    let keys = [SigningKey::from_seed(&[1; 32])];
    let now = SystemClock::new().wall();
    let sent = sign::sign(ID, now, BODY.as_bytes(), &secrets, &keys).unwrap();
    let case = |secret: &[u8], id: &str, at: &str, signature: &str, body: &str, genuine| Case {
        secret: whsec(secret),
        headers: [
            (sign::ID, id.to_owned()),
            (sign::TIMESTAMP, at.to_owned()),
            (sign::SIGNATURE, signature.to_owned()),
        ],
        body: body.to_owned(),
        genuine,
    };
    let (id, at, signature) = (&sent.id, &sent.timestamp, &sent.signature);
    let mut cases = vec![
        case(&NEW, id, at, signature, BODY, true),
        case(&OLD, id, at, signature, BODY, true),
        case(&[8; 32], id, at, signature, BODY, false),
    ];
    for other in flips(BODY) {
        cases.push(case(&NEW, id, at, signature, &other, false));
    }
    // Not a control character, which no header may hold.
    for other in flips(id).filter(|text| text.chars().all(|c| c.is_ascii_graphic())) {
        cases.push(case(&NEW, &other, at, signature, BODY, false));
    }
    let first = signature.split(' ').next().unwrap();
    let alphabet = |text: &String| STANDARD.decode(text.trim_start_matches("v1,")).is_ok();
    for other in flips(first).filter(alphabet) {
        cases.push(case(&NEW, id, at, &other, BODY, false));
    }
    cases
}

fn flips(text: &str) -> impl Iterator<Item = String> {
    (0..text.len() * 7).map(move |bit| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[bit / 7] ^= 1 << (bit % 7);
        String::from_utf8(bytes).unwrap()
    })
}

#[test]
fn the_official_rust_library_accepts_what_we_sign_and_no_flipped_bit() {
    for case in cases() {
        let mut headers = reqwest::header::HeaderMap::new();
        for (name, value) in &case.headers {
            headers.insert(*name, value.parse().unwrap());
        }
        let webhook = standardwebhooks::Webhook::new(&case.secret).unwrap();
        let genuine = webhook.verify(case.body.as_bytes(), &headers).is_ok();
        assert_eq!(genuine, case.genuine, "{:?} {}", case.headers, case.body);
    }
}

/// Below the folder into which `tests/sdk/setup.sh` installs.
fn installed(path: &str) -> PathBuf {
    let path = [env!("CARGO_MANIFEST_DIR"), "target/sdk", path].iter().collect::<PathBuf>();
    assert!(path.exists(), "{} is missing: run `make test`", path.display());
    path
}

fn script(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/sdk", name].iter().collect()
}

/// Asks a program that answers each line of its input with `true` or `false`.
fn judge(mut command: Command, cases: &[Case]) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines: Vec<String> = cases.iter().map(line).collect();
    let writer = std::thread::spawn(move || {
        for line in lines {
            // A program that died says why on standard error, below.
            let _ = writeln!(input, "{line}");
        }
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let verdicts: Vec<bool> = said.lines().map(|line| line == "true").collect();
    assert_eq!(verdicts.len(), cases.len(), "{said}");
    for (case, genuine) in cases.iter().zip(verdicts) {
        assert_eq!(genuine, case.genuine, "{:?} {}", case.headers, case.body);
    }
}

fn line(case: &Case) -> String {
    let headers: Value =
        case.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    json!({"secret": case.secret, "headers": headers, "body": case.body}).to_string()
}

#[test]
fn the_official_python_library_accepts_what_we_sign_and_no_flipped_bit() {
    let mut command = Command::new(installed("venv/bin/python"));
    command.arg(script("verify.py"));
    judge(command, &cases());
}

#[test]
fn the_official_javascript_library_accepts_what_we_sign_and_no_flipped_bit() {
    let mut command = Command::new("node");
    command.arg(script("verify.mjs")).env("SDK", installed("node/package.json"));
    judge(command, &cases());
}

/// The document's block for public keys, which no official library verifies yet.
#[test]
fn the_documented_javascript_for_public_keys_accepts_what_we_sign_and_no_flipped_bit() {
    let run = r#"
import { createInterface } from "node:readline";
for await (const line of createInterface({ input: process.stdin })) {
  const { headers, body } = JSON.parse(line);
  console.log(String(verify(headers, Buffer.from(body), KEYS)));
}
"#;
    let public = |seed| SigningKey::from_seed(&[seed; 32]).public();
    let dir = tempfile::tempdir().unwrap();
    for (keys, fits) in [(json!([public(2), public(1)]), true), (json!([public(2)]), false)] {
        let run = run.replace("KEYS", &keys.to_string());
        let mut command = Command::new("node");
        command.arg(crate::program(
            dir.path(),
            "verify.mjs",
            [&crate::snippet("javascript"), &run],
        ));
        // Of the other signatures nothing is asked here, nor of secrets.
        let asked = cases().into_iter().filter(|it| it.headers[2].1.contains("v1a,"));
        let asked: Vec<Case> =
            asked.map(|it| Case { genuine: fits && it.is_ours(), ..it }).collect();
        judge(command, &asked);
    }
}
