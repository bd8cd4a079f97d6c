//! What models say of responses that are there already, each read once more by full forward passes:
//! the log-probability under a base, and how far the distribution that was sampled from is from the
//! base's along the response,
//!
//! KL(π ‖ π_base)(x, y) = Σ_t Σ_v π(v | x, y_<t) (log π(v | x, y_<t) − log π_base(v | x, y_<t)),
//!
//! over the whole vocabulary at every position t of the text, that of its EOS included; its mean
//! over samples of π is the divergence of whole responses (chain rule). Both distributions are
//! those at the sampling temperature, before any cut by top-k or top-p: with a cut the base may
//! give no probability at all to what π samples, and the divergence would be infinite.
//!
//! Responses are read as texts and tokenized anew, as guides of another vocabulary read them; an
//! end is the base's first EOS. Which responses are asked about is left to the stages.

use std::cmp::Reverse;
use std::rc::Rc;

use tch::{Kind, Tensor};

use super::guide_ids::GuideIds;
use crate::error::{Error, Result};
use crate::losses::divergence;
use crate::models::{Input, Lm};
use crate::prompt::PromptText;
use crate::sampling::Sampling;
use crate::search::Response;
use crate::text::{PromptTemplate, Tokenizer};

/// Tokens of texts, padding included, that are read in one forward pass.
const TOKENS: usize = 4096;

/// Numbers of one model's (positions, vocab) logits that exist at once.
const SLICE: i64 = 1 << 24;

/// A model, what it reads before a response, and the weight of its logits in what was sampled from.
pub struct Reader {
    pub lm: Rc<Lm>,
    pub template: PromptTemplate,
    pub weight: f64,
}

/// A base, and the distribution that responses were sampled from: softmax of the weighted sum of
/// its readers' logits.
pub struct Likelihood {
    /// The base first, whose weight is 0 where other models were sampled. All have one vocabulary.
    readers: Vec<Reader>,
    ids: GuideIds,
    /// `None` where sampling was greedy: there is no distribution then.
    temperature: Option<f64>,
}

/// A response to be read.
pub struct Answered<'a> {
    pub prompt: &'a PromptText,
    pub response: &'a Response,
    /// Whether its EOS was sampled behind it.
    pub ends: bool,
}

/// What is said of one response, in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Said {
    /// Those that were read, the EOS included; fewer than the response has where it is longer than
    /// a model can read.
    pub tokens: usize,
    /// Σ log π_base(y_t | x, y_<t) at temperature 1.
    pub base_logprob: f64,
    /// KL(π ‖ π_base) summed over the positions; `None` where sampling was greedy.
    pub kl: Option<f64>,
}

/// Ids of a prompt for each reader, and of its response with the EOS.
struct Text {
    prompts: Vec<Vec<i64>>,
    response: Vec<i64>,
}

impl Text {
    /// Tokens of the longest row that a reader reads.
    fn width(&self) -> usize {
        let prompt = self.prompts.iter().map(Vec::len).max().unwrap_or(0);
        prompt + self.response.len()
    }
}

impl Likelihood {
    /// # Errors
    /// If the base has no end-of-sequence token.
    pub fn new(
        base: Reader,
        others: Vec<Reader>,
        tokenizer: Rc<Tokenizer>,
        sampling: Sampling,
    ) -> Result<Self> {
        // A reader without weight changes nothing.
        let others = others.into_iter().filter(|reader| reader.weight != 0.0);
        let readers: Vec<Reader> = [base].into_iter().chain(others).collect();
        let info = |reader: &Reader| reader.lm.model.info().clone();
        let context = readers.iter().map(|reader| info(reader).context).min().unwrap_or(0);
        let ids = GuideIds {
            tokenizer,
            template: readers[0].template.clone(),
            same_vocabulary: false,
            ends: info(&readers[0]).eos_token_ids,
            context: context as usize,
        };
        let temperature = match sampling {
            Sampling::Greedy => None,
            Sampling::Random { temperature, .. } => Some(temperature),
        };
        Ok(Self { readers, ids: ids.checked()?, temperature })
    }

    /// What is said of each response, in order.
    pub fn of(&self, answers: &[Answered]) -> Result<Vec<Said>> {
        let _no_grad = tch::no_grad_guard();
        let texts = answers.iter().map(|answer| self.text(answer)).collect::<Result<Vec<_>>>()?;
        let nothing = Said { tokens: 0, base_logprob: 0.0, kl: self.temperature.map(|_| 0.0) };
        let mut said = vec![nothing; texts.len()];
        let mut order: Vec<usize> =
            (0..texts.len()).filter(|&text| !texts[text].response.is_empty()).collect();
        order.sort_by_key(|&text| Reverse(texts[text].width()));
        let mut rest = &order[..];
        while let Some(&longest) = rest.first() {
            let count = (TOKENS / texts[longest].width()).clamp(1, rest.len());
            let (now, later) = rest.split_at(count);
            let batch: Vec<&Text> = now.iter().map(|&text| &texts[text]).collect();
            for (&text, found) in now.iter().zip(self.batch(&batch)?) {
                said[text] = found;
            }
            rest = later;
        }
        Ok(said)
    }

