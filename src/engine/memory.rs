//! How many prompts fit into memory at once, before any is searched.
//!
//! [`Reading`] says what one prompt in flight holds in each model. Results do not depend on the
//! number, so a larger one than fits is lowered; where not even one fits, nothing is begun.

use std::collections::BTreeMap;

use tch::Device;
use tracing::warn;

use crate::error::{Error, Result};
use crate::machine::memory::{self, Bound, MainMemory};
use crate::models::{Lm, LmInfo};
use crate::recipe::{ReaderSizes, Reading, bytes_in_words, guide_tokens};
use crate::search::Search;

/// Of what is free; the rest is for the allocator's slack and other programs.
const SHARE: f64 = 0.9;

/// How much of a search goes through its models, for one prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    pub rows: usize,
    /// Tokens of a response that its guides read at once.
    pub chunk: usize,
    pub new_tokens: usize,
}

/// One model's part of a search.
pub struct Reader<'a> {
    pub name: String,
    pub lm: &'a Lm,
    /// Of the longest prompt and of a response, in this model's tokens.
    pub prompt_tokens: usize,
    pub new_tokens: usize,
    pub rows: usize,
    /// Tokens of a row that go through it at once.
    pub chunk: usize,
    /// Whether all its rows' logits exist at once; guides take a slice of a fixed size.
    pub is_sampled: bool,
}

impl Sizes {
    pub fn of(search: &Search, new_tokens: usize) -> Self {
        let settings = search.settings();
        Self { rows: settings.rows(), chunk: settings.chunk(new_tokens), new_tokens }
    }
}

/// The part of a model that is sampled, `index` among those of a mixture, the base first.
pub fn sampling<'a>(index: usize, lm: &'a Lm, prompt_tokens: usize, sizes: &Sizes) -> Reader<'a> {
    let name = if index == 0 { "base".to_owned() } else { format!("guide {index} of the mixture") };
    Reader {
        name,
        lm,
        prompt_tokens,
        new_tokens: sizes.new_tokens,
        rows: sizes.rows,
        chunk: 1,
        is_sampled: true,
    }
}

/// The parts of a pair that scores, `index` among the pairs.
pub fn scoring<'a>(
    index: usize,
    pair: (&'a Lm, &'a Lm),
    prompt_tokens: usize,
    same_vocabulary: bool,
    sizes: &Sizes,
) -> [Reader<'a>; 2] {
    let (tuned, untuned) = pair;
    // What does not fit is not read.
    let context = tuned.model.info().context.min(untuned.model.info().context) as usize;
    let new_tokens =
        guide_tokens(sizes.new_tokens, same_vocabulary).min(context.saturating_sub(prompt_tokens));
    [("tuned", tuned), ("untuned", untuned)].map(|(name, lm)| Reader {
        name: format!("{name} guide {}", index + 1),
        lm,
        prompt_tokens,
        new_tokens,
        rows: sizes.rows,
        chunk: sizes.chunk.min(new_tokens),
        is_sampled: false,
    })
}

/// What one prompt takes on a device.
struct Need {
    name: String,
    device: Device,
    arithmetic: String,
    bytes: u64,
}

impl Reader<'_> {
    fn need(&self) -> Need {
        let LmInfo { n_layer, kv_size, hidden_size, vocab_size, .. } = *self.lm.model.info();
        let [n_layer, kv_size, hidden_size, vocab_size] =
            [n_layer, kv_size, hidden_size, vocab_size].map(|size| size as u64);
        let sizes = ReaderSizes {
            n_layer,
            kv_size,
            hidden_size,
            vocab_size,
            element: self.lm.kind().elt_size_in_bytes() as u64,
        };
        let [prompt_tokens, new_tokens, rows, chunk] =
            [self.prompt_tokens, self.new_tokens, self.rows, self.chunk].map(|count| count as u64);
        let reading = Reading {
            sizes,
            prompt_tokens,
            new_tokens,
            rows,
            shares_prompt: true,
            chunk,
            is_sampled: self.is_sampled,
        };
        Need {
            name: self.name.clone(),
            device: self.lm.model.device(),
            arithmetic: reading.arithmetic(),
            bytes: reading.bytes(),
        }
    }
}

