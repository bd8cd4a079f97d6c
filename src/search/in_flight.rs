//! One prompt in flight: its search, and what is being done for it. Who carries out what it asks
//! for is `drive.rs`.

use super::{Ask, Continue, Extend, Extended, Found, Live, Node, Opened, Searcher, Told};
use crate::error::{Error, Result};
use crate::sampling::Stream;

pub(super) struct InFlight {
    pub number: usize,
    pub opened: Opened,
    /// Its share of the time so far, and of that in the scorer.
    pub seconds: f64,
    pub guide_seconds: f64,
    stream: Stream,
    search: Box<dyn Searcher>,
    doing: Doing,
    /// Bytes of its response that the desk knows.
    committed: usize,
    /// Something has come back since its live nodes were last looked at.
    has_news: bool,
}

enum Doing {
    /// Its search is to be told this.
    Telling(Told),
    /// This is to be carried out.
    Asking(Ask),
    Extending(Vec<Continuation>),
    Ended(Result<Found>),
}

/// A continuation that is sampled in one call or in several, each going on from the one before it
/// with the numbers of the same slot.
struct Continuation {
    /// The response so far.
    node: Node,
    slot: u64,
    /// Tokens that it may still have.
    left: usize,
    /// Tokens sampled by the calls that are done.
    sampled: u64,
    /// As far as it has come, once a call has come back.
    text: Option<String>,
    step: Step,
}

enum Step {
    /// The next call is to be made.
    Due,
    /// It was made, for so many tokens.
    Away(usize),
    Back(Extended),
}

impl InFlight {
    pub fn new(number: usize, stream: Stream, opened: Opened, search: Box<dyn Searcher>) -> Self {
        Self {
            number,
            opened,
            seconds: 0.0,
            guide_seconds: 0.0,
            stream,
            search,
            doing: Doing::Telling(Told::Opened),
            committed: 0,
            has_news: false,
        }
    }

    pub fn is_under_way(&self) -> bool {
        !matches!(self.doing, Doing::Ended(_))
    }

    /// Whether there is nothing to do for it until a proposer has something back.
    pub fn waits(&self) -> bool {
        matches!(self.doing, Doing::Extending(_))
    }

    /// What is to be carried out for it, other than continuations.
    pub fn asks(&self) -> Option<&Ask> {
        match &self.doing {
            Doing::Asking(ask) => Some(ask),
            _ => None,
        }
    }

    pub fn tell(&mut self, told: Told) {
        self.doing = Doing::Telling(told);
    }

    /// Tells the search what is at hand, and takes what it asks for.
    pub fn advance(&mut self) {
        let ended = || Doing::Ended(Err(Error::failed("the search has ended")));
        self.doing = match std::mem::replace(&mut self.doing, ended()) {
            Doing::Telling(told) => {
                self.has_news = true;
                match self.search.next(told) {
                    Ok(Ask::Extend(continuations)) => {
                        Doing::Extending(continuations.into_iter().map(Continuation::new).collect())
                    }
                    Ok(Ask::Done(found)) => Doing::Ended(Ok(found)),
                    Ok(ask) => Doing::Asking(ask),
                    Err(error) => Doing::Ended(Err(error)),
                }
            }
            doing => doing,
        };
    }

    /// The calls that are to be made for it now, of `most` tokens each where there is a bound, and
    /// the numbers of their continuations.
    pub fn due(&mut self, most: Option<usize>) -> Vec<(usize, Extend)> {
        let Doing::Extending(continuations) = &mut self.doing else { return Vec::new() };
        let due = continuations
            .iter_mut()
            .enumerate()
            .filter(|(_, continuation)| matches!(continuation.step, Step::Due));
        due.map(|(index, continuation)| {
            let max_tokens = most.map_or(continuation.left, |most| most.min(continuation.left));
            continuation.step = Step::Away(max_tokens);
            let (node, slot) = (continuation.node.clone(), continuation.slot);
            (index, Extend { node, stream: self.stream.clone(), slot, max_tokens })
        })
        .collect()
    }

    /// What came of a call for continuation `index`.
    pub fn take_back(&mut self, index: usize, outcome: Result<Extended>) {
        let Doing::Extending(continuations) = &mut self.doing else { return };
        match outcome {
            Err(error) => self.doing = Doing::Ended(Err(error)),
            Ok(extended) => {
                continuations[index].take_back(extended);
                self.has_news = true;
                if continuations.iter().all(Continuation::is_back) {
                    let back =
                        std::mem::take(continuations).into_iter().filter_map(Continuation::back);
                    self.doing = Doing::Telling(Told::Extended(back.collect()));
                }
            }
        }
    }

    /// The nodes that are still needed, if something has come back since this was last asked.
    pub fn take_live(&mut self) -> Option<Live> {
        if !std::mem::take(&mut self.has_news) {
            return None;
        }
        let mut live = self.search.live();
        if let Doing::Extending(continuations) = &self.doing {
            live.proposer
                .extend(continuations.iter().map(|continuation| continuation.node.clone()));
        }
        Some(live)
    }

    /// What the response is sure to begin with, where that is more than was known.
    pub fn newly_committed(&mut self) -> Option<String> {
        let growing: Vec<&str> = match &self.doing {
            Doing::Extending(continuations) => continuations
                .iter()
                .filter_map(|continuation| continuation.text.as_deref())
                .collect(),
            _ => Vec::new(),
        };
        // Those that have not been back once yet continue any text.
        if let Doing::Extending(continuations) = &self.doing
            && (1..continuations.len()).contains(&growing.len())
        {
            return None;
        }
        let text = self.search.committed(&growing);
        let is_more = text.len() > self.committed;
        self.committed = self.committed.max(text.len());
        is_more.then_some(text)
    }

    /// The answer, with its share of the time and what `token_rewards` says of its node in the
    /// scorer; or what went wrong.
    pub fn outcome(self, token_rewards: impl Fn(&Node) -> Vec<f32>) -> Result<Found> {
        match self.doing {
            Doing::Ended(Ok(found)) => Ok(Found {
                token_rewards: token_rewards(&found.best.scorer),
                seconds: self.seconds,
                guide_seconds: self.guide_seconds,
                ..found
            }),
            Doing::Ended(Err(error)) => Err(error),
            _ => Err(Error::failed("the search has not ended")),
        }
    }
}

impl Continuation {
    fn new(Continue { node, slot, max_tokens }: Continue) -> Self {
        Self { node, slot, left: max_tokens, sampled: 0, text: None, step: Step::Due }
    }

    fn take_back(&mut self, extended: Extended) {
        if let Step::Away(tokens) = self.step {
            self.left -= tokens;
        }
        self.sampled += extended.sampled;
        self.node = extended.node.clone();
        self.text = Some(extended.response.text.clone());
        let is_whole = extended.response.finish.is_some() || self.left == 0;
        self.step = if is_whole { Step::Back(extended) } else { Step::Due };
    }

    fn is_back(&self) -> bool {
        matches!(self.step, Step::Back(_))
    }

    /// The whole continuation, all its calls counted.
    fn back(self) -> Option<Extended> {
        match self.step {
            Step::Back(extended) => Some(Extended { sampled: self.sampled, ..extended }),
            _ => None,
        }
    }
}
