//! How what a server gives is joined to a response: by token ids or by text, cut at stop strings,
//! and at the end of a word where another request is to go on from a text.

use super::ask::{Choice, End};
use super::words::{kept, with_space};
use crate::error::Result;
use crate::search::Finish;
use crate::text::Tokenizer;

/// Stands for each token of which no id is known.
const NO_ID: i64 = -1;

/// A response so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub text: String,
    /// One for each token; [`NO_ID`] where the server tells none.
    pub ids: Vec<i64>,
    /// Tokens that were asked for.
    pub asked: usize,
    /// Of all its tokens; `None` where one is not known.
    pub logprob: Option<f64>,
}

/// A response with what a server gave behind it.
pub struct Joined {
    pub said: Said,
    pub ids: Vec<i64>,
    pub finish: Option<Finish>,
    pub end: Option<i64>,
    /// Tokens sampled for this.
    pub sampled: usize,
}

/// How responses to one prompt are joined.
pub struct Joining<'a> {
    /// The model's own, where it is here and ids come back.
    pub tokenizer: Option<&'a Tokenizer>,
    pub by_ids: bool,
    pub stop: &'a [String],
    /// Whether responses begin the text.
    pub begins: bool,
}

impl Said {
    pub fn nothing() -> Self {
        Self { text: String::new(), ids: Vec::new(), asked: 0, logprob: Some(0.0) }
    }

    pub fn tokens(&self) -> usize {
        self.ids.len()
    }
}

impl Joining<'_> {
    /// `parent` with `choice` behind it, of which `wanted` tokens were asked for; where these are
    /// not the last ones, more were sampled and the text ends where a word does.
    pub fn join(
        &self,
        parent: &Said,
        choice: Choice,
        wanted: usize,
        is_last: bool,
    ) -> Result<Joined> {
        let Choice { text, ids, token_texts, sampled, end, logprob, logprobs } = choice;
        let counted = ids.as_ref().map(Vec::len).or(token_texts.as_ref().map(Vec::len));
        let ended = usize::from(matches!(end, Some(End::Eos(_))));
        let sampled = sampled.unwrap_or_else(|| counted.map_or(wanted, |count| count + ended));
        let tokens = counted.unwrap_or_else(|| sampled.saturating_sub(ended));
        let known = parent.logprob.zip(logprob).map(|(before, new)| before + new);
        let mut said = Said { asked: parent.asked + wanted, logprob: known, ..parent.clone() };
        match ids.filter(|_| self.by_ids) {
            Some(ids) => {
                said.ids.extend(ids);
                said.text = match self.tokenizer {
                    Some(tokenizer) => tokenizer.decode_response(&said.ids, self.begins)?,
                    None => format!("{}{text}", parent.text),
                };
            }
            None => {
                said.text.push_str(&text);
                said.ids.extend(std::iter::repeat_n(NO_ID, tokens));
            }
        }
        let mut finish = end.map(|end| match end {
            End::Eos(_) => Finish::Eos,
            End::Stop | End::Either => Finish::Stop,
        });
        if let Some(cut) = self.stopped(&said.text, parent.text.len()) {
            said.text.truncate(cut);
            finish = Some(Finish::Stop);
        }
        if finish == Some(Finish::Stop) {
            // Tokens of the stop string were sampled, but are not in the response.
            said.logprob = None;
            if let Some(tokenizer) = self.tokenizer {
                said.ids = tokenizer.encode_response(&said.text, self.begins)?;
            }
        }
        if !self.by_ids && !is_last {
            self.cut_word(parent, &mut said, &mut finish, (&text, token_texts.as_deref()), {
                let logprobs = logprobs.as_deref();
                (tokens, wanted, logprobs)
            });
        }
        let end = match end {
            Some(End::Eos(end)) if finish == Some(Finish::Eos) => end,
            _ => None,
        };
        Ok(Joined { ids: said.ids.clone(), said, finish, end, sampled })
    }

    /// Where the text ends before the first stop string that reaches beyond `known` bytes.
    fn stopped(&self, text: &str, known: usize) -> Option<usize> {
        let find = |stop: &String| {
            let mut from = known.saturating_sub(stop.len());
            while !text.is_char_boundary(from) {
                from -= 1;
            }
            text[from..].find(stop.as_str()).map(|at| from + at)
        };
        self.stop.iter().filter_map(find).min()
    }

    /// Keeps of a text what another request can go on from. What ended it comes after the cut, and
    /// is sampled again.
    fn cut_word(
        &self,
        parent: &Said,
        said: &mut Said,
        finish: &mut Option<Finish>,
        (text, texts): (&str, Option<&[String]>),
        (tokens, wanted, logprobs): (usize, usize, Option<&[f64]>),
    ) {
        let kept = kept(text, texts, tokens, wanted);
        // A stop string may have ended the text before that.
        if parent.text.len() + kept.bytes >= said.text.len() {
            return;
        }
        *finish = None;
        said.text.truncate(parent.text.len() + kept.bytes);
        said.ids.truncate(parent.ids.len() + kept.tokens);
        let new = logprobs
            .filter(|all| all.len() >= kept.tokens && texts.is_some())
            .map(|all| all[..kept.tokens].iter().sum::<f64>());
        said.logprob = parent.logprob.zip(new).map(|(before, new)| before + new);
    }
}

/// A continuation with the space in front that the server lost.
pub fn spaced(choice: Choice, prompt: &str, said: &str) -> Choice {
    let before = if said.is_empty() { prompt } else { said };
    let Some(text) = with_space(before, &choice.text) else { return choice };
    let mut token_texts = choice.token_texts;
    if let Some(first) = token_texts.as_mut().and_then(|texts| texts.first_mut()) {
        first.insert(0, ' ');
    }
    Choice { text, token_texts, ..choice }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(tokens: &[&str], end: Option<End>, stop: &[&str], wanted: usize) -> Joined {
        let stop: Vec<String> = stop.iter().map(|&stop| stop.to_owned()).collect();
        let joining = Joining { tokenizer: None, by_ids: false, stop: &stop, begins: false };
        let texts: Vec<String> = tokens.iter().map(|&token| token.to_owned()).collect();
        let choice = Choice {
            text: texts.concat(),
            logprobs: Some(vec![-1.0; texts.len()]),
            token_texts: Some(texts),
            end,
            ..Choice::default()
        };
        joining.join(&Said::nothing(), choice, wanted, false).unwrap()
    }

    #[test]
    fn what_ends_a_text_behind_the_cut_is_sampled_again_and_before_it_stands() {
        let tokens = [" A", " fine", " film", " END", " more"];
        for (end, stop) in
            [(None, &["END"][..]), (Some(End::Eos(None)), &[]), (Some(End::Stop), &[])]
        {
            let early = joined(&tokens, end, stop, 2);
            assert_eq!((early.said.text.as_str(), early.finish), (" A fine", None));
            assert_eq!((early.ids.len(), early.said.logprob), (2, Some(-2.0)));
        }
        let late = joined(&tokens, None, &["END"], 4);
        assert_eq!((late.said.text.as_str(), late.finish), (" A fine film ", Some(Finish::Stop)));
    }
}
