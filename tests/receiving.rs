//! `docs/receiving.md` is run as it stands: its functions accept what we sign and nothing else.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod receiving {
    pub mod official;
}

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const NOW: i64 = 1_763_805_600;
const ID: &str = "msg_019aa8";
/// 24 and 32 bytes, the ends of what people use.
const OLD: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3";
const NEW: &str = "whsec_/+BhYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM=";

/// The document's one block in `language`.
fn snippet(language: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/receiving.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (_, rest) = document.split_once(&format!("```{language}\n")).expect(language);
    rest.split_once("```").unwrap().0.to_owned()
}

fn sign(secret: &str, at: i64, body: &[u8]) -> String {
    standardwebhooks::Webhook::new(secret).unwrap().sign(ID, at, body).unwrap()
}

struct Case {
    name: &'static str,
    genuine: bool,
    headers: Value,
    body: &'static [u8],
    secrets: &'static [&'static str],
}

fn headers(at: i64, signature: &str) -> Value {
    json!({"webhook-id": ID, "webhook-timestamp": at.to_string(), "webhook-signature": signature})
}

fn cases() -> Vec<Case> {
    let body = r#"{"type":"delivery_task.succeeded","name":"张三"}"#.as_bytes();
    let both = format!("{} {}", sign(NEW, NOW, body), sign(OLD, NOW, body));
    let case = |name, genuine, headers, secrets| Case { name, genuine, headers, body, secrets };
    let signed = |secret, at| headers(at, &sign(secret, at, body));
    let asymmetric_first = format!("v1a,AAAA {}", sign(NEW, NOW, body));
    vec![
        case("signed", true, signed(NEW, NOW), &[NEW]),
        case("the receiver still has the old secret", true, headers(NOW, &both), &[OLD]),
        case("the receiver has both secrets", true, signed(OLD, NOW), &[NEW, OLD]),
        case("behind an asymmetric signature", true, headers(NOW, &asymmetric_first), &[NEW]),
        case("as old as is tolerated", true, signed(NEW, NOW - 300), &[NEW]),
        case("too old", false, signed(NEW, NOW - 301), &[NEW]),
        case("from the future", false, signed(NEW, NOW + 301), &[NEW]),
        case("another secret", false, signed(OLD, NOW), &[NEW]),
        case(
            "a timestamp that was changed",
            false,
            headers(NOW - 1, &sign(NEW, NOW, body)),
            &[NEW],
        ),
        case(
            "a timestamp that is no number",
            false,
            json!({"webhook-id": ID, "webhook-timestamp": "soon", "webhook-signature": both}),
            &[NEW],
        ),
        case("no headers", false, json!({}), &[NEW]),
        case("a signature that is none", false, headers(NOW, "v1,é v1, v1"), &[NEW]),
        case("no secrets", false, signed(NEW, NOW), &[]),
        Case {
            name: "a body that was changed",
            genuine: false,
            headers: signed(NEW, NOW),
            body: b"{}",
            secrets: &[NEW],
        },
    ]
}

/// Runs `program`, which answers each case on standard input with a line `true` or `false`.
fn judge(mut command: Command) {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect(
            "the language is installed: run `make test`, which installs what the tests need",
        );
    let cases = cases();
    let mut input = child.stdin.take().unwrap();
    for case in &cases {
        let body = STANDARD.encode(case.body);
        let line = json!({"headers": case.headers, "body": body, "secrets": case.secrets});
        // A program that died says why on standard error, below.
        let _ = writeln!(input, "{line}");
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let verdicts: Vec<bool> = said.lines().map(|line| line == "true").collect();
    assert_eq!(verdicts.len(), cases.len(), "{said}");
    for (case, verdict) in cases.iter().zip(verdicts) {
        assert_eq!(verdict, case.genuine, "{}", case.name);
    }
}

fn program(dir: &Path, name: &str, parts: [&str; 2]) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, parts.join("\n")).unwrap();
    path
}

#[test]
fn the_documented_python_accepts_genuine_callbacks_only() {
    let run = r#"
import json, sys
for line in sys.stdin:
    case = json.loads(line)
    genuine = verify(case["headers"], base64.b64decode(case["body"]), case["secrets"], NOW)
    print("true" if genuine else "false")
"#;
    let dir = tempfile::tempdir().unwrap();
    let run = run.replace("NOW", &NOW.to_string());
    let mut command = Command::new("python3");
    command.arg(program(dir.path(), "verify.py", [&snippet("python"), &run]));
    judge(command);
}

#[test]
fn the_documented_javascript_accepts_genuine_callbacks_only() {
    let run = r#"
import { createInterface } from "node:readline";
for await (const line of createInterface({ input: process.stdin })) {
  const { headers, body, secrets } = JSON.parse(line);
  console.log(String(verify(headers, Buffer.from(body, "base64"), secrets, NOW)));
}
"#;
    let dir = tempfile::tempdir().unwrap();
    let run = run.replace("NOW", &NOW.to_string());
    let mut command = Command::new("node");
    command.arg(program(dir.path(), "verify.mjs", [&snippet("js"), &run]));
    judge(command);
}

#[test]
fn the_documented_go_accepts_genuine_callbacks_only() {
    let run = r"
func main() {
    lines := bufio.NewScanner(os.Stdin)
    for lines.Scan() {
        var one struct {
            Headers map[string]string
            Body    []byte
            Secrets []string
        }
        if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
            panic(err)
        }
        header := http.Header{}
        for name, value := range one.Headers {
            header.Set(name, value)
        }
        fmt.Println(Verify(header, one.Body, one.Secrets, time.Unix(NOW, 0)))
    }
}
";
    let dir = tempfile::tempdir().unwrap();
    let imports = "import (\n    \"bufio\"\n    \"encoding/json\"\n    \"fmt\"\n    \"os\"\n";
    let source = snippet("go").replacen("import (\n", imports, 1);
    let run = run.replace("NOW", &NOW.to_string());
    let mut command = Command::new("go");
    command.arg("run").arg(program(dir.path(), "verify.go", [&source, &run]));
    // Its cache beside ours, so that it is warm the next time and never in somebody's home.
    command.env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go"));
    command.env("GOFLAGS", "-mod=mod").env("GO111MODULE", "off").env("CGO_ENABLED", "0");
    judge(command);
}
