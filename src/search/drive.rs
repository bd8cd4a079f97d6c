//! The driver that all searches share: pulls prompts from a desk, keeps several in flight, and
//! carries out together what their searches ask for.
//!
//! It waits for nobody in particular: whatever a proposer has back is told to the searches it is
//! for, and those that have all they asked for go on. A proposer that computes has everything back
//! at once, so there all prompts go on together, in one batch.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::in_flight::InFlight;
use super::{
    Ask, Extend, Found, NextScores, NextTokens, Node, Opened, Proposer, Scorer, Searcher, Ticket,
    ToScore, Told,
};
use crate::error::{Error, Result};
use crate::prompt::{Prompt, PromptText};
use crate::sampling::Stream;

/// How long a proposer may wait before the desk is asked again for prompts, cancellations and the
/// end.
const PATIENCE: Duration = Duration::from_millis(20);

/// One prompt to search for. `stream` is its own: sample number `slot` of a chunk draws token `t`
/// of its response with number (t, slot), so neither the chunk length nor the company of other
/// prompts changes a sample.
#[derive(Debug, Clone)]
pub struct Query {
    pub prompt: Prompt,
    pub stream: Stream,
}

/// Where prompts come from and answers go to. Prompts have numbers, in the order in which they were
/// taken, from 0.
pub trait Desk {
    /// The next prompt. Where there is none now the others go on; where there is none with none in
    /// flight, the drive ends, so a desk that expects more waits then.
    ///
    /// # Errors
    /// Ends the drive.
    fn next(&mut self, in_flight: usize) -> Result<Option<Query>>;

    /// Called between calls.
    ///
    /// # Errors
    /// Ends the drive.
    fn pause(&mut self) -> Result<()> {
        Ok(())
    }

    /// Whether nobody wants this answer any more. Asked between calls; the others do not notice.
    fn is_cancelled(&mut self, _number: usize) -> bool {
        false
    }

    /// What the response is now sure to begin with: the text that all kept hypotheses share. Each
    /// is longer than the one before it. A stop string that only begins yet may still be cut off.
    fn committed(&mut self, _number: usize, _text: &str) -> Result<()> {
        Ok(())
    }

    /// The answer to a prompt, in no order.
    fn done(&mut self, number: usize, found: Found) -> Result<()>;

    /// A prompt that will have no answer, and why; the others go on unless this is an error.
    fn lost(&mut self, number: usize, error: Error) -> Result<()>;
}

/// Begins the search for one prompt.
pub type Begin<'a> = dyn Fn(Opened) -> Box<dyn Searcher> + 'a;

/// Who proposes, who scores, and how many prompts are searched at once.
pub struct Drive<'a> {
    pub proposer: &'a mut dyn Proposer,
    pub scorer: &'a mut dyn Scorer,
    /// At least 1.
    pub in_flight: usize,
}

impl Drive<'_> {
    /// Answers all prompts of the desk, each by the search that `begin` makes for it.
    ///
    /// # Errors
    /// Those of the desk, and where proposer or scorer fail altogether. What concerns one prompt
    /// loses that prompt alone.
    pub fn run(&mut self, begin: &Begin, desk: &mut dyn Desk) -> Result<()> {
        let mut round = Round {
            drive: self,
            all: Vec::new(),
            tickets: HashMap::new(),
            taken: 0,
            submitted: 0,
            scoring: Duration::ZERO,
        };
        let outcome = loop {
            match round.run(begin, desk) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        for prompt in std::mem::take(&mut round.all) {
            round.release(prompt.number, &prompt.opened);
        }
        outcome
    }

    /// The answer to one prompt alone.
    pub fn answer(&mut self, query: Query, begin: &Begin) -> Result<Found> {
        struct One(Option<Query>, Result<Found>);
        impl Desk for One {
            fn next(&mut self, _in_flight: usize) -> Result<Option<Query>> {
                Ok(self.0.take())
            }
            fn done(&mut self, _number: usize, found: Found) -> Result<()> {
                self.1 = Ok(found);
                Ok(())
            }
            fn lost(&mut self, _number: usize, error: Error) -> Result<()> {
                Err(error)
            }
        }
        let mut desk = One(Some(query), Err(Error::failed("the search gave no answer")));
        self.run(begin, &mut desk)?;
        desk.1
    }
}

/// The prompts in flight, which go round after round.
struct Round<'a, 'b> {
    drive: &'a mut Drive<'b>,
    all: Vec<InFlight>,
    /// The prompt, and which of its continuations.
    tickets: HashMap<Ticket, (usize, usize)>,
    taken: usize,
    submitted: u64,
    /// Time of this round in the scorer.
    scoring: Duration,
}

