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

/// The share of what is free that is planned with; the rest is for the allocator's slack and other
/// programs.
const SHARE: f64 = 0.9;

/// How much of a search goes through its models, for one prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    pub rows: usize,
    /// Tokens of a response that its guides read at once.
    pub chunk: usize,
    pub new_tokens: usize,
    /// Whether guides tell what every next token is worth, so that all their logits exist at once.
    pub weighs_next: bool,
}

/// What a model is, as far as memory goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadingModel {
    pub sizes: ReaderSizes,
    /// Tokens that it sees.
    pub context: usize,
    pub device: Device,
}

/// One model's part of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Reader {
    pub name: String,
    pub device: Device,
    pub reading: Reading,
}

impl From<&Lm> for ReadingModel {
    fn from(lm: &Lm) -> Self {
        let LmInfo { n_layer, kv_size, hidden_size, vocab_size, context, .. } = *lm.model.info();
        let [n_layer, kv_size, hidden_size, vocab_size] =
            [n_layer, kv_size, hidden_size, vocab_size].map(|size| size as u64);
        let element = lm.kind().elt_size_in_bytes() as u64;
        Self {
            sizes: ReaderSizes { n_layer, kv_size, hidden_size, vocab_size, element },
            context: context as usize,
            device: lm.model.device(),
        }
    }
}

impl Sizes {
    pub fn of(search: &Search, new_tokens: usize) -> Self {
        let settings = search.settings();
        Self {
            rows: settings.rows(),
            chunk: settings.chunk(new_tokens),
            new_tokens,
            weighs_next: settings.weighs_next(),
        }
    }

    /// What `model` reads of one prompt: so many new tokens, so many of them at once.
    fn reading(
        &self,
        model: ReadingModel,
        prompt_tokens: usize,
        (new_tokens, chunk): (usize, usize),
        is_sampled: bool,
    ) -> Reading {
        let [prompt_tokens, new_tokens, rows, chunk] =
            [prompt_tokens, new_tokens, self.rows, chunk].map(|count| count as u64);
        let sizes = model.sizes;
        let shares_prompt = true;
        Reading { sizes, prompt_tokens, new_tokens, rows, shares_prompt, chunk, is_sampled }
    }
}

/// The part of a model that is sampled, `index` among those of a mixture, the base first.
pub fn sampling(index: usize, model: ReadingModel, prompt_tokens: usize, sizes: &Sizes) -> Reader {
    let name = match index {
        0 => "base".to_owned(),
        index => format!("guide {index} of the mixture"),
    };
    let reading = sizes.reading(model, prompt_tokens, (sizes.new_tokens, 1), true);
    Reader { name, device: model.device, reading }
}

/// The parts of a pair that scores, the tuned guide first, `index` among the pairs.
pub fn scoring(
    index: usize,
    pair: [ReadingModel; 2],
    prompt_tokens: usize,
    same_vocabulary: bool,
    sizes: &Sizes,
) -> [Reader; 2] {
    // What does not fit is not read.
    let room = pair[0].context.min(pair[1].context).saturating_sub(prompt_tokens);
    let new_tokens = guide_tokens(sizes.new_tokens, same_vocabulary).min(room);
    let tokens = (new_tokens, sizes.chunk.min(new_tokens));
    let [tuned, untuned] = pair;
    [("tuned", tuned), ("untuned", untuned)].map(|(name, model)| Reader {
        name: format!("{name} guide {}", index + 1),
        device: model.device,
        reading: sizes.reading(model, prompt_tokens, tokens, sizes.weighs_next),
    })
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
    let mut devices: BTreeMap<String, Vec<&Reader>> = BTreeMap::new();
    for reader in readers {
        devices.entry(format!("{:?}", reader.device)).or_default().push(reader);
    }
    let mut fitting = asked;
    for (name, readers) in devices {
        let device = readers[0].device;
        let Some(mut left) = free(device) else { continue };
        let one = readers.iter().fold(0, |sum: u64, part| sum.saturating_add(part.reading.bytes()));
        let share = |left: u64| (left as f64 * SHARE) as u64;
        if share(left) / one.max(1) < fitting as u64 {
            // Before less is done for it: what an earlier stage has left behind is free, too.
            memory::return_unused();
            left = free(device).unwrap_or(left);
        }
        let usable = share(left);
        let fit = usize::try_from(usable / one.max(1)).unwrap_or(usize::MAX);
        let [one, left, usable] = [one, left, usable].map(bytes_in_words);
        if fit == 0 {
            return Err(Error::failed(format!(
                "one prompt takes {one} of memory on {name}, of which {left} are free and {usable} \
                 may be used{}:\n{}\n\n\
                 hint: lower the rows (`n`, or `beam_width` × `successors`) or `max_new_tokens`, \
                 use dtype = \"bfloat16\", or free some memory",
                who_bounds(device),
                parts(&readers)
            )));
        }
        if fit < fitting {
            warn!(
                "{fitting} prompts in flight take {fitting} × {one} of memory on {name}, where \
                 {usable} may be used: {fit} at once instead\n{}",
                parts(&readers)
            );
            fitting = fit;
        }
    }
    Ok(fitting)
}

