//! Claims about `outcomed migrate-store`, the program.

use std::process::{Command, Output, Stdio};

use super::fixture::{World, told, world};

fn outcomed(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_outcomed"))
        .arg("migrate-store")
        .args(arguments)
        .output()
        .unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

impl World {
    fn from(&self) -> String {
        format!("sqlite:{}", self.file.display())
    }

    /// Starts the program, and kills it while rows go over.
    fn kill_in_mid_copy(&self) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_outcomed"))
            .args(["migrate-store", "--from", &self.from(), "--to", &self.url])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while !self.is_copying() {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        }
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9), "{ended}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_is_killed_starts_over_and_nothing_is_there_twice_or_lost() {
    let world = world(1_000).await;
    let before = told(&world.sqlite().unwrap()).await;
    world.slow_down().await;
    for _ in 0..2 {
        tokio::task::block_in_place(|| world.kill_in_mid_copy());
        assert!(world.sqlite_refuses().contains("not finished"));
        assert_eq!(world.sql("SELECT count(*) FROM task"), "0", "all of it or nothing");
    }
    let done = outcomed(&["--from", &world.from(), "--to", &world.url]);
    assert_eq!(done.status.code(), Some(0), "{}", error(&done));
    assert_eq!(told(&world.postgres().await).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_shows_its_progress_and_sums_up() {
    let world = world(24).await;
    let done = outcomed(&["--from", &world.from(), "--to", &world.url]);
    let (data, said) = (String::from_utf8(done.stdout.clone()).unwrap(), error(&done));
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert!(said.contains("copying lane: 2 of ") && said.contains("(100 %)"), "{said}");
    assert!(said.contains("no daemon opens it") && said.contains("U+FFFD"), "{said}");
    let lines: Vec<Vec<&str>> = data.lines().map(|l| l.split_whitespace().collect()).collect();
    let registration = lines.iter().find(|line| line[0] == "registration").unwrap();
    assert_eq!((registration[1], registration[2].len()), ("80", 64), "{data}");
    assert_eq!(lines.len(), 10, "{data}");
    let daemon = Command::new(env!("CARGO_BIN_EXE_outcomed"))
        .args(["serve", "--listen", "127.0.0.1:0", "--store", &world.from()])
        .current_dir(world.file.parent().unwrap())
        .output()
        .unwrap();
    let refused = error(&daemon);
    assert_eq!(daemon.status.code(), Some(1), "{refused}");
    assert!(refused.contains("its data moved to postgres 127.0.0.1:"), "{refused}");
    let again = outcomed(&["--from", &world.from(), "--to", &world.url]);
    assert_eq!(again.status.code(), Some(0));
    assert!(error(&again).contains("nothing to do: this move was finished at 20"));
    let back = outcomed(&["--from", &world.from(), "--to", &world.url, "--abandon"]);
    assert_eq!(back.status.code(), Some(0), "{}", error(&back));
    assert!(error(&back).contains("Drop that database"));
    world.sqlite().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_may_stay_out_of_the_list_of_processes() {
    let world = world(2).await;
    let file = world.file.with_extension("url");
    std::fs::write(&file, format!("{}\n", world.url)).unwrap();
    let done = outcomed(&["--from", &world.from(), "--to", &format!("file:{}", file.display())]);
    assert_eq!(done.status.code(), Some(0), "{}", error(&done));
}

#[test]
fn ends_that_cannot_be_are_a_mistake_of_usage() {
    let (file, base) = ("sqlite:a.db", "postgres://me:hunter2@h/db");
    for (from, to, why) in [
        (base, file, "no way back from Postgres to SQLite"),
        (file, "sqlite:b.db", "copy the file"),
        (base, base, "pg_dump"),
        ("a.db", base, "--from is not a store"),
        (file, "hunter2", "--to is not a store"),
        (file, "env:NOT_SET_ANYWHERE", "--to refers to env:NOT_SET_ANYWHERE"),
        ("sqlite:", base, "--from names no file"),
    ] {
        let done = outcomed(&["--from", from, "--to", to]);
        let said = error(&done);
        assert_eq!(done.status.code(), Some(2), "{said}");
        assert!(said.contains(why) && !said.contains("hunter2"), "{said}");
    }
    let none = outcomed(&["--from", "sqlite:/nonexistent/a.db", "--to", base]);
    assert_eq!(none.status.code(), Some(1));
    assert!(error(&none).contains("there is no file /nonexistent/a.db"), "{}", error(&none));
}