impl Round<'_, '_> {
    /// Takes every prompt as far as it can go now; whether there was one.
    fn run(&mut self, begin: &Begin, desk: &mut dyn Desk) -> Result<bool> {
        desk.pause()?;
        self.drop_cancelled(desk);
        let queries = self.take(desk)?;
        if queries.is_empty() && self.all.is_empty() {
            return Ok(false);
        }
        let started = Instant::now();
        self.scoring = Duration::ZERO;
        self.open(queries, begin)?;
        self.advance();
        self.propose()?;
        self.advance();
        self.answer()?;
        let [share, scoring] = [started.elapsed(), self.scoring]
            .map(|time| time.as_secs_f64() / self.all.len() as f64);
        for prompt in &mut self.all {
            prompt.seconds += share;
            prompt.guide_seconds += scoring;
        }
        self.report(desk)?;
        Ok(true)
    }

    fn drop_cancelled(&mut self, desk: &mut dyn Desk) {
        for place in (0..self.all.len()).rev() {
            if desk.is_cancelled(self.all[place].number) {
                let prompt = self.all.remove(place);
                self.release(prompt.number, &prompt.opened);
            }
        }
    }

    /// Prompts, as long as there is room.
    fn take(&mut self, desk: &mut dyn Desk) -> Result<Vec<Query>> {
        let mut queries = Vec::new();
        while self.all.len() + queries.len() < self.drive.in_flight.max(1) {
            match desk.next(self.all.len() + queries.len())? {
                Some(query) => queries.push(query),
                None => break,
            }
        }
        Ok(queries)
    }

    fn open(&mut self, queries: Vec<Query>, begin: &Begin) -> Result<()> {
        if queries.is_empty() {
            return Ok(());
        }
        let texts: Vec<&PromptText> = queries.iter().map(|query| &query.prompt.text).collect();
        let end_tokens =
            self.drive.proposer.next_tokens().map_or_else(Vec::new, |next| next.end_tokens());
        let scorer = &mut self.drive.scorer;
        let of_proposer = self.drive.proposer.open(&texts)?;
        let roots = of_proposer.into_iter().zip(timed(&mut self.scoring, || scorer.open(&texts))?);
        for ((proposer, scorer), query) in roots.zip(&queries) {
            let opened = Opened { proposer, scorer, end_tokens: end_tokens.clone() };
            self.all.push(InFlight::new(
                self.taken,
                query.stream.clone(),
                opened.clone(),
                begin(opened),
            ));
            self.taken += 1;
        }
        Ok(())
    }

    fn advance(&mut self) {
        self.all.iter_mut().for_each(InFlight::advance);
    }

    /// Hands in the continuations that searches ask for, and takes back what is done.
    fn propose(&mut self) -> Result<()> {
        let most = self.drive.proposer.max_call_tokens();
        let mut requests: Vec<(Ticket, Extend)> = Vec::new();
        for prompt in &mut self.all {
            for (index, extend) in prompt.due(most) {
                let ticket = Ticket(self.submitted);
                self.submitted += 1;
                self.tickets.insert(ticket, (prompt.number, index));
                requests.push((ticket, extend));
            }
        }
        if !requests.is_empty() {
            self.drive.proposer.submit(requests);
        }
        if self.tickets.is_empty() {
            return Ok(());
        }
        let patience = if self.all.iter().all(InFlight::waits) { PATIENCE } else { Duration::ZERO };
        for (ticket, outcome) in self.drive.proposer.collect(patience)? {
            // What was on its way for a prompt that has gone is nobody's.
            let Some((number, index)) = self.tickets.remove(&ticket) else { continue };
            if let Some(prompt) = self.all.iter_mut().find(|prompt| prompt.number == number) {
                prompt.take_back(index, outcome);
            }
        }
        Ok(())
    }