    fn text(&self, answer: &Answered) -> Result<Text> {
        let Answered { prompt, response, ends } = answer;
        let prompts = self.readers.iter();
        let prompts = prompts.map(|reader| reader.template.encode(&self.ids.tokenizer, prompt));
        let prompts = prompts.collect::<Result<Vec<_>>>()?;
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let begins = self.ids.is_empty(prompt)?;
        let read = self.ids.readable(longest, response, begins, *ends)?;
        let end = self.ids.ends.first().filter(|_| read.ends);
        Ok(Text { prompts, response: read.ids.into_iter().chain(end.copied()).collect() })
    }

    /// Of texts that are read together, none of which is empty.
    fn batch(&self, texts: &[&Text]) -> Result<Vec<Said>> {
        let hidden: Vec<Tensor> =
            (0..self.readers.len()).map(|reader| self.hidden(reader, texts)).collect();
        let targets: Vec<i64> =
            texts.iter().flat_map(|text| text.response.iter().copied()).collect();
        let targets = Tensor::from_slice(&targets).to_device(hidden[0].device());
        let (positions, width) = (targets.size()[0], self.width());
        let rows = (SLICE / width).max(1);
        let (mut logprobs, mut divergences) = (Vec::new(), Vec::new());
        for start in (0..positions).step_by(rows as usize) {
            let length = rows.min(positions - start);
            let hidden: Vec<Tensor> =
                hidden.iter().map(|hidden| hidden.narrow(0, start, length)).collect();
            let (logprob, kl) = self.slice(&hidden, &targets.narrow(0, start, length), width);
            logprobs.extend(Vec::<f64>::try_from(logprob.to_kind(Kind::Double))?);
            if let Some(kl) = kl {
                divergences.extend(Vec::<f64>::try_from(kl)?);
            }
        }
        if let Some(wrong) = logprobs.iter().chain(&divergences).find(|value| !value.is_finite()) {
            return Err(Error::failed(format!(
                "the models' logits are not finite (a log-probability or a divergence is {wrong})\
                 \n\nhint: their weights are damaged, or overflow in their dtype: try dtype = \
                 \"float32\""
            )));
        }
        let mut first = 0;
        let mut said = Vec::with_capacity(texts.len());
        for text in texts {
            let places = first..first + text.response.len();
            first = places.end;
            said.push(Said {
                tokens: places.len(),
                base_logprob: logprobs[places.clone()].iter().sum(),
                kl: self.temperature.map(|_| divergences[places].iter().sum()),
            });
        }
        Ok(said)
    }

    /// Ids that all readers know: equal vocabularies may lie in embeddings that are padded
    /// differently.
    fn width(&self) -> i64 {
        let sizes = self.readers.iter().map(|reader| reader.lm.model.info().vocab_size);
        sizes.min().unwrap_or(1)
    }

    /// One reader's hidden states that predict the tokens of the responses, text after text,
    /// (positions, hidden_size), by one forward pass over right-padded rows.
    fn hidden(&self, reader: usize, texts: &[&Text]) -> Tensor {
        let model = &self.readers[reader].lm.model;
        // The last token predicts nothing that is asked.
        let row = |text: &Text| {
            let response = text.response[..text.response.len() - 1].iter();
            text.prompts[reader].iter().chain(response).copied().collect::<Vec<i64>>()
        };
        let rows: Vec<Vec<i64>> = texts.iter().map(|text| row(text)).collect();
        let width = rows.iter().map(Vec::len).max().unwrap_or(0);
        // What is read behind a row's end is never seen by what is before it.
        let padded: Vec<i64> =
            rows.iter().flat_map(|row| (0..width).map(|j| row[j.min(row.len() - 1)])).collect();
        let size = [rows.len() as i64, width as i64];
        let ids = Tensor::from_slice(&padded).view(size).to_device(model.device());
        let positions = Tensor::arange(size[1], (Kind::Int64, model.device()));
        let positions = positions.unsqueeze(0).expand(size, false);
        let input = Input { ids: &ids, positions: &positions, valid: None, packing: None };
        let hidden = model.hidden(&input).flatten(0, 1);
        let predicting: Vec<i64> = texts
            .iter()
            .enumerate()
            .flat_map(|(number, text)| {
                let first = number * width + text.prompts[reader].len() - 1;
                (first..first + text.response.len()).map(|place| place as i64)
            })
            .collect();
        hidden.index_select(0, &Tensor::from_slice(&predicting).to_device(model.device()))
    }

    /// log π_base of each target, (positions), and KL(π ‖ π_base) there, (positions) f64; `hidden`
    /// are the readers' states, (positions, hidden_size).
    fn slice(&self, hidden: &[Tensor], targets: &Tensor, width: i64) -> (Tensor, Option<Tensor>) {
        let device = hidden[0].device();
        // (positions, width) f32
        let logits = |reader: usize| {
            let logits = self.readers[reader].lm.model.logits(&hidden[reader]);
            logits.narrow(-1, 0, width).to_device(device).to_kind(Kind::Float)
        };
        let base = logits(0);
        let chosen = base.gather(-1, &targets.unsqueeze(-1), false).squeeze_dim(-1);
        let logprob = chosen - base.logsumexp([-1], false);
        let kl = self.temperature.map(|temperature| {
            let others =
                (1..self.readers.len()).map(|reader| (reader, self.readers[reader].weight));
            let sampled = others.fold(&base * self.readers[0].weight, |sum, (reader, weight)| {
                sum + logits(reader) * weight
            });
            let [sampled, base] =
                [sampled, base].map(|logits| (logits / temperature).log_softmax(-1, Kind::Float));
            divergence(&sampled, &base)
        });
        (logprob, kl)
    }
}
