//! A server of rewards as a judge: texts go out several at a time, numbers come back in their
//! order. What it is sent and answers is told by `shapes.rs`, sending and its bad days are the room
//! `http`'s.

mod shapes;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use self::shapes::{Rewards, Sent, body, rewards};
use super::reading::Reading;
use super::to_judge::ToJudge;
use crate::artifacts::interrupt;
use crate::error::{Error, Result};
use crate::http::{Call, Calls, Failure, Tokens, service};
use crate::prompt::PromptText;
use crate::recipe::{ApiBudget, RewardServer, RewardShape};

/// Texts of one request.
const TEXTS: usize = 16;

/// How long a stop that was asked for may go unseen.
const GLANCE: Duration = Duration::from_millis(100);

/// A judge that is a server.
pub struct Server {
    /// What messages call the judge, such as `gold`.
    name: String,
    shape: RewardShape,
    model: Option<String>,
    reading: Reading,
    calls: Calls<Rewards>,
    /// How many requests there were.
    sent: Cell<u64>,
}

impl Server {
    /// `table` is where the judge stands in the recipe, and `text` what it reads instead of prompt
    /// and response as they follow each other.
    ///
    /// # Errors
    /// Where the environment does not hold the key.
    pub fn new(table: &str, asked: RewardServer, text: Option<&str>) -> Result<Self> {
        let (shape, name) = (asked.shape(), table.to_owned());
        let RewardServer { url, model, key, limits } = asked;
        let limits = limits.cloned().unwrap_or_default();
        // Nobody counts the tokens of what is judged.
        let service = service(table, url, key, &limits, &ApiBudget::default())?;
        let read = move |call: &Call, reply| {
            Ok((rewards(shape, &reply, shapes::count(call.body.as_ref()))?, Tokens::default()))
        };
        Ok(Self {
            name,
            shape,
            model: model.map(str::to_owned),
            reading: Reading::new("{prompt}{response}", text),
            calls: Calls::start(service, read),
            sent: Cell::new(0),
        })
    }

    /// Tells one reward for each response, in order, as soon as it and those before it are there.
    ///
    /// # Errors
    /// Where the server gives no answer that can be used however often it is asked, or a reward
    /// that is no finite number; and what `tell` fails of.
    pub fn each_reward(
        &self,
        all: &[ToJudge],
        tell: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<()> {
        let groups: Vec<&[ToJudge]> = all.chunks(TEXTS).collect();
        let bodies = groups.iter().map(|group| self.call(group)).collect::<Result<Vec<_>>>()?;
        let first = self.sent.get();
        for (number, call) in (first..).zip(bodies) {
            self.calls.submit(number, call);
        }
        let past = first + groups.len() as u64;
        self.sent.set(past);
        let told = self.hear(first, &groups, tell);
        if told.is_err() {
            (first..past).for_each(|number| self.calls.cancel(number));
        }
        told
    }

    /// Hears what comes of the requests from number `first` on, one for each group.
    fn hear(
        &self,
        first: u64,
        groups: &[&[ToJudge]],
        tell: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<()> {
        let (mut heard, mut due) = (BTreeMap::new(), groups.iter().zip(first..).peekable());
        while let Some((_, next)) = due.peek() {
            interrupt::check()?;
            let Some(answer) = heard.remove(next) else {
                heard.extend(self.calls.collect(GLANCE));
                continue;
            };
            let Some((group, _)) = due.next() else { break };
            let answer = answer.map_err(|failure| about(failure, group))?;
            for (reward, ToJudge { id, .. }) in answer.value.into_iter().zip(*group) {
                let wrong = |what| {
                    let name = &self.name;
                    Error::failed(format!(
                        "judge `{name}`: the reward of `{id}` is {what}, which is no finite number"
                    ))
                };
                tell(reward.map_err(wrong)?)?;
            }
        }
        Ok(())
    }

    /// The request about these.
    fn call(&self, group: &[ToJudge]) -> Result<Call> {
        let sent = group.iter().map(|ToJudge { id, prompt, response }| {
            let prompt = one_text(prompt).ok_or_else(|| {
                Error::failed(format!(
                    "judge `{}`: the prompt of `{id}` is a chat of several turns, and the server \
                     reads texts\n\nhint: a program (`command`) is given the turns as they are",
                    self.name
                ))
            })?;
            let text = self.reading.filled(prompt, response);
            Ok(Sent { prompt: prompt.to_owned(), text })
        });
        let sent = sent.collect::<Result<Vec<_>>>()?;
        Ok(Call::post("", body(self.shape, self.model.as_deref(), &sent)))
    }
}

/// What a prompt says as one text.
fn one_text(prompt: &PromptText) -> Option<&str> {
    match prompt {
        PromptText::Plain(text) => Some(text),
        PromptText::Chat(_) => prompt.single_turn(),
    }
}

/// The error of a request, with those that it was about.
fn about(failure: Failure, group: &[ToJudge]) -> Error {
    let ids = match group {
        [] => String::new(),
        [one] => format!("`{}`", one.id),
        [first, others @ ..] => format!("`{}` and {} more", first.id, others.len()),
    };
    match Error::from(failure) {
        Error::Failed(message) => {
            let (what, hint) = message.split_once("\n\n").unwrap_or((&message, ""));
            Error::failed(format!("{what}, asked about {ids}\n\n{hint}").trim_end())
        }
        other => other,
    }
}