/// `asked`, or as many prompts as fit into what `free` tells of each device, with a warning.
///
/// # Errors
/// [`Error::Failed`] with the arithmetic where one prompt does not fit.
pub fn prompts_in_flight(
    asked: usize,
    readers: &[Reader],
    free: impl Fn(Device) -> Option<u64>,
) -> Result<usize> {
    let mut devices: BTreeMap<String, Vec<Need>> = BTreeMap::new();
    for need in readers.iter().map(Reader::need) {
        devices.entry(format!("{:?}", need.device)).or_default().push(need);
    }
    let mut fitting = asked;
    for (device, needs) in devices {
        let Some(mut left) = free(needs[0].device) else { continue };
        let one = needs.iter().fold(0u64, |sum, need| sum.saturating_add(need.bytes));
        let share = |left: u64| (left as f64 * SHARE) as u64;
        if share(left) / one.max(1) < fitting as u64 {
            // Before less is done for it: what an earlier stage has left behind is free, too.
            memory::return_unused();
            left = free(needs[0].device).unwrap_or(left);
        }
        let usable = share(left);
        let fit = usize::try_from(usable / one.max(1)).unwrap_or(usize::MAX);
        let parts = || {
            needs
                .iter()
                .map(|need| {
                    format!("  {}: {} = {}", need.name, need.arithmetic, bytes_in_words(need.bytes))
                })
                .collect::<Vec<_>>()
        };
        if fit == 0 {
            return Err(Error::failed(format!(
                "one prompt takes {} of memory on {device}, of which {} are free and {} may be \
                 used{}:\n{}\n\n\
                 hint: lower the rows (`n`, or `beam_width` × `successors`) or `max_new_tokens`, \
                 use dtype = \"bfloat16\", or free some memory",
                bytes_in_words(one),
                bytes_in_words(left),
                bytes_in_words(usable),
                who_bounds(needs[0].device),
                parts().join("\n")
            )));
        }
        if fit < fitting {
            warn!(
                "{fitting} prompts in flight take {fitting} × {} of memory on {device}, where {} \
                 may be used: {fit} at once instead\n{}",
                bytes_in_words(one),
                bytes_in_words(usable),
                parts().join("\n")
            );
            fitting = fit;
        }
    }
    Ok(fitting)
}

