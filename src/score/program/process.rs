//! A program that runs beside this one: what it reads, writes and complains of, each on a thread of
//! its own, so that no full pipe holds up another; and its end, with all that it started. What is
//! written and read is left to `program.rs`.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::info;

/// Bytes of a line at most; what is longer counts as several.
const LINE: u64 = 64 << 10;
/// Lines of stderr that are kept for [`Process::last_words`].
const KEPT: usize = 12;
/// How long a program may take to end once nothing more comes, before it is ended.
const GRACE: Duration = Duration::from_secs(1);

pub struct Process {
    child: Child,
    /// What is to be written; nothing more comes once it is gone.
    input: Option<Sender<Vec<u8>>>,
    output: Receiver<String>,
    complaints: Arc<Mutex<VecDeque<String>>>,
    /// Is closed when stderr is.
    complained: Receiver<()>,
    ended: Option<(bool, String)>,
}

/// What a program let itself be heard of.
pub enum Heard {
    Line(String),
    Nothing,
    /// It writes no more.
    End,
}

impl Process {
    /// Starts a program in `folder`; what it writes to stderr is logged under `name`.
    pub fn start(name: &str, words: &[String], folder: &Path) -> io::Result<Self> {
        let name = name.to_owned();
        Self::start_with(words, folder, &[], move |line| info!("{name}: {line}"))
    }

    /// The same with variables of its environment; each line that it writes to stderr is told.
    pub fn start_with(
        words: &[String],
        folder: &Path,
        environment: &[(&str, String)],
        tell: impl Fn(&str) + Send + 'static,
    ) -> io::Result<Self> {
        let program = words.first().map_or("", String::as_str);
        let mut command = match program.contains('/') {
            true => Command::new(folder.join(program)),
            false => Command::new(program),
        };
        command.args(words.iter().skip(1)).current_dir(folder);
        // Numbers are to come as they are found, and not when a buffer of Python's is full.
        command.env("PYTHONUNBUFFERED", "1");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A Ctrl-C is meant for this process, which ends the program when it stops.
        command.process_group(0);
        // SAFETY: between fork and exec a single call is made that POSIX and Linux allow there.
        unsafe {
            command.pre_exec(|| {
                // A program whose asker was killed has nobody to tell.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command.spawn()?;
        let absent = || io::Error::other("the program has no pipe");
        let (stdin, stdout, stderr) = (
            child.stdin.take().ok_or_else(absent)?,
            child.stdout.take().ok_or_else(absent)?,
            child.stderr.take().ok_or_else(absent)?,
        );
        let (input, to_write) = channel();
        thread::spawn(move || write_all(stdin, &to_write));
        let (heard, output) = channel();
        thread::spawn(move || each_line(stdout, |line| heard.send(line).is_ok()));
        let complaints = Arc::new(Mutex::new(VecDeque::new()));
        let (open, complained) = channel::<()>();
        let kept = complaints.clone();
        thread::spawn(move || {
            let _open = open;
            each_line(stderr, |line| {
                tell(&line);
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push_back(line);
                if kept.len() > KEPT {
                    kept.pop_front();
                }
                true
            });
        });
        Ok(Self { child, input: Some(input), output, complaints, complained, ended: None })
    }

    /// Has it read; returns before it has.
    pub fn write(&self, bytes: Vec<u8>) {
        // A program that reads no more is heard to end.
        let _ = self.input.as_ref().map(|input| input.send(bytes));
    }

    /// What it says next, waited for at most `patience`.
    pub fn hear(&self, patience: Duration) -> Heard {
        match self.output.recv_timeout(patience) {
            Ok(line) => Heard::Line(line),
            Err(RecvTimeoutError::Timeout) => Heard::Nothing,
            Err(RecvTimeoutError::Disconnected) => Heard::End,
        }
    }

    /// A line that lies there before anything was asked.
    pub fn said_unasked(&self) -> Option<String> {
        self.output.try_recv().ok()
    }

    /// How it ended, and the last lines that it wrote to stderr.
    pub fn last_words(&mut self) -> (String, Vec<String>) {
        let (_, ended) = self.end();
        let _ = self.complained.recv_timeout(GRACE);
        let complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        (ended, complaints.iter().cloned().collect())
    }

    /// Whether it ended well by itself, once it writes no more.
    pub fn succeeded(&mut self) -> bool {
        self.end().0
    }

    /// Closes what it reads, gives it time to end, ends it and all that it started, and says
    /// whether that was well, and how it ended.
    fn end(&mut self) -> (bool, String) {
        if let Some(ended) = &self.ended {
            return ended.clone();
        }
        self.input = None;
        let started = Instant::now();
        while !self.has_ended() && started.elapsed() < GRACE {
            thread::sleep(Duration::from_millis(2));
        }
        // SAFETY: a signal to the group that the child leads, whose number is its own until it has
        // been waited for.
        unsafe { libc::kill(-self.number(), libc::SIGKILL) };
        let ended = match self.child.wait() {
            Ok(status) => (status.success(), format!("ended ({status})")),
            Err(error) => (false, error.to_string()),
        };
        self.ended.insert(ended).clone()
    }

    /// Whether the child itself is no more; it stays to be waited for.
    fn has_ended(&self) -> bool {
        // SAFETY: the structure is this function's own, and all zeros are a value of it.
        unsafe {
            let mut found: libc::siginfo_t = std::mem::zeroed();
            let how = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            let asked = libc::waitid(libc::P_PID, self.number() as libc::id_t, &mut found, how);
            asked != 0 || found.si_pid() != 0
        }
    }

    fn number(&self) -> libc::pid_t {
        self.child.id() as libc::pid_t
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Writes what comes until nothing more does, or nobody reads it.
fn write_all(mut stdin: ChildStdin, to_write: &Receiver<Vec<u8>>) {
    while let Ok(bytes) = to_write.recv() {
        if stdin.write_all(&bytes).and_then(|()| stdin.flush()).is_err() {
            return;
        }
    }
}

/// Hands on each line without its end until `take` wants no more.
fn each_line(from: impl Read, mut take: impl FnMut(String) -> bool) {
    let (mut reader, mut line) = (BufReader::new(from), Vec::new());
    loop {
        line.clear();
        let read = reader.by_ref().take(LINE).read_until(b'\n', &mut line);
        if !read.is_ok_and(|bytes| bytes > 0) {
            return;
        }
        let text = String::from_utf8_lossy(&line);
        if !take(text.trim_end_matches(['\n', '\r']).to_owned()) {
            return;
        }
    }
}
