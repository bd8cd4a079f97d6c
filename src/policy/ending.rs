//! How a response that is sampled token by token ends: with an end token, or before a stop string.
//! Which token is drawn is left to who samples.

use super::growing::Sample;
use crate::error::Result;
use crate::search::{Extended, Finish, Node, Response};
use crate::text::Tokenizer;

/// What ends responses.
pub(super) struct Ending<'a> {
    pub tokenizer: &'a Tokenizer,
    pub stop: &'a [String],
    pub end_tokens: &'a [i64],
}

impl Ending<'_> {
    /// `sample` with `token` behind it, whose log-probability this is.
    pub fn push(&self, sample: &mut Sample, token: i64, logprob: f64) -> Result<()> {
        sample.drawn += 1;
        sample.logprobs.push(logprob);
        if self.end_tokens.contains(&token) {
            (sample.finish, sample.end) = (Some((Finish::Eos, None)), Some(token));
            return Ok(());
        }
        sample.response.push(token);
        sample.finish =
            self.stopped(&sample.response, sample.begins)?.map(|text| (Finish::Stop, Some(text)));
        Ok(())
    }

    /// The text before the first stop string, if there is one.
    pub fn stopped(&self, response: &[i64], begins: bool) -> Result<Option<String>> {
        if self.stop.is_empty() {
            return Ok(None);
        }
        let text = self.tokenizer.decode_response(response, begins)?;
        let cut = self.stop.iter().filter_map(|stop| text.find(stop)).min();
        Ok(cut.map(|cut| text[..cut].to_owned()))
    }

    /// The response that ended with `finish` after these ids; a stop string leaves the text before
    /// it.
    pub fn response(
        &self,
        ids: &[i64],
        begins: bool,
        finish: Option<(Finish, Option<String>)>,
    ) -> Result<Response> {
        let (text, ids) = match &finish {
            Some((Finish::Stop, Some(text))) => {
                (text.clone(), self.tokenizer.encode_response(text, begins)?)
            }
            _ => (self.tokenizer.decode_response(ids, begins)?, ids.to_vec()),
        };
        Ok(Response { text, ids, finish: finish.map(|(finish, _)| finish) })
    }

    /// What `sample` is to a search that knows it as `node`.
    pub fn extended(&self, node: Node, sample: &Sample) -> Result<Extended> {
        let Sample { response: ids, logprobs, .. } = sample;
        let response = self.response(ids, sample.begins, sample.finish.clone())?;
        // The tokens that a stop string cuts off were sampled, but are not in the response; what is
        // left may be tokenized otherwise than it was sampled.
        let counted = match response.finish {
            Some(Finish::Stop) => response.ids.len(),
            _ => logprobs.len(),
        };
        let logprob = ids.starts_with(&response.ids).then(|| logprobs[..counted].iter().sum());
        Ok(Extended { node, response, end: sample.end, sampled: sample.drawn as u64, logprob })
    }
}
