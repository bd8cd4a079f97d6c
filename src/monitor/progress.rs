//! Progress on stderr: a bar on a terminal, elsewhere a plain line every ten seconds; both say the
//! same.
//!
//! All bars hang on one `MultiProgress`, so that log lines ([`suspend`]) and panics
//! ([`clear_for_panic`]) can move them out of the way.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::color;

const LINE_EVERY: Duration = Duration::from_secs(10);
/// Before this, a rate says more about the clock than about the work.
const RATE_AFTER: Duration = Duration::from_secs(1);

static ENABLED: AtomicBool = AtomicBool::new(true);
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// `--no-progress`: what starts from now on shows nothing.
pub fn set_enabled(enabled: bool) {
    ENABLED.store(enabled, Ordering::Relaxed);
}

/// Runs `print` with the bars taken off the screen. It must not log or advance a bar itself.
pub fn suspend<R>(print: impl FnOnce() -> R) -> R {
    BARS.suspend(print)
}

/// For the panic hook: takes the bars away for good, so that the message stays readable.
pub fn clear_for_panic() {
    // The panicking thread may hold the bars' lock; waiting for it here would hang the program.
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        // Nothing is left to do about a terminal that cannot be written.
        let _ = BARS.clear();
        BARS.set_draw_target(ProgressDrawTarget::hidden());
        let _ = done.send(());
    });
    let _ = wait.recv_timeout(Duration::from_millis(200));
}

/// One piece of work of known size. Dropped without [`Progress::finish`] (on an error), it leaves
/// no trace on a terminal.
pub struct Progress {
    meter: Meter,
    display: Display,
}

enum Display {
    Bar(ProgressBar),
    Lines { last: Instant },
    Nothing,
}

impl Progress {
    /// `done` of `total` were finished by an earlier run: they count for the position, not for the
    /// rate.
    pub fn start(what: &str, total: u64, done: u64) -> Self {
        let now = Instant::now();
        let display = if !ENABLED.load(Ordering::Relaxed) {
            Display::Nothing
        } else if BARS.is_hidden() {
            Display::Lines { last: now }
        } else {
            let bar = BARS.add(ProgressBar::new(total).with_position(done));
            bar.set_style(style(color::on_stderr()));
            bar.set_prefix(what.to_owned());
            bar.tick();
            Display::Bar(bar)
        };
        Self {
            meter: Meter {
                what: what.to_owned(),
                total,
                start: done,
                done,
                started: now,
                note: String::new(),
            },
            display,
        }
    }

    pub fn advance(&mut self, by: u64) {
        self.meter.done += by;
        self.show();
    }

    /// What stands behind rate and time left, such as `loss 3.21, lr 1e-3`.
    pub fn note(&mut self, message: String) {
        self.meter.note = message;
        self.show();
    }

    /// Replaces the bar by one last line.
    pub fn finish(mut self) {
        let line = self.meter.last_line(Instant::now());
        match std::mem::replace(&mut self.display, Display::Nothing) {
            Display::Bar(bar) => {
                remove(&bar);
                suspend(|| print(&line));
            }
            Display::Lines { .. } => print(&line),
            Display::Nothing => {}
        }
    }

