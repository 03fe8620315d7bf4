//! `outcomed demo`: the main job with everything it needs in this one process: a stand-in Feishu,
//! the daemon on a temporary store, and receivers that verify what they get.

mod screen;
mod stage;
mod story;

use std::time::Duration;

use super::Exit;
use super::stopping::stop_signal;
use screen::Screen;
use stage::{Stage, StageError};
use story::{Story, Told};

/// Whatever happens, the demo is over by then, and for each further task a little later.
const TIME_MAX: Duration = Duration::from_secs(120);
const TIME_MAX_PER_TASK: Duration = Duration::from_millis(500);
/// How often the stand-in is asked how often it was polled.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// One commit of the store, with time to spare on a busy disk.
const RECORDED_WITHIN: Duration = Duration::from_secs(5);
/// In this time the tasks are created, if the create call's own quota allows it.
const CREATE_WITHIN: Duration = Duration::from_secs(3);
/// Feishu's create call has a quota of 1000 a minute.
const CREATE_EVERY_MIN: Duration = Duration::from_millis(65);

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Needs nothing: no configuration, no network but loopback, no files that \
                        stay.\nExamples:\n  outcomed demo\n  outcomed demo --tasks 200\n  \
                        outcomed demo --keep")]
pub struct Args {
    /// How many tasks
    #[arg(long, value_name = "N", default_value_t = 12,
          value_parser = clap::value_parser!(u32).range(1..=5000))]
    tasks: u32,
    /// Stay up afterwards, and say how to reach everything
    #[arg(long)]
    keep: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Exit {
    super::block_on(async move {
        match play(&args).await {
            Ok(exit) => exit,
            Err(error) => super::fail(&format!("demo: {error}"), Exit::Failure),
        }
    })
}

async fn play(args: &Args) -> Result<Exit, StageError> {
    let stopped = stop_signal().map_err(StageError::Io)?;
    tokio::pin!(stopped);
    let mut stage = Stage::set_up().await?;
    let mut screen = Screen::new(args.tasks as usize);
    for line in stage.programme() {
        screen.say(&line);
    }
    let mut story = Story::default();
    let time = TIME_MAX + TIME_MAX_PER_TASK * args.tasks;
    let exit = tokio::select! {
        () = &mut stopped => return Ok(Exit::Failure),
        played = tokio::time::timeout(time, act(&mut stage, &mut story, &mut screen, args.tasks)) => {
            match played {
                Ok(played) => played?,
                Err(_) => screen.say(&format!("not finished within {} s", time.as_secs())),
            }
            let delivered = recorded(&stage, args.tasks as usize).await?;
            let plan = stage.plan().await?;
            for line in story.summary(&stage.figures(), plan.as_ref(), delivered) {
                screen.finish(&line);
            }
            if story.all_told_truly(delivered) { Exit::Success } else { Exit::Failure }
        }
    };
    if args.keep {
        for line in stage.how_to_reach() {
            screen.finish(&line);
        }
        stopped.await;
    }
    stage.tear_down().await;
    Ok(exit)
}

/// How many the daemon itself calls delivered, once it had the time to record the last of them: the
/// receiver has its callback before the daemon has the answer.
async fn recorded(stage: &Stage, tasks: usize) -> Result<usize, StageError> {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let all = async {
        loop {
            looks.tick().await;
            let delivered = stage.delivered().await?;
            if delivered == tasks {
                return Ok(delivered);
            }
        }
    };
    match tokio::time::timeout(RECORDED_WITHIN, all).await {
        Ok(delivered) => delivered,
        Err(_) => stage.delivered().await,
    }
}

/// Creates and registers the tasks, and tells what happens until every callback has arrived.
async fn act(
    stage: &mut Stage,
    story: &mut Story,
    screen: &mut Screen,
    tasks: u32,
) -> Result<(), StageError> {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let every = (CREATE_WITHIN / tasks).max(CREATE_EVERY_MIN);
    let mut creations = tokio::time::interval(every);
    let mut created = 0;
    while created < tasks || !story.is_over() {
        let told = tokio::select! {
            _ = creations.tick(), if created < tasks => {
                created += 1;
                vec![story.registered(stage.create_and_register(created).await?)]
            }
            Some(callback) = stage.callback() => story.arrived(&stage.arrival(&callback)),
            _ = looks.tick() => story.polled(|task| stage.polls(task)),
        };
        for Told { task, line, last } in told {
            screen.show(task, &line, last);
        }
    }
    Ok(())
}
