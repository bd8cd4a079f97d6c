//! The loop that all searches share: several prompts at once, one that is answered makes room for the next at the border of a round.

use std::time::Instant;

use super::Found;
use crate::error::Result;

/// A search, one round of which takes every prompt in flight one step further.
pub(super) trait Rounds {
    /// One prompt in flight.
    type State;

    /// Begins the prompts `first .. first + count`.
    fn open(&mut self, first: usize, count: usize) -> Result<Vec<Self::State>>;

    fn round(&mut self, states: &mut [Self::State]) -> Result<()>;

    fn is_done(&self, state: &Self::State) -> bool;

    /// The prompt's number and its answer; `seconds` is its share of the time.
    fn finish(&mut self, state: Self::State, seconds: f64) -> Result<(usize, Found)>;

    /// Frees all that does not belong to `states`.
    fn retain(&mut self, states: &[Self::State]);
}

/// Answers the prompts 0..`queries`, up to `in_flight` of them at once. `pause` is called between rounds and may end the search with its
/// error; `done` gets each prompt's number and answer as they are found.
pub(super) fn run<R: Rounds>(
    search: &mut R,
    queries: usize,
    in_flight: usize,
    pause: &mut dyn FnMut() -> Result<()>,
    done: &mut dyn FnMut(usize, Found) -> Result<()>,
) -> Result<()> {
    let (mut states, mut seconds): (Vec<R::State>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut next = 0;
    while next < queries || !states.is_empty() {
        pause()?;
        let started = Instant::now();
        let count = in_flight.max(1).saturating_sub(states.len()).min(queries - next);
        if count > 0 {
            states.extend(search.open(next, count)?);
            next += count;
        }
        seconds.resize(states.len(), 0.0);
        search.round(&mut states)?;
        let share = started.elapsed().as_secs_f64() / states.len() as f64;
        let mut found = Vec::new();
        let mut open = (Vec::with_capacity(states.len()), Vec::with_capacity(states.len()));
        for (state, seconds) in states.into_iter().zip(seconds) {
            if search.is_done(&state) {
                found.push(search.finish(state, seconds + share)?);
            } else {
                open.0.push(state);
                open.1.push(seconds + share);
            }
        }
        (states, seconds) = open;
        search.retain(&states);
        found.into_iter().try_for_each(|(query, found)| done(query, found))?;
    }
    Ok(())
}