/// A line for each part of one prompt.
fn parts(readers: &[&Reader]) -> String {
    let line = |Reader { name, reading, .. }: &&Reader| {
        let bytes = bytes_in_words(reading.bytes());
        format!("  {name}: {} = {bytes}", reading.arithmetic())
    };
    readers.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// In words, where it is not the machine alone.
fn who_bounds(device: Device) -> String {
    let memory =
        MainMemory::now().filter(|memory| device == Device::Cpu && memory.bound != Bound::Machine);
    memory.map_or_else(String::new, |memory| format!(" ({memory})"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::recipe::{GuideSource, Method, ModelRole, Plan, Proposal, Stage, hub_model, load};

    const TINY: ReaderSizes =
        ReaderSizes { n_layer: 3, kv_size: 16, hidden_size: 8, vocab_size: 100, element: 4 };

    #[test]
    fn the_number_is_kept_lowered_or_refused_with_the_arithmetic() {
        let model = ReadingModel { sizes: TINY, context: 64, device: Device::Cpu };
        let sizes = Sizes { rows: 4, chunk: 1, new_tokens: 18, weighs_next: false };
        let reader = |name: &str, rows: usize| {
            let reader = sampling(0, model, 10, &Sizes { rows, ..sizes });
            Reader { name: name.to_owned(), ..reader }
        };
        // (10 + 2 × 4 × 50) tokens × 3 layers × 16 numbers × 4 B, and 4 rows × (100 × 8 + 64 × 4)
        // B.
        let one = 410 * 192 + 4 * (800 + 256);
        let both = [reader("base", 4), reader("tuned guide", 4)];
        let fit = |free: u64| prompts_in_flight(8, &both, |_| Some(free));
        let needed = |prompts: u64| (prompts as f64 * 2.0 * one as f64 / SHARE).ceil() as u64;
        assert_eq!(fit(needed(8)).unwrap(), 8);
        assert_eq!(fit(needed(8) - 10).unwrap(), 7);
        assert_eq!(fit(needed(1)).unwrap(), 1);
        let error = fit(needed(1) - 10).unwrap_err().to_string();
        let arithmetic = "tuned guide: (10 prompt tokens + 2 × 4 rows × 50 tokens) × 0.2 KiB";
        for part in ["one prompt takes 162.0 KiB", arithmetic, "hint: lower"] {
            assert!(error.contains(part), "{error}");
        }
        let absurd = [reader("base", usize::MAX / 2), reader("tuned guide", 4)];
        let told = prompts_in_flight(8, &absurd, |_| Some(1 << 40));
        assert!(told.is_err(), "nothing wraps round");
        assert_eq!(prompts_in_flight(8, &both[..1], |_| None).unwrap(), 8);
    }

    /// What the engine plans for one prompt of `method`, as long as it may be, with weights of
    /// `element` bytes, and the weights that lie there.
    fn planned(plan: &Plan, method: &Method, base: &str, element: u64) -> (u64, u64) {
        let steer = plan.recipe.steer.as_ref().unwrap();
        let sizes = Sizes::of(&method.search, steer.max_new_tokens);
        let model = |name: &str| {
            let lm = &plan.models[name];
            let context = lm.context as usize;
            ReadingModel { sizes: ReaderSizes::of(lm, element), context, device: Device::Cpu }
        };
        let prompt = |name: &str| plan.recipe.prompt_bound(name).unwrap();
        let name = |source: &GuideSource| plan.model_of(source).unwrap().to_owned();
        let half = match method.proposal {
            Proposal::Tuned => plan.tuned(),
            Proposal::Untuned => plan.untuned(),
            _ => None,
        };
        let base = &half.map_or_else(|| base.to_owned(), |half| name(&half));
        let mut readers = vec![sampling(0, model(base), prompt(base), &sizes)];
        let mut weights = plan.models[base].parameters;
        for (index, pair) in plan.guide_pairs().iter().enumerate() {
            let guides = [name(&pair.tuned), name(&pair.untuned)];
            let [own, theirs] = [base, &guides[0]].map(|name| plan.recipe.tokenizer_owner(name));
            let same = own == theirs || guides.contains(base);
            let [tuned, untuned] = [&guides[0], &guides[1]].map(|name| model(name));
            let tokens = prompt(&guides[0]);
            readers.extend(scoring(index, [tuned, untuned], tokens, same, &sizes));
            if method.proposal.tilt().is_some() {
                readers.extend(
                    guides.iter().map(|guide| sampling(1, model(guide), prompt(guide), &sizes)),
                );
            }
            weights += guides.iter().map(|guide| plan.models[guide].parameters).sum::<u64>();
        }
        let one = readers.iter().map(|reader| reader.reading.bytes()).sum();
        (one, weights * element)
    }

    /// What `w2s check` says of steering is no less than what the run plans with, and not far
    /// above it, whatever the precision of the weights turns out to be.
    fn shown_is_enough(plan: &Plan, elements: &[u64]) -> usize {
        let steer = plan.recipe.steer.as_ref().unwrap();
        let at_once = steer.prompts_in_flight.min(steer.prompts) as u64;
        let mut checked = 0;
        for table in &steer.method {
            // Where others serve a base, its memory is theirs.
            let bases = table.bases_of(&steer.bases).into_iter();
            for base in bases.filter(|base| plan.recipe.api(base).is_none()) {
                let mut plan = plan.clone();
                let steer = plan.recipe.steer.as_mut().unwrap();
                steer.method = vec![table.clone()];
                steer.bases = vec![base.to_owned()];
                // The gold that judges guides is no part of a search.
                steer.validation_prompts = 0;
                let all = plan.memory().into_iter();
                let (_, memory) = all.clone().find(|(stage, _)| *stage == Stage::Steer).unwrap();
                let parts = |grows: bool| {
                    let parts = memory.parts.iter().filter(|part| part.grows() == grows);
                    parts.map(|part| part.bytes).sum::<u64>()
                };
                for element in elements {
                    let methods = table.methods().into_iter();
                    let all = methods.map(|(_, method)| planned(&plan, &method, base, *element));
                    // Of a sweep the widest is shown.
                    let (one, weights) = all.max().unwrap();
                    let (what, caches) = (format!("{table:?} on {base}"), one * at_once);
                    assert!(parts(true) >= caches, "{what}: {} < {caches}", parts(true));
                    assert!(parts(false) >= weights, "{what}: {} < {weights}", parts(false));
                    let widest = elements.iter().all(|other| other <= element);
                    // Before files are read, two folders are two vocabularies.
                    let near = parts(true) < caches + caches / 5;
                    assert!(near || !widest, "{what}: {} against {caches}", parts(true));
                    checked += 1;
                }
            }
        }
        checked
    }

    /// A plan of a shipped recipe whose hub models are folders of published sizes.
    fn shipped(name: &str, folder: &Path, sets: &[&str]) -> Plan {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(name);
        let sets: Vec<String> = sets.iter().map(|text| (*text).to_owned()).collect();
        let mut recipe = load(&path, &sets).unwrap_or_else(|error| panic!("{error}"));
        // Data that one must fetch oneself.
        if let Some(data) = recipe.data.as_mut().filter(|data| !data.source.starts_with("builtin:"))
        {
            for rows in [&mut data.train, &mut data.validation, &mut data.test] {
                *rows = rows.map(|rows| if rows == 0 { 1_000_000 } else { rows });
            }
            (data.source, data.subset) = ("builtin:reviews".to_owned(), None);
            data.splits = Default::default();
        }
        for model in recipe.ids_mut() {
            if !model.id.starts_with("..") && hub_model(path.parent().unwrap(), model.id).is_none()
            {
                continue;
            }
            let place = folder.join(model.id.replace('/', "--"));
            fs::create_dir_all(&place).unwrap();
            let config = match model.role == ModelRole::Judge {
                true => json!({ "vocab_size": 30522, "max_position_embeddings": 512, "dim": 768,
                    "n_layers": 6, "n_heads": 12, "hidden_dim": 3072 }),
                false => json!({ "vocab_size": 50257, "n_positions": 8192, "n_embd": 1600,
                    "n_layer": 48, "n_head": 25 }),
            };
            fs::write(place.join("config.json"), config.to_string()).unwrap();
            fs::write(place.join("tokenizer.json"), "{}").unwrap();
            fs::write(place.join("chat_template.jinja"), "{{ messages }}").unwrap();
            *model.id = place.to_str().unwrap().to_owned();
        }
        Plan::new(recipe, &path).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    #[test]
    fn what_check_shows_of_every_shipped_recipe_is_at_least_what_a_run_plans() {
        let folder = tempfile::tempdir().unwrap();
        let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        let mut checked = 0;
        for entry in fs::read_dir(recipes).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if !name.ends_with(".toml") {
                continue;
            }
            for (dtype, elements) in [
                ("run.dtype=auto", &[4, 2][..]),
                ("run.dtype=float32", &[4]),
                ("run.dtype=bfloat16", &[2]),
            ] {
                checked += shown_is_enough(&shipped(&name, folder.path(), &[dtype]), elements);
            }
        }
        assert!(checked > 100, "{checked}");
    }

    #[test]
    fn what_check_shows_of_every_kind_of_method_is_at_least_what_a_run_plans() {
        let folder = tempfile::tempdir().unwrap();
        let methods = [
            "{kind='base'}",
            "{kind='best_of_n',n=16}",
            "{kind='cbs',beam_width=4,successors=4,chunk_len=5}",
            "{kind='cbs',beam_width=2,successors=3,chunk_len=500}",
            "{kind='eft',weights=[1,2]}",
            "{kind='beam',beam_width=5}",
            "{kind='cbs',beam_width=4,successors=4,chunk_len=5,tilt=1}",
            "{kind='guided_beam',beam_width=4}",
        ];
        let others = ["steer.prompts_in_flight=1", "steer.max_new_tokens=50", "run.seeds=[1]"];
        let mut checked = 0;
        for method in methods {
            for base in ["base", "other"] {
                let is_one = ["eft", "tilt", "guided"].iter().any(|kind| method.contains(kind));
                if base == "other" && is_one {
                    continue;
                }
                for other in others {
                    let method = format!("steer.method=[{method}]");
                    let base = format!("steer.bases=['{base}']");
                    let sets = [&method, &base, other];
                    checked += shown_is_enough(&shipped("smoke.toml", folder.path(), &sets), &[4]);
                }
            }
        }
        assert_eq!(checked, 39);
    }
}
