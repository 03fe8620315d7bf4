//! The house as a test. Each rule says what to do instead.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

const FILE_LINES_MAX: usize = 400;
const ARCHITECTURE_LINES_MAX: usize = 200;

/// Decisions: they take the time and randomness as arguments and return what to do.
const PURE: [&str; 37] = [
    "src/task.rs",
    "src/outcome.rs",
    "src/config/model.rs",
    "src/polling/lane.rs",
    "src/polling/hold.rs",
    "src/polling/failing.rs",
    "src/polling/deadlines.rs",
    "src/polling/unresolved.rs",
    "src/polling/trouble.rs",
    "src/polling/restored.rs",
    "src/watching.rs",
    "src/polling/fleet/tenure.rs",
    "src/app/crew/report.rs",
    "src/polling/plan.rs",
    "src/polling/quota.rs",
    "src/polling/estimate.rs",
    "src/delivery/sign.rs",
    "src/delivery/guard.rs",
    "src/delivery/retry.rs",
    "src/delivery/breaker.rs",
    "src/delivery/dispatch.rs",
    "src/delivery/dispatch/asked.rs",
    "src/delivery/dispatch/places.rs",
    "src/delivery/dispatch/queues.rs",
    "src/delivery/dispatch/receiver.rs",
    "src/delivery/dispatch/shares.rs",
    "src/delivery/alert/incident.rs",
    "src/source/feishu/wire.rs",
    "src/source/feishu/seen.rs",
    "src/source/feishu/ticket.rs",
    "src/receiver/verify.rs",
    "src/api/server/peer.rs",
    "src/observability/line.rs",
    "src/observability/lines.rs",
    "src/observability/metrics/labels.rs",
    "src/observability/metrics/snapshot.rs",
    "src/service/status.rs",
];

/// What a pure file may not hold, and what to do instead.
const IMPURE: [(&str, &str); 19] = [
    ("tokio::", "leave waiting to the shell"),
    ("async fn", "return what to do; the shell does it"),
    (".await", "return what to do; the shell does it"),
    ("reqwest", "leave HTTP to the shell"),
    ("hyper::", "leave HTTP to the shell"),
    ("rusqlite", "leave SQL to the store"),
    ("std::fs", "take the text as an argument"),
    ("std::net::Tcp", "leave sockets to the shell"),
    ("std::env", "leave the environment to the configuration"),
    ("Instant", "take `now: Steady` as an argument"),
    ("SystemTime", "take `now: Timestamp` as an argument"),
    ("dyn Clock", "take `now` as an argument"),
    ("rand::rng", "take the random number as an argument"),
    ("debug!", "return it; the shell logs it once"),
    ("info!", "return it; the shell logs it once"),
    ("warn!", "return it; the shell logs it once"),
    ("error!", "return it; the shell logs it once"),
    ("println!", "return the text"),
    ("HashMap", "use a BTreeMap: its order is the same in every run"),
];

/// The arrows that must not be: files below the first may not name the modules after it.
const ARROWS: [(&str, &[&str]); 12] = [
    ("src/task", &["api", "app", "cli", "store", "polling", "delivery", "source", "observability"]),
    ("src/outcome", &["api", "app", "cli", "store", "polling", "delivery", "source"]),
    ("src/clock", &["api", "app", "cli", "store", "polling", "delivery", "source", "config"]),
    ("src/config", &["api", "app", "cli", "store", "polling", "source", "mock_feishu"]),
    ("src/store", &["api", "app", "cli", "polling", "delivery", "source", "mock_feishu"]),
    ("src/source", &["api", "app", "cli", "store", "polling", "delivery", "mock_feishu"]),
    ("src/polling", &["api", "app", "cli", "delivery", "mock_feishu"]),
    ("src/delivery", &["api", "app", "cli", "polling", "source", "mock_feishu"]),
    ("src/api", &["app", "cli", "mock_feishu"]),
    ("src/observability", &["api", "app", "cli", "delivery", "source", "mock_feishu"]),
    ("src/service", &["api", "app", "cli", "delivery", "source", "mock_feishu"]),
    ("src/mock_feishu", &["api", "app", "cli", "store", "polling", "delivery", "source"]),
];

/// Crates that one place only may use.
const AT_HOME: [(&str, &[&str]); 5] = [
    ("rusqlite", &["src/store"]),
    ("tokio_postgres", &["src/store"]),
    ("axum", &["src/api", "src/app", "src/mock_feishu", "src/receiver", "src/console", "src/cli"]),
    ("prometheus_client", &["src/observability"]),
    ("sd_notify", &["src/service"]),
];

fn root() -> PathBuf {
    // At run time, so that one build of this test can be pointed at another checkout.
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this test"))
}

fn read(path: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(root().join(path)).expect(path)).into_owned()
}

