//! Where the demo is watched: a line a task that changes in place on a terminal, plain lines
//! elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Tasks that fit on a screen; more of them share one bar.
const LINES_MAX: usize = 30;
const SPIN: Duration = Duration::from_millis(100);

pub(super) struct Screen {
    live: Option<Live>,
    last: Vec<String>,
}

struct Live {
    all: MultiProgress,
    bars: Vec<ProgressBar>,
    one_bar: Option<ProgressBar>,
}

impl Screen {
    pub(super) fn new(tasks: usize) -> Self {
        let live = std::io::stdout().is_terminal().then(|| Live::new(tasks));
        Self { live, last: Vec::new() }
    }

    /// A line that stays.
    pub(super) fn say(&mut self, line: &str) {
        match &self.live {
            Some(live) => drop(live.all.println(line)),
            None => print(line),
        }
    }

    /// What happened to a task; `last`: nothing more will.
    pub(super) fn show(&mut self, task: usize, line: &str, last: bool) {
        if let Some(live) = &mut self.live {
            return live.show(task, line, last);
        }
        // In plain lines a poll more is no news.
        if !self.is_only_a_poll_more(task, line) {
            print(line);
        }
    }

    /// A line below everything else.
    pub(super) fn finish(&mut self, line: &str) {
        if let Some(live) = self.live.take() {
            live.bars.iter().chain(&live.one_bar).for_each(ProgressBar::abandon);
        }
        print(line);
    }

    fn is_only_a_poll_more(&mut self, task: usize, line: &str) -> bool {
        self.last.resize(self.last.len().max(task + 1), String::new());
        let pending = |line: &str| line.contains("  pending, ");
        let same = pending(line) && pending(&self.last[task]);
        line.clone_into(&mut self.last[task]);
        same
    }
}

impl Live {
    fn new(tasks: usize) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let one_bar = (tasks > LINES_MAX).then(|| {
            let bar = all.add(ProgressBar::new(tasks as u64));
            bar.with_style(style("{bar:40.green} {pos} of {len} told  {msg:.dim}"))
        });
        Self { all, bars: Vec::new(), one_bar }
    }

    fn show(&mut self, task: usize, line: &str, last: bool) {
        if let Some(bar) = &self.one_bar {
            bar.set_message(line.to_owned());
            bar.inc(u64::from(last));
            return;
        }
        while self.bars.len() <= task {
            let bar =
                self.all.add(ProgressBar::new_spinner().with_style(style("{spinner:.cyan} {msg}")));
            bar.enable_steady_tick(SPIN);
            self.bars.push(bar);
        }
        let bar = &self.bars[task];
        bar.set_message(line.to_owned());
        if last {
            bar.set_style(style("{prefix:.green} {msg}"));
            bar.set_prefix("✓");
            bar.abandon();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn print(line: &str) {
    // Whoever read us has gone, as `| head -1` does: then there is nobody to tell.
    let _ = writeln!(std::io::stdout(), "{line}");
}
