//! How far a copy is: a bar on a terminal, lines elsewhere; always on stderr.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressStyle};

use crate::report::say;

use super::Copied;

/// Pause between lines, where there is no terminal.
const LINES: Duration = Duration::from_secs(5);

/// Pause between looks at the clock: it is not asked for every transaction.
const LOOK_EVERY: u64 = 16;

/// Tells on stderr how far a copy is.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    shown: Shown,
    began: Instant,
    told: Instant,
    from: u64,
    to: u64,
    looks: u64,
}

#[derive(Debug)]
enum Shown {
    Quiet,
    Lines,
    Bar(ProgressBar),
}

impl Progress {
    /// Progress of `what` ("imported", "exported").
    #[must_use]
    pub fn new(what: &'static str, quiet: bool) -> Self {
        let now = Instant::now();
        Self {
            what,
            shown: match quiet {
                true => Shown::Quiet,
                false if std::io::stderr().is_terminal() => Shown::Bar(ProgressBar::hidden()),
                false => Shown::Lines,
            },
            began: now,
            told: now,
            from: 0,
            to: 0,
            looks: 0,
        }
    }

    /// Says something beside.
    pub(super) fn say(&self, text: &str) {
        if !matches!(self.shown, Shown::Quiet) {
            say(text);
        }
    }

    /// Says what the user should not miss, quiet or not.
    pub(super) fn warn(&self, text: &str) {
        let line = format!("warning: {text}");
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(|| say(line)),
            Shown::Quiet | Shown::Lines => say(line),
        }
    }

    /// The copy starts at `from`, and ends at `to`, in whatever unit.
    pub(super) fn start(&mut self, from: u64, to: u64) {
        let now = Instant::now();
        (self.began, self.told, self.from, self.to) = (now, now, from, to);
        if let Shown::Bar(bar) = &mut self.shown {
            let template = "{msg}  {wide_bar} {percent:>3} %, {eta} left";
            let style = ProgressStyle::with_template(template);
            *bar = ProgressBar::new(to.saturating_sub(from))
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(self.what);
        }
    }

    /// The copy has come to `position`.
    pub(super) fn advance(&mut self, position: u64, copied: &Copied) {
        self.looks += 1;
        if !self.looks.is_multiple_of(LOOK_EVERY) && position < self.to {
            return;
        }
        let done = position.saturating_sub(self.from);
        match &self.shown {
            Shown::Quiet => {}
            Shown::Bar(bar) => {
                bar.set_message(self.rate(copied));
                bar.set_position(done);
            }
            Shown::Lines => {
                if self.told.elapsed() >= LINES {
                    self.told = Instant::now();
                    say(self.line(done, copied));
                }
            }
        }
    }

    /// The copy is done.
    pub(super) fn finish(&self, copied: &Copied) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
        if !matches!(self.shown, Shown::Quiet) {
            say(summary(self.what, copied, self.began.elapsed()));
        }
    }

    fn line(&self, done: u64, copied: &Copied) -> String {
        let all = self.to.saturating_sub(self.from).max(1);
        let elapsed = self.began.elapsed();
        let percent = done as f64 * 100.0 / all as f64;
        let left = elapsed.mul_f64((all - done.min(all)) as f64 / done.max(1) as f64);
        let rate = self.rate(copied);
        format!("{rate}, {percent:.0} %, {} left", HumanDuration(left))
    }

    fn rate(&self, copied: &Copied) -> String {
        let Copied {
            transactions,
            bytes,
            ..
        } = copied;
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        format!(
            "{} {} transactions, {} ({}/s)",
            self.what,
            HumanCount(*transactions),
            HumanBytes(*bytes),
            HumanBytes((*bytes as f64 / seconds) as u64)
        )
    }
}

fn summary(what: &str, copied: &Copied, elapsed: Duration) -> String {
    let Copied {
        transactions,
        records,
        left_out,
        bytes,
    } = copied;
    let replaced = match left_out {
        0 => String::new(),
        n => format!(
            " ({} more were replaced in their transaction)",
            HumanCount(*n)
        ),
    };
    format!(
        "{what} {} transactions with {} records{replaced}, {}, in {:.1} s",
        HumanCount(*transactions),
        HumanCount(*records),
        HumanBytes(*bytes),
        elapsed.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_how_much_how_fast_and_how_long() {
        let mut copied = Copied {
            transactions: 12_345,
            records: 99_999,
            left_out: 0,
            bytes: 5 << 20,
        };
        assert_eq!(
            summary("imported", &copied, Duration::from_millis(1234)),
            "imported 12,345 transactions with 99,999 records, 5.00 MiB, in 1.2 s"
        );
        copied.left_out = 1000;
        assert_eq!(
            summary("imported", &copied, Duration::from_secs(1)),
            "imported 12,345 transactions with 99,999 records (1,000 more were replaced in their \
             transaction), 5.00 MiB, in 1.0 s"
        );
        let mut progress = Progress::new("imported", true);
        progress.start(100, 300);
        progress.began = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let line = progress.line(50, &copied);
        assert!(
            line.starts_with("imported 12,345 transactions, 5.00 MiB ("),
            "{line}"
        );
        assert!(line.ends_with("/s), 25 %, 30 seconds left"), "{line}");
    }
}
