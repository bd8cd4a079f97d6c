//! What a terminal is sent: colours where it can show them.

use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;
use std::process::{Command, Stdio};
use std::ptr;

use crate::common::w2s;

/// Everything that the command writes to stderr, which is a terminal.
fn on_terminal(command: &mut Command) -> String {
    let (mut master, mut slave) = (0, 0);
    // SAFETY: two numbers to be written to, and nothing else to be set.
    let opened = unsafe {
        libc::openpty(&mut master, &mut slave, ptr::null_mut(), ptr::null(), ptr::null())
    };
    assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: both are open and nobody else's.
    let (mut master, slave) = unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) };
    let mut child = command.stdout(Stdio::null()).stderr(slave).spawn().unwrap();
    // The command's own copy of the terminal would keep it open.
    command.stderr(Stdio::null());
    let mut told = Vec::new();
    let mut piece = [0; 4096];
    // A terminal whose other end is closed is an error, not an end.
    while let Ok(read @ 1..) = master.read(&mut piece) {
        told.extend_from_slice(&piece[..read]);
    }
    child.wait().unwrap();
    String::from_utf8(told).unwrap()
}

fn colored(command: &mut Command, set: &[(&str, &str)], is_terminal: bool) -> bool {
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "CI", "TERM"] {
        command.env_remove(name);
    }
    command.envs(set.iter().copied());
    let told = if is_terminal {
        on_terminal(command)
    } else {
        let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(told.contains("threads") || told.contains("run-it-all"), "{told}");
    told.contains('\u{1b}')
}

#[test]
fn colours_are_for_terminals_that_can_show_them_and_all_agree() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = folder.path().join("r.toml");
    std::fs::write(&recipe, super::RECIPE).unwrap();
    // A log line, and an end before any work.
    let log = || {
        let mut command = w2s();
        command.arg("run").arg(&recipe).args(["--out", "/dev/null/out"]);
        command
    };
    // A complaint of the command line.
    let usage = || {
        let mut command = w2s();
        command.arg("run-it-all");
        command
    };
    for (set, is_terminal, expected) in [
        (&[("TERM", "xterm-256color")][..], true, true),
        (&[("TERM", "xterm-256color")], false, false),
        (&[("TERM", "dumb")], true, false),
        (&[("TERM", "dumb"), ("CI", "1")], true, false),
        (&[], true, false),
        (&[("TERM", "xterm-256color"), ("NO_COLOR", "1")], true, false),
        (&[("TERM", "xterm-256color"), ("CLICOLOR", "0")], true, false),
        (&[("TERM", "dumb"), ("CLICOLOR_FORCE", "1")], false, true),
        (&[("FORCE_COLOR", "1")], false, true),
        (&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], true, false),
    ] {
        assert_eq!(colored(&mut log(), set, is_terminal), expected, "log: {set:?} {is_terminal}");
        assert_eq!(colored(&mut usage(), set, is_terminal), expected, "usage: {set:?}");
    }
}