/// Every file that is, or is about to be, part of the project.
fn files() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the project's files");
    let text = String::from_utf8(output.stdout).unwrap();
    let files: BTreeSet<&str> = text.lines().filter(|path| root().join(path).is_file()).collect();
    assert!(files.contains("Cargo.toml"), "no git checkout: {files:?}");
    files.into_iter().map(str::to_owned).collect()
}

fn rust() -> Vec<String> {
    files().into_iter().filter(|path| path.rsplit('.').next() == Some("rs")).collect()
}

/// A file's lines of code with their numbers: no comments, and nothing from its tests on.
fn code(path: &str) -> Vec<(usize, String)> {
    let text = read(path);
    text.lines()
        .enumerate()
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line.to_owned()))
        .collect()
}

fn none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// Whether `word` stands in `line` as a word of its own.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let open = !word.ends_with(|c: char| part(c)) || !after.is_some_and(part);
        !before.is_some_and(part) && open
    })
}

fn below(path: &str, module: &str) -> bool {
    path == format!("{module}.rs") || path.starts_with(&format!("{module}/"))
}

#[test]
fn no_file_is_longer_than_one_idea() {
    let long = rust().into_iter().filter_map(|path| {
        let lines = read(&path).lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{path}: {lines} lines; split off an idea"))
    });
    none(&long.collect::<Vec<_>>());
}

#[test]
fn pure_files_read_no_clock_and_do_no_io() {
    let mut problems = Vec::new();
    for path in PURE {
        if !root().join(path).is_file() {
            problems.push(format!("{path} is on the list of pure files and does not exist"));
            continue;
        }
        for (number, line) in code(path) {
            for (word, instead) in IMPURE {
                if has_word(&line, word) || (word.starts_with('.') && line.contains(word)) {
                    problems.push(format!("{path}:{number}: `{word}`: {instead}"));
                }
            }
        }
    }
    none(&problems);
}

#[test]
fn arrows_point_one_way() {
    let mut problems = Vec::new();
    for path in rust() {
        for (module, forbidden) in ARROWS.into_iter().filter(|(module, _)| below(&path, module)) {
            for (number, line) in code(&path) {
                let named = |to: &&&str| has_word(&line, &format!("crate::{to}"));
                for to in forbidden.iter().filter(named) {
                    problems.push(format!("{path}:{number}: {module} may not know {to}"));
                }
            }
        }
    }
    none(&problems);
}

#[test]
fn what_is_done_in_one_place_is_done_in_one_place() {
    let mut problems = Vec::new();
    for path in rust().into_iter().filter(|path| path.starts_with("src/")) {
        for (name, homes) in AT_HOME {
            if homes.iter().any(|home| below(&path, home)) {
                continue;
            }
            let used = code(&path).into_iter().filter(|(_, l)| has_word(l, &format!("{name}::")));
            for (number, _) in used {
                problems.push(format!("{path}:{number}: {name} belongs to {}", homes.join(", ")));
            }
        }
    }
    none(&problems);
}

#[test]
fn no_file_is_an_orphan() {
    let mut problems = Vec::new();
    let all = rust();
    for path in &all {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let name = name.trim_end_matches(".rs");
        if name == "mod" {
            problems.push(format!("{path}: `foo.rs` beside `foo/`, not `foo/mod.rs`"));
        }
        let parents: Vec<String> = match folder {
            _ if name == "main" || path == "src/lib.rs" => continue,
            "src" => vec!["src/lib.rs".into(), "src/main.rs".into()],
            "" | "tests" | "benches" | "examples" | "fuzz/fuzz_targets" | "src/bin" => continue,
            _ => {
                let area = folder.split('/').take(2).collect::<Vec<_>>().join("/");
                let near = |other: &&String| other.starts_with("tests/") && *other != path;
                let cousins = all.iter().filter(near).cloned();
                let tests = path.starts_with("tests/");
                let more: Vec<String> = if tests { cousins.collect() } else { Vec::new() };
                more.into_iter()
                    .chain(["", "/main"].map(|end| format!("{folder}{end}.rs")))
                    .chain([format!("{area}.rs")])
                    .collect()
            }
        };
        // By its name, or by its path where several tests share it.
        let said = [format!("mod {name};"), format!("/{name}.rs\"]")];
        let declares = |parent: &String| {
            let says = |line: &str| said.iter().any(|said| line.trim_end().ends_with(said));
            all.contains(parent) && read(parent).lines().any(says)
        };
        if !parents.iter().any(declares) {
            problems.push(format!("{path}: nothing says `mod {name};`, so it is never compiled"));
        }
    }
    none(&problems);
}