/// In words, where it is not the machine alone.
fn who_bounds(device: Device) -> String {
    let memory =
        MainMemory::now().filter(|memory| device == Device::Cpu && memory.bound != Bound::Machine);
    memory.map_or_else(String::new, |memory| format!(" ({memory})"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tch::Kind;

    use super::*;
    use crate::models::{Gpt2Config, LmConfig};
    use crate::recipe::{LmSizes, Plan, Stage, load, memory_estimate, prompt_bound};

    fn lm(vocab_size: i64, n_embd: i64, n_positions: i64) -> Lm {
        let config = Gpt2Config {
            vocab_size,
            n_embd,
            n_layer: 2,
            n_head: 2,
            n_positions,
            ..Gpt2Config::default()
        };
        Lm::with_random_weights(LmConfig::Gpt2(config), Device::Cpu, Kind::Float, 1).unwrap()
    }

    #[test]
    fn the_number_is_kept_lowered_or_refused_with_the_arithmetic() {
        let config = Gpt2Config {
            vocab_size: 100,
            n_embd: 8,
            n_layer: 3,
            n_head: 2,
            n_positions: 64,
            ..Gpt2Config::default()
        };
        let lm =
            Lm::with_random_weights(LmConfig::Gpt2(config), Device::Cpu, Kind::Float, 1).unwrap();
        let reader = |name: &str| Reader {
            name: name.to_owned(),
            lm: &lm,
            prompt_tokens: 10,
            new_tokens: 18,
            rows: 4,
            chunk: 1,
            is_sampled: true,
        };
        // (10 + 2 × 4 × 50) tokens × 3 layers × 16 numbers × 4 B, and 4 rows × (100 × 8 + 64 × 4)
        // B.
        let one = 410 * 192 + 4 * (800 + 256);
        let fit = |free: u64| {
            prompts_in_flight(8, &[reader("base"), reader("tuned guide")], |_| Some(free))
        };
        let needed = |prompts: u64| (prompts as f64 * 2.0 * one as f64 / SHARE).ceil() as u64;
        assert_eq!(fit(needed(8)).unwrap(), 8);
        assert_eq!(fit(needed(8) - 10).unwrap(), 7);
        assert_eq!(fit(needed(1)).unwrap(), 1);
        let error = fit(needed(1) - 10).unwrap_err().to_string();
        for part in [
            "one prompt takes 162.0 KiB",
            "tuned guide: (10 prompt tokens + 2 × 4 rows × \
                                                    50 tokens) × 0.2 KiB",
            "hint: lower",
        ] {
            assert!(error.contains(part), "{error}");
        }
        let absurd = Reader { rows: usize::MAX / 2, ..reader("base") };
        assert!(
            prompts_in_flight(8, &[absurd, reader("tuned guide")], |_| Some(1 << 40)).is_err(),
            "nothing wraps round"
        );
        assert_eq!(prompts_in_flight(8, &[reader("base")], |_| None).unwrap(), 8);
    }

    /// What `w2s check` says of a stage that steers with one method is no less than what the stage
    /// plans with, for prompts as long as may be.
    #[test]
    fn what_check_shows_is_at_least_what_a_run_plans() {
        let smoke = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/smoke.toml");
        let methods = [
            "{kind='base'}",
            "{kind='best_of_n',n=16}",
            "{kind='cbs',beam_width=4,successors=4,chunk_len=5}",
            "{kind='cbs',beam_width=2,successors=3,chunk_len=500}",
            "{kind='eft',weights=[1,2]}",
            "{kind='beam',beam_width=5}",
            "{kind='cbs',beam_width=4,successors=4,chunk_len=5,tilt=1}",
        ];
        let mut checked = 0;
        for method in methods {
            for (base, more) in [
                ("base", ""),
                ("other", ""),
                ("base", "steer.prompts_in_flight=1"),
                ("other", "steer.max_new_tokens=50"),
            ] {
                if (method.contains("eft") || method.contains("tilt")) && base == "other" {
                    continue;
                }
                let sets = [format!("steer.method=[{method}]"), format!("steer.bases=['{base}']")];
                let sets: Vec<String> =
                    sets.into_iter().chain((!more.is_empty()).then(|| more.to_owned())).collect();
                let recipe = load(&smoke, &sets).unwrap_or_else(|error| panic!("{error}"));
                let plan = Plan::new(recipe, &smoke).unwrap_or_else(|error| panic!("{error}"));
                let steer = plan.recipe.steer.as_ref().unwrap();
                let sizes = |name: &str| -> &LmSizes { &plan.models[name] };
                let of = |name: &str| {
                    lm(
                        sizes(name).vocab_size as i64,
                        sizes(name).hidden_size as i64,
                        sizes(name).context as i64,
                    )
                };
                let (base_lm, guide_lm) = (of(base), of("guide"));
                let prompt =
                    |name: &str| prompt_bound(&plan.recipe.data.prompt, &plan.recipe.models[name]);
                let (_, method) = steer.method[0].methods().swap_remove(0);
                let mixed = if method.proposal.tilt().is_some() { 2 } else { 0 };
                let sampled: Vec<(&Lm, usize)> = [(&base_lm, prompt(base))]
                    .into_iter()
                    .chain((0..mixed).map(|_| (&guide_lm, prompt("guide"))))
                    .collect();
                let sizes = Sizes::of(&method.search, steer.max_new_tokens);
                let sampled = sampled.iter().enumerate().map(|(index, &(lm, prompt_tokens))| {
                    sampling(index, lm, prompt_tokens, &sizes)
                });
                let scoring =
                    scoring(0, (&guide_lm, &guide_lm), prompt("guide"), base == "base", &sizes);
                let readers: Vec<Reader> = sampled.chain(scoring).collect();
                let one: u64 = readers.iter().map(|reader| reader.need().bytes).sum();
                let planned = one * steer.prompts_in_flight.min(steer.prompts) as u64;
                let memory = memory_estimate(&plan)
                    .into_iter()
                    .find(|memory| memory.stage == Stage::Steer)
                    .unwrap();
                let shown: u64 = memory
                    .parts
                    .iter()
                    .filter(|part| part.name.contains("cache"))
                    .map(|part| part.bytes)
                    .sum();
                assert!(shown >= planned, "{method:?} on {base}: {shown} shown, {planned} planned");
                assert!(
                    shown < planned + planned / 10,
                    "and not far above: {method:?} on {base}: \
                                                         {shown} shown, {planned} planned"
                );
                checked += 1;
            }
        }
        assert_eq!(checked, 24);
    }
}