    /// Weighs and tells next tokens, appends those that are chosen, and scores: each for all
    /// prompts whose searches ask for it.
    fn answer(&mut self) -> Result<()> {
        let Drive { proposer, scorer, .. } = &mut *self.drive;
        let scoring = &mut self.scoring;
        let weighed = |ask: &Ask| match ask {
            Ask::Weigh(responses) => Some(responses.clone()),
            _ => None,
        };
        let weigh =
            |responses: &[ToScore]| timed(scoring, || next_scores(&mut **scorer)?.weigh(responses));
        together(&mut self.all, weighed, weigh, Told::Weighed)?;
        let likeliest = |ask: &Ask| match ask {
            Ask::Likeliest { nodes, count } => Some((nodes.clone(), *count)),
            _ => None,
        };
        let counts = self.all.iter().filter_map(|prompt| likeliest(prompt.asks()?));
        // All of them where one prompt asks for all.
        let most = counts
            .map(|(_, count)| count)
            .reduce(|one, other| Some(one?.max(other?)))
            .unwrap_or(Some(0));
        let tell = |nodes: &[Node]| next_tokens(&mut **proposer)?.likeliest(nodes, most);
        together(
            &mut self.all,
            |ask| likeliest(ask).map(|(nodes, _)| nodes),
            tell,
            Told::Likeliest,
        )?;
        let appended = |ask: &Ask| match ask {
            Ask::Append(continuations) => Some(continuations.clone()),
            _ => None,
        };
        let append =
            |continuations: &[(Node, i64)]| next_tokens(&mut **proposer)?.append(continuations);
        together(&mut self.all, appended, append, Told::Appended)?;
        let scored = |ask: &Ask| match ask {
            Ask::Score(responses) => Some(responses.clone()),
            _ => None,
        };
        together(
            &mut self.all,
            scored,
            |responses: &[ToScore]| timed(scoring, || scorer.score(responses)),
            Told::Scored,
        )
    }

    /// Frees what searches let go of, and tells the desk what is new.
    fn report(&mut self, desk: &mut dyn Desk) -> Result<()> {
        for prompt in self.all.iter_mut().filter(|prompt| prompt.is_under_way()) {
            let Some(live) = prompt.take_live() else { continue };
            self.drive.proposer.retain(&prompt.opened.proposer, &live.proposer);
            self.drive.scorer.retain(&prompt.opened.scorer, &live.scorer);
            if let Some(text) = prompt.newly_committed() {
                desk.committed(prompt.number, &text)?;
            }
        }
        let (under_way, ended): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.all).into_iter().partition(InFlight::is_under_way);
        self.all = under_way;
        let mut outcomes = Vec::new();
        for prompt in ended {
            let (number, opened) = (prompt.number, prompt.opened.clone());
            outcomes.push((number, prompt.outcome(|node| self.drive.scorer.token_rewards(node))));
            self.release(number, &opened);
        }
        outcomes.into_iter().try_for_each(|(number, outcome)| match outcome {
            Ok(found) => desk.done(number, found),
            Err(error) => desk.lost(number, error),
        })
    }

    fn release(&mut self, number: usize, opened: &Opened) {
        self.tickets.retain(|_, (of, _)| *of != number);
        self.drive.proposer.release(&opened.proposer);
        self.drive.scorer.release(&opened.scorer);
    }
}

/// Adds the time of a call to `spent`.
fn timed<T>(spent: &mut Duration, call: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let answer = call();
    *spent += started.elapsed();
    answer
}

fn next_tokens(proposer: &mut dyn Proposer) -> Result<&mut dyn NextTokens> {
    let unable = || {
        Error::failed(
            "the base does not tell its next tokens, which token-level beam search chooses from",
        )
    };
    proposer.next_tokens().ok_or_else(unable)
}

fn next_scores(scorer: &mut dyn Scorer) -> Result<&mut dyn NextScores> {
    let unable = || {
        Error::failed(
            "the guides do not tell what next tokens are worth, which token-level beam search \
             under guides chooses by",
        )
    };
    scorer.next_scores().ok_or_else(unable)
}

/// One call with all that the prompts ask for of this kind; each is told its part of the answers
/// and goes on.
fn together<Request, Answer>(
    all: &mut [InFlight],
    requests: impl Fn(&Ask) -> Option<Vec<Request>>,
    call: impl FnOnce(&[Request]) -> Result<Vec<Answer>>,
    told: impl Fn(Vec<Answer>) -> Told,
) -> Result<()> {
    let (mut asked, mut counts) = (Vec::new(), Vec::new());
    for (place, prompt) in all.iter().enumerate() {
        if let Some(requests) = prompt.asks().and_then(&requests) {
            counts.push((place, requests.len()));
            asked.extend(requests);
        }
    }
    if counts.is_empty() {
        return Ok(());
    }
    let mut answers = call(&asked)?.into_iter();
    for (place, count) in counts {
        all[place].tell(told(answers.by_ref().take(count).collect()));
        all[place].advance();
    }
    Ok(())
}
