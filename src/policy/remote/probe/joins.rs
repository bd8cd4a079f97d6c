//! Whether one request can go on where another ended: ids, texts, stop strings, prompts that are
//! read once.

use std::time::Instant;

use super::super::ask::{Ask, End, Read};
use super::super::dialect::Dialect;
use super::{Finding, Prober, TEXT, finding};
use crate::error::Result;

/// Tokens of a greedy continuation.
const WHOLE: usize = 12;

impl Prober {
    pub(super) fn joins(&self) -> Result<Vec<Finding>> {
        let whole = self.greedy(TEXT, WHOLE)?;
        let back = whole.ids.as_ref().map(Vec::len);
        let counted = back.map_or("none".to_owned(), |count| format!("yes ({count} of {WHOLE})"));
        let probabilities = match (&whole.logprobs, self.server.facts.logprobs) {
            (Some(_), true) => "yes, the model's own",
            (Some(_), false) => "those that it samples from: used at temperature 1 without cuts",
            (None, _) => "none",
        };
        Ok(vec![
            finding("ids in", self.ids_in(whole.ids.as_deref())?),
            finding("ids back", counted),
            finding("log-probabilities", probabilities),
            finding("chunks by text", self.by_text(&whole.text)?),
            finding("stop strings", self.stops(&whole.text)?),
            finding("prefix reuse", self.reuse()?),
        ])
    }

    /// Whether ids are read as the tokens they are: what they go on to is what came behind them.
    fn ids_in(&self, back: Option<&[i64]>) -> Result<String> {
        let takes = [Dialect::OpenAi, Dialect::Vllm, Dialect::Sglang, Dialect::LlamaCpp];
        if !takes.contains(&self.server.dialect) {
            return Ok("none".to_owned());
        }
        let Some(ids) = back.filter(|ids| ids.len() >= 8) else {
            let context = Read::Ids(vec![5, 6, 7]);
            let given = self.given(&Ask { context, ..self.ask(TEXT, 2) })?;
            return Ok(given.map_or_else(
                |said| format!("refused: {said}"),
                |_| "taken, and none come back to go on from".to_owned(),
            ));
        };
        let (front, behind) = ids.split_at(4);
        let go_on = |context| self.given(&Ask { context, ..self.ask(TEXT, behind.len()) });
        let mixed = go_on(Read::Mixed(TEXT.to_owned(), front.to_vec()))?;
        let is_same = |given: &super::Given| given.choices[0].ids.as_deref() == Some(behind);
        let alone = match go_on(Read::Ids(front.to_vec()))? {
            Ok(_) => "yes".to_owned(),
            Err(said) => return Ok(format!("refused: {said}")),
        };
        Ok(match mixed {
            Ok(given) if is_same(&given) => format!("{alone}, and behind a text"),
            _ => alone,
        })
    }

    /// Whether a text is continued as if it had never been cut.
    fn by_text(&self, whole: &str) -> Result<String> {
        if self.server.dialect == Dialect::Chat {
            return Ok("by the assistant's turn".to_owned());
        }
        let front = self.greedy(TEXT, WHOLE / 2)?.text;
        let behind = self.greedy(&format!("{TEXT}{front}"), WHOLE / 2)?.text;
        let joined = format!("{front}{behind}");
        let letters = |text: &str| text.split_whitespace().collect::<String>();
        Ok(if joined == whole {
            "the same as in one go".to_owned()
        } else if letters(&joined) == letters(whole) {
            "spaces get lost between them: ask for whole responses only (`base`, `best_of_n`)"
                .to_owned()
        } else {
            format!("another text than at once: {joined:?} for {whole:?}")
        })
    }

    /// What is said of a text that a stop string ends.
    fn stops(&self, whole: &str) -> Result<String> {
        let begin = whole.char_indices().nth(whole.chars().count() / 2);
        let Some(stop) = begin.map(|(at, _)| whole[at..].chars().take(3).collect::<String>())
        else {
            return Ok("not found out: the text is empty".to_owned());
        };
        let given = self.given(&Ask { stop: vec![stop.clone()], ..self.ask(TEXT, WHOLE) })?;
        let choice = match given {
            Ok(mut given) => given.choices.remove(0),
            Err(said) => return Ok(format!("refused: {said}")),
        };
        let stays = if choice.text.contains(&stop) { "stay in the text" } else { "are taken off" };
        let told = match choice.end {
            Some(End::Stop) => "and are told from an end of the model's",
            Some(_) => "and are not told from an end of the model's",
            None => "and the text goes on behind them",
        };
        Ok(format!("{stays} {told}"))
    }

    /// Whether a prompt that was just read is read again: as the server counts, or else by time.
    fn reuse(&self) -> Result<String> {
        let long = format!("{} {TEXT}", "A film about a film about films.".repeat(5));
        let (mut told, mut fresh, mut again) = (None, Vec::new(), Vec::new());
        for number in 0..3 {
            let ask = self.ask(&format!("{number} {long}"), 1);
            for seconds in [&mut fresh, &mut again] {
                let begin = Instant::now();
                let given = self.given(&ask)?;
                seconds.push(begin.elapsed().as_secs_f64());
                told = given.ok().and_then(|given| given.cached_tokens.zip(given.prompt_tokens));
            }
        }
        let [fresh, again] = [fresh, again].map(median);
        Ok(match told {
            Some((0, _)) => "none, as it counts".to_owned(),
            Some((cached, of)) => format!("yes: {cached} of {of} tokens, as it counts"),
            None => format!(
                "not told; {} by time: {:.0} ms, and {:.0} ms again",
                if again < 0.5 * fresh { "likely" } else { "not seen" },
                1e3 * fresh,
                1e3 * again
            ),
        })
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
