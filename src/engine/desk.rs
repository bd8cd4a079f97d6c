//! Where an engine's prompts come from and its answers go to, and how these become a search's.

use std::collections::HashMap;

use tracing::warn;

use super::line::SteerLine;
use crate::error::{Error, Result};
use crate::prompt::Prompt;
use crate::sampling::Stream;
use crate::search::{self, Found, Query};

/// Hands out prompts and takes answers. Prompts have numbers, in the order in which they were
/// handed out, from 0.
pub trait Desk {
    /// The next prompt. Where there is none now the others go on; where there is none with none in
    /// flight, the engine is done, so a desk that expects more waits then.
    ///
    /// # Errors
    /// Ends all that is in flight.
    fn next(&mut self, in_flight: usize) -> Result<Option<Prompt>>;

    /// Called between calls to the models.
    ///
    /// # Errors
    /// Ends all that is in flight.
    fn pause(&mut self) -> Result<()> {
        Ok(())
    }

    /// Whether nobody wants this answer any more. Asked between calls; the others do not notice.
    fn is_cancelled(&mut self, _number: usize) -> bool {
        false
    }

    /// What the response is now sure to begin with; each text is longer than the one before it.
    fn committed(&mut self, _number: usize, _text: &str) -> Result<()> {
        Ok(())
    }

    /// The answer to a prompt, in no order.
    fn done(&mut self, number: usize, line: SteerLine) -> Result<()>;

    /// A prompt that will have no answer, and why; the others go on unless this is an error.
    fn lost(&mut self, number: usize, prompt: Prompt, error: Error) -> Result<()>;
}

/// A desk as searches see it: prompts with their streams, and what was found in them.
pub(super) struct Asking<'a> {
    desk: &'a mut dyn Desk,
    /// Refuses a prompt that cannot be answered.
    check: &'a dyn Fn(&Prompt) -> Result<()>,
    manner: Manner<'a>,
    /// By the searches' numbers.
    asked: HashMap<usize, Asked>,
    handed_out: usize,
    searched: usize,
    cuts: Cuts,
}

/// How prompts are answered.
#[derive(Clone, Copy)]
pub(super) struct Manner<'a> {
    pub seed: u64,
    pub stop: &'a [String],
    pub is_guided: bool,
    pub with_trace: bool,
}

struct Asked {
    /// The desk's.
    number: usize,
    prompt: Prompt,
    /// Bytes of its response that were told.
    told: usize,
}

impl<'a> Asking<'a> {
    pub fn new(
        desk: &'a mut dyn Desk,
        check: &'a dyn Fn(&Prompt) -> Result<()>,
        manner: Manner<'a>,
    ) -> Self {
        Self {
            desk,
            check,
            manner,
            asked: HashMap::new(),
            handed_out: 0,
            searched: 0,
            cuts: Cuts::default(),
        }
    }

    /// Says what is to be said of all prompts.
    pub fn tell(&self) {
        self.cuts.tell();
    }

    fn take(&mut self, number: usize) -> Result<Asked> {
        self.asked
            .remove(&number)
            .ok_or_else(|| Error::failed("an answer came to a prompt that was not asked"))
    }
}

impl search::Desk for Asking<'_> {
    fn next(&mut self, in_flight: usize) -> Result<Option<Query>> {
        while let Some(prompt) = self.desk.next(in_flight)? {
            let number = self.handed_out;
            self.handed_out += 1;
            match (self.check)(&prompt) {
                Err(error) => self.desk.lost(number, prompt, error)?,
                Ok(()) => {
                    let stream = Stream::new(self.manner.seed, "steer", &prompt.id);
                    self.asked
                        .insert(self.searched, Asked { number, prompt: prompt.clone(), told: 0 });
                    self.searched += 1;
                    return Ok(Some(Query { prompt, stream }));
                }
            }
        }
        Ok(None)
    }

    fn pause(&mut self) -> Result<()> {
        self.desk.pause()
    }

    fn is_cancelled(&mut self, number: usize) -> bool {
        let is_cancelled =
            self.asked.get(&number).is_some_and(|asked| self.desk.is_cancelled(asked.number));
        if is_cancelled {
            self.asked.remove(&number);
        }
        is_cancelled
    }

    fn committed(&mut self, number: usize, text: &str) -> Result<()> {
        let sure = &text[..text.len() - begun(text, self.manner.stop)];
        match self.asked.get_mut(&number) {
            Some(asked) if sure.len() > asked.told => {
                asked.told = sure.len();
                self.desk.committed(asked.number, sure)
            }
            _ => Ok(()),
        }
    }

    fn done(&mut self, number: usize, found: Found) -> Result<()> {
        let Asked { number, prompt, .. } = self.take(number)?;
        self.cuts.note(&prompt.id, found.cut);
        self.desk.done(
            number,
            SteerLine::new(prompt, found, self.manner.is_guided, self.manner.with_trace),
        )
    }

    fn lost(&mut self, number: usize, error: Error) -> Result<()> {
        let Asked { number, prompt, .. } = self.take(number)?;
        self.desk.lost(number, prompt, error)
    }
}

/// Bytes at the end of `text` that a stop string may begin with, and that would not be said then.
fn begun(text: &str, stop: &[String]) -> usize {
    let of = |stop: &String| {
        (1..stop.len())
            .rev()
            .find(|&length| stop.is_char_boundary(length) && text.ends_with(&stop[..length]))
    };
    stop.iter().filter_map(of).max().unwrap_or(0)
}

/// Prompts some of whose candidates were longer than the guides can read.
#[derive(Default)]
struct Cuts {
    asked: usize,
    prompts: usize,
    candidates: u64,
}

impl Cuts {
    /// Says it of the first prompt at once, because it may concern all that follow.
    fn note(&mut self, id: &str, cut: u64) {
        if cut > 0 && self.prompts == 0 {
            warn!(
                "prompt `{id}`: {cut} candidates are longer than the guides can read; each is \
                 worth what its beginning is"
            );
        }
        self.asked += 1;
        self.prompts += usize::from(cut > 0);
        self.candidates += cut;
    }

    fn tell(&self) {
        if self.prompts > 1 {
            warn!(
                "{} of {} prompts had candidates that are longer than the guides can read, {} in \
                 all; their lines count them as `cut_candidates`",
                self.prompts, self.asked, self.candidates
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::begun;

    #[test]
    fn what_may_begin_a_stop_string_is_held_back() {
        let stops = ["\n\n", "</s>", "é!"].map(str::to_owned);
        for (text, held) in [
            ("a film", 0),
            ("a film\n", 1),
            ("a <", 1),
            ("a </s", 3),
            ("caf\u{e9}", 2),
            ("a </s>", 0),
            ("", 0),
            ("<\n", 1),
        ] {
            assert_eq!(begun(text, &stops), held, "{text:?}");
        }
        assert_eq!(begun("a \n", &[]), 0);
    }
}
