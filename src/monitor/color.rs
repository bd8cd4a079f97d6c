//! Whether to write colours, decided once for log lines, progress bars and the command line's own
//! help. What is coloured is their business.

use std::ffi::OsString;
use std::io::{self, IsTerminal};

/// What the environment decides of colours, whoever reads the stream; `None` leaves it to whether
/// that is a terminal.
pub fn decided() -> Option<bool> {
    decided_by(|name| std::env::var_os(name))
}

/// Whether stderr gets colours.
pub fn on_stderr() -> bool {
    decided().unwrap_or_else(|| io::stderr().is_terminal())
}

/// `NO_COLOR` wins over those that force colours, and these over what is known of the terminal.
fn decided_by(variable: impl Fn(&str) -> Option<OsString>) -> Option<bool> {
    let is = |name: &str, words: &[&str]| {
        variable(name).is_some_and(|value| words.iter().any(|word| value == *word))
    };
    let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    let forces = |name: &str| is_set(name) && !is(name, &["0", "false"]);
    if is_set("NO_COLOR") {
        Some(false)
    } else if forces("CLICOLOR_FORCE") || forces("FORCE_COLOR") {
        Some(true)
    } else if is("CLICOLOR", &["0"]) || !is_set("TERM") || is("TERM", &["dumb"]) {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_wins_then_force_then_the_terminal() {
        for (variables, expected) in [
            (&[("TERM", "xterm")][..], None),
            (&[("TERM", "xterm"), ("NO_COLOR", "")], None),
            (&[("TERM", "xterm"), ("NO_COLOR", "1")], Some(false)),
            (&[("TERM", "xterm"), ("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], Some(false)),
            (&[("TERM", "xterm"), ("CLICOLOR", "0")], Some(false)),
            (&[("TERM", "xterm"), ("CLICOLOR", "1")], None),
            (&[("TERM", "xterm"), ("CLICOLOR", "0"), ("CLICOLOR_FORCE", "1")], Some(true)),
            (&[("TERM", "dumb")], Some(false)),
            (&[], Some(false)),
            (&[("TERM", "dumb"), ("CLICOLOR_FORCE", "1")], Some(true)),
            (&[("TERM", "dumb"), ("CLICOLOR_FORCE", "0")], Some(false)),
            (&[("FORCE_COLOR", "3")], Some(true)),
            (&[("TERM", "xterm"), ("FORCE_COLOR", "0")], None),
        ] {
            let find = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            };
            assert_eq!(decided_by(find), expected, "{variables:?}");
        }
    }
}