#[test]
fn nothing_is_left_behind() {
    let words = [
        ("#[allow", "use #[expect(…, reason = \"…\")]"),
        ("#![allow", "use #![expect(…, reason = \"…\")]"),
        ("todo!", "do it"),
        ("unimplemented!", "do it"),
        ("dbg!", "remove it"),
        ("FIXME", "mend it"),
        ("TODO", "do it, or file it"),
        ("(in the making)", "make it"),
    ];
    let mut problems = Vec::new();
    for path in rust().into_iter().filter(|path| path != "tests/tidy.rs") {
        for (number, line) in read(&path).lines().enumerate() {
            for (word, instead) in words {
                if line.contains(word) {
                    problems.push(format!("{path}:{}: `{word}`: {instead}", number + 1));
                }
            }
        }
    }
    none(&problems);
}

#[test]
fn text_is_clean() {
    let kinds =
        [".rs", ".md", ".toml", ".sh", ".py", ".js", ".css", ".html", ".service", ".socket"];
    let mut problems = Vec::new();
    for path in files().iter().filter(|path| kinds.iter().any(|kind| path.ends_with(kind))) {
        let text = read(path);
        if !text.is_empty() && !text.ends_with('\n') {
            problems.push(format!("{path}: ends without a newline"));
        }
        for (number, line) in text.lines().enumerate() {
            if line.contains('\t') || line.ends_with([' ', '\r']) {
                problems.push(format!("{path}:{}: a tab or a trailing space", number + 1));
            }
        }
    }
    none(&problems);
}

#[test]
fn no_file_names_a_registry_or_a_path_of_one_machine() {
    let mut problems = Vec::new();
    let homes = ["work", "root", "farm", "home"].map(|name| format!("/{name}/"));
    for path in files() {
        if path == "tests/tidy.rs" || path == "LICENSE" || path.contains("lock") {
            continue;
        }
        for (number, line) in read(&path).lines().enumerate() {
            let home = homes.iter().find(|home| {
                line.match_indices(home.as_str()).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || "_.}".contains(c))
                })
            });
            let registry = line.split("://").skip(1).any(|rest| {
                let host = rest.split(|c: char| !(c.is_alphanumeric() || ".-".contains(c)));
                let host = host.into_iter().next().unwrap_or_default();
                ["crates", "pypi", "npm", "debian"].iter().any(|word| host.contains(word))
            });
            if home.is_some() || registry {
                problems.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none(&problems);
}

/// In the README each promise is a bullet that ends in `<!-- held by: test_name -->`.
#[test]
fn every_promise_of_the_readme_has_its_test() {
    let readme = read("README.md");
    let promises = readme.split("## What it promises").nth(1).expect("the section of promises");
    let promises = promises.split("\n## ").next().unwrap();
    let tests: String = rust().iter().map(|path| read(path)).collect();
    let mut problems = Vec::new();
    let bullets: Vec<&str> = promises.split("\n- ").skip(1).collect();
    assert!(bullets.len() >= 5, "the promises have gone");
    for bullet in bullets {
        let name = bullet.split("<!-- held by: ").nth(1).and_then(|rest| rest.split(' ').next());
        match name {
            None => problems.push(format!("no test holds: {bullet}")),
            Some(name) if !tests.contains(&format!("fn {name}(")) => {
                problems.push(format!("there is no test `{name}` to hold: {bullet}"));
            }
            Some(_) => {}
        }
    }
    none(&problems);
}

#[test]
fn the_map_fits_its_limit_and_names_what_exists() {
    let map = read("ARCHITECTURE.md");
    assert!(map.lines().count() <= ARCHITECTURE_LINES_MAX);
    let mut problems = Vec::new();
    let docs = std::fs::read_dir(root().join("docs")).unwrap();
    let docs = docs
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension() == Some("md".as_ref()));
    let docs = docs.map(|path| format!("docs/{}", path.file_name().unwrap().to_str().unwrap()));
    let top = ["ARCHITECTURE.md", "README.md"].map(str::to_owned);
    for document in docs.chain(top) {
        let text = read(&document);
        for named in text.split('`').skip(1).step_by(2) {
            let ours = ["src/", "tests/", "systemd/", "docs/"].iter().any(|d| named.starts_with(d));
            let file = named.trim_end_matches("**").trim_end_matches('/');
            if ours && !root().join(file).exists() {
                problems.push(format!("{document}: `{named}` does not exist"));
            }
        }
    }
    none(&problems);
}

/// The shipped `config.toml` is where an operator learns what a key does.
#[test]
fn every_key_of_the_shipped_configuration_is_explained() {
    let text = read("config.toml");
    let mut explained = false;
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let key = line.split_once('=').is_some_and(|(key, _)| !key.contains(['#', '"', '[']));
        if key && !line.contains('#') && !explained {
            problems.push(format!("config.toml:{}: `{line}` has no comment", number + 1));
        }
        explained = line.trim_start().starts_with('#');
    }
    none(&problems);
}