    fn show(&mut self) {
        let now = Instant::now();
        match &mut self.display {
            Display::Bar(bar) => {
                bar.set_position(self.meter.done);
                bar.set_message(self.meter.tail(now));
            }
            Display::Lines { last } if now.duration_since(*last) >= LINE_EVERY => {
                *last = now;
                print(&self.meter.line(now));
            }
            Display::Lines { .. } | Display::Nothing => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Display::Bar(bar) = &self.display {
            remove(bar);
        }
    }
}

/// A closed stderr must not end the work, as `eprintln!` would.
fn print(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn remove(bar: &ProgressBar) {
    bar.finish_and_clear();
    BARS.remove(bar);
}

fn style(color: bool) -> ProgressStyle {
    let bar = if color { "{bar:24.cyan}" } else { "{bar:24}" };
    let template = format!("{{prefix}} {bar} {{pos}}/{{len}} {{msg}}");
    ProgressStyle::with_template(&template).expect("a fixed template, tested").progress_chars("━━─")
}

/// The arithmetic and the words, apart from clock and terminal.
struct Meter {
    what: String,
    total: u64,
    start: u64,
    done: u64,
    started: Instant,
    note: String,
}

impl Meter {
    /// Units per second in this process, once there are any.
    fn rate(&self, now: Instant) -> Option<f64> {
        let seconds = now.duration_since(self.started).as_secs_f64();
        (self.done > self.start && seconds > 0.0).then(|| (self.done - self.start) as f64 / seconds)
    }

    fn line(&self, now: Instant) -> String {
        let percent = (100 * self.done).checked_div(self.total).unwrap_or(100);
        format!("{} {}/{} ({percent}%) {}", self.what, self.done, self.total, self.tail(now))
            .trim_end()
            .to_owned()
    }

    fn tail(&self, now: Instant) -> String {
        let left = self.total.saturating_sub(self.done) as f64;
        let rate = self.rate(now).filter(|_| now.duration_since(self.started) >= RATE_AFTER);
        let words = rate.map(|rate| format!("{}, {} left", speed(rate), duration(left / rate)));
        join(words, &self.note)
    }

    fn last_line(&self, now: Instant) -> String {
        let took = format!("in {}", duration(now.duration_since(self.started).as_secs_f64()));
        let took = match self.rate(now) {
            Some(rate) => format!("{took}, {}", speed(rate)),
            None => took,
        };
        format!("{} {}/{} {}", self.what, self.done, self.total, join(Some(took), &self.note))
    }
}

fn join(first: Option<String>, note: &str) -> String {
    match first {
        Some(first) if note.is_empty() => first,
        Some(first) => format!("{first}, {note}"),
        None => note.to_owned(),
    }
}

fn speed(rate: f64) -> String {
    if rate >= 100.0 {
        format!("{rate:.0}/s")
    } else if rate >= 1.0 {
        format!("{rate:.1}/s")
    } else {
        format!("{:.1} s each", 1.0 / rate)
    }
}

fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Remembers what was drawn.
    #[derive(Debug, Clone, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl indicatif::TermLike for Screen {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.0.lock().unwrap().clear();
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn meter(total: u64, start: u64, done: u64, note: &str) -> (Meter, Instant) {
        let started = Instant::now();
        (Meter { what: "sft".into(), total, start, done, started, note: note.into() }, started)
    }

    #[test]
    fn lines_count_only_this_runs_work_for_rate_and_time_left() {
        let (meter, started) = meter(1000, 400, 500, "loss 3.21, lr 1e-3");
        let now = started + Duration::from_secs(50);
        assert_eq!(meter.line(now), "sft 500/1000 (50%) 2.0/s, 4m10s left, loss 3.21, lr 1e-3");
        assert_eq!(meter.last_line(now), "sft 500/1000 in 50s, 2.0/s, loss 3.21, lr 1e-3");
    }

    #[test]
    fn edges_have_no_nonsense() {
        let (idle, started) = meter(10, 0, 0, "");
        assert_eq!(idle.line(started), "sft 0/10 (0%)");
        let (young, started) = meter(10, 0, 1, "");
        assert_eq!(young.line(started + Duration::from_millis(1)), "sft 1/10 (10%)");
        let (empty, started) = meter(0, 0, 0, "");
        assert_eq!(empty.last_line(started), "sft 0/0 in 0s");
        let (slow, started) = meter(10_000, 0, 2, "");
        assert_eq!(
            slow.line(started + Duration::from_secs(25)),
            "sft 2/10000 (0%) 12.5 s each, 34h42m left"
        );
        let (over, started) = meter(10, 0, 12, "");
        assert_eq!(over.line(started + Duration::from_secs(1)), "sft 12/10 (120%) 12.0/s, 0s left");
    }

    #[test]
    fn a_bar_shows_the_same_words() {
        for color in [true, false] {
            let screen = Screen::default();
            let bar = ProgressBar::with_draw_target(
                Some(1000),
                ProgressDrawTarget::term_like(Box::new(screen.clone())),
            );
            bar.set_style(style(color));
            let (meter, started) = meter(1000, 400, 500, "loss 3.21");
            bar.set_prefix(meter.what.clone());
            bar.set_position(meter.done);
            bar.set_message(meter.tail(started + Duration::from_secs(50)));
            bar.tick();
            let drawn = screen.0.lock().unwrap().clone();
            assert!(
                drawn.contains("sft ")
                    && drawn.contains("━━━")
                    && drawn.contains(" 500/1000 2.0/s, 4m10s left, loss 3.21"),
                "{drawn}"
            );
        }
    }

    #[test]
    fn the_whole_life_of_a_progress_without_a_terminal() {
        let mut progress = Progress::start("test", 2, 0);
        assert!(!matches!(progress.display, Display::Bar(_)) || !BARS.is_hidden());
        progress.advance(1);
        progress.note("half".into());
        assert_eq!(suspend(|| 7), 7);
        progress.finish();
    }
}
