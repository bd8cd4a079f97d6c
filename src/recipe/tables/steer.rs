//! `[steer]`: what is steered, by which guides, with which methods. The searches are in `search`,
//! what runs them in `engine`.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::guide_pairs::{GuidePairSource, GuideSet};
use super::super::memory::{StageMemory, judge_parts, largest};
use super::super::plan::Plan;
use super::super::rules::Rules;
use super::super::stage::{StageTable, Texts};
use super::super::words::{grouped, product};
use super::guide::{GuideTable, pair_rules};
use super::method::Proposal;
use super::method_spelling::{MethodRow, MethodTable};
use super::sampling::{Answering, SamplingTable};
use super::{GOLD, Recipe};
use crate::search::Semantics;

/// Answers prompts of the test split by each method, for each base and each of `run.seeds`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Steer {
    /// The models to steer.
    #[schemars(example = &["base"])]
    pub bases: Vec<String>,
    /// The model that guides as the tuned one; the result of `[dpo]` by default.
    #[schemars(example = &"tuned")]
    pub tuned: Option<String>,
    /// The model that guides as the untuned one, with the same tokenizer; by default the result of
    /// `[sft]`, or else `preferences.policy`. Given with `tuned` or not at all.
    #[schemars(example = &"untuned")]
    pub untuned: Option<String>,
    /// Several guide pairs with weights, instead of `tuned` and `untuned`.
    #[serde(default)]
    pub guide: Vec<GuideTable>,
    /// Prompts of the test split to answer.
    #[schemars(example = 100)]
    pub prompts: usize,
    /// Prompts of the validation split that say, by the gold, what the guides are worth before they
    /// steer, and which weight of `eft` is best without a look at the test prompts. They are those
    /// that fit the models, and all there are where they are fewer. Without `data.validation` the
    /// guides answer as many test prompts, and no weight is chosen. 0 does neither, as no `[gold]`
    /// does.
    #[serde(default = "sixty_four")]
    pub validation_prompts: usize,
    /// Tokens of a response, at most. With its prompt it must fit what is sampled: the bases, and
    /// the guides of `eft`, `tilt`, `tuned` and `untuned`. Guides that only score need room for the
    /// prompt and one token: of a longer response they score the beginning.
    #[schemars(range(min = 1), extend("x-also" = ["max_tokens", "max_length"]))]
    #[schemars(example = 50)]
    pub max_new_tokens: usize,
    #[serde(default)]
    pub sampling: SamplingTable,
    /// A response ends before the first of these texts.
    #[serde(default)]
    #[schemars(extend("x-also" = ["stop_sequences", "stop_strings"]))]
    #[schemars(example = &["\n"])]
    pub stop: Vec<String>,
    /// Whose rules hold where the paper and its released code differ.
    #[serde(default)]
    pub semantics: Semantics,
    /// Prompts searched at once; one that is answered makes room for the next. More are faster and
    /// take more memory. Texts do not depend on it, the last bits of scores do. Over a base that
    /// others serve they are as many as its `limits.at_once`, where that is more and memory allows.
    #[serde(default = "eight")]
    #[schemars(range(min = 1), extend("x-also" = ["batch_size"]))]
    pub prompts_in_flight: usize,
    /// Whether the search tree is written too.
    #[serde(default)]
    pub trace: bool,
    /// The methods, one `[[steer.method]]` for each.
    pub method: Vec<MethodTable>,
}

impl Steer {
    /// The values that the answer to a prompt depends on, by any method, with the guides' weights
    /// and what holds for the model that answers; what counts of a method is
    /// [`super::Method::settings`].
    pub fn outcome(&self, pairs: &[GuidePairSource], answering: &Answering) -> Value {
        let Self {
            bases: _,
            tuned: _,
            untuned: _,
            guide: _,
            prompts: _,
            validation_prompts: _,
            max_new_tokens: _,
            sampling: _,
            stop: _,
            semantics,
            prompts_in_flight: _,
            trace: _,
            method: _,
        } = self;
        let Answering { sampling, stop, max_new_tokens } = answering;
        let weights: Vec<f64> = pairs.iter().map(|pair| pair.weight).collect();
        json!({
            "max_new_tokens": max_new_tokens,
            "sampling": sampling,
            "stop": stop,
            "semantics": semantics,
            "weights": weights,
        })
    }

    /// The rules that hold whatever is steered over, those of `w2s steer` too.
    pub(in crate::recipe) fn settings_rules(&self, rules: &mut Rules) {
        if self.stop.iter().any(String::is_empty) {
            rules.problem(
                "`steer.stop` holds an empty text, which would end every response at once",
            );
        }
        self.guide_rules(rules);
        self.method_rules(rules);
    }

    fn guide_rules(&self, rules: &mut Rules) {
        pair_rules("steer", &self.tuned, &self.untuned, rules);
        for (index, guide) in self.guide.iter().enumerate() {
            guide.rules(&self.guide[..index], rules);
        }
        if !self.guide.is_empty() && (self.tuned.is_some() || self.untuned.is_some()) {
            rules.problem_hint(
                "`steer.tuned` and `steer.untuned` are given beside `[[steer.guide]]`",
                "name that pair in a `[[steer.guide]]` too",
            );
        }
    }

    fn method_rules(&self, rules: &mut Rules) {
        if self.method.is_empty() {
            rules.problem_hint(
                "`steer.method` is empty, expected one method or more",
                "add `[[steer.method]]` with `kind = \"base\"`",
            );
        }
        let mut taken: Vec<String> = Vec::new();
        for (index, method) in self.method.iter().enumerate() {
            let key = format!("steer.method.{index}");
            for name in method.names() {
                rules.folder_name(&format!("{key}.name"), &name);
                if taken.contains(&name) {
                    rules.problem_hint(
                        format!("`{key}`: a method before it has the name `{name}` too"),
                        "give one of them another `name`",
                    );
                }
            }
            taken.extend(method.names());
            let samples = method.rows.iter().map(|row| row.search.settings().samples());
            let (samples, bases) = (samples.max().unwrap_or(1), method.bases_of(&self.bases));
            self.samples_differ(&key, &bases, samples, rules);
            method.rules(&key, &self.bases, rules);
        }
    }

    fn base_names(&self) -> Vec<&str> {
        self.bases.iter().map(String::as_str).collect()
    }

    /// `all` are the tokens that are sampled beside those of the methods.
    fn method_words<'a>(&'a self, plan: &Plan, mut all: u64, out: &mut String) -> fmt::Result {
        let rows = |method: &'a MethodTable| method.rows.iter().map(move |row| (method, row));
        for (method, row) in self.method.iter().flat_map(rows) {
            let sets = plan.guide_sets();
            let is_guided = row
                .methods()
                .iter()
                .any(|(_, method)| method.needs_guides() || method.proposal == Proposal::Tuned);
            let of_sets = |name: String| -> Vec<String> {
                let named = sets.iter().filter(|_| is_guided).map(|set| set.setting.as_ref());
                match named.map(|name| Some(name?.as_str())).collect::<Option<Vec<_>>>() {
                    Some(settings) if !settings.is_empty() => {
                        settings.iter().map(|setting| format!("{name}-{setting}")).collect()
                    }
                    _ => vec![name],
                }
            };
            let names: Vec<String> =
                row.methods().into_iter().flat_map(|(name, _)| of_sets(name)).collect();
            let samples = product(&[row.search.settings().rows() as u64, names.len() as u64]);
            let (arithmetic, sampled) = self.sampled(plan, method, row, samples);
            all = all.saturating_add(sampled);
            write!(out, "     {}: {}; ", names.join(", "), row.words())?;
            writeln!(out, "{arithmetic} = {}", grouped(sampled))?;
        }
        writeln!(out, "     at most {} sampled tokens in all", grouped(all))
    }

    /// Tokens that a row of a method samples, and the products that give them: one for the bases
    /// whose responses may have as many tokens.
    fn sampled(
        &self,
        plan: &Plan,
        method: &MethodTable,
        row: &MethodRow,
        samples: u64,
    ) -> (String, u64) {
        let (seeds, prompts) = (plan.recipe.run.seeds.len() as u64, self.prompts as u64);
        let alone = match row.proposals.first() {
            Some(Proposal::Tuned) => plan.tuned(),
            Some(Proposal::Untuned) => plan.untuned(),
            _ => None,
        };
        let mut bases = method.bases_of(&self.bases);
        if row.proposes(|proposal| matches!(proposal, Proposal::Ppo { .. })) {
            let policies = plan.recipe.ppo.iter().flat_map(|ppo| ppo.policies());
            let policies: Vec<&str> = policies.collect();
            bases.retain(|base| policies.contains(base));
        }
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for base in bases {
            let model = alone.as_ref().and_then(|source| plan.model_of(source)).unwrap_or(base);
            let tokens = self.answering(&plan.recipe, model).max_new_tokens as u64;
            *counts.entry(tokens).or_default() += 1;
        }
        let (mut products, mut all) = (Vec::new(), 0_u64);
        for (tokens, bases) in counts {
            products.push(format!(
                "bases {bases} × seeds {seeds} × prompts {prompts} × samples {samples} × tokens \
                 {tokens}"
            ));
            all = all.saturating_add(product(&[bases, seeds, prompts, samples, tokens]));
        }
        (products.join(" + "), all)
    }
}

impl StageTable for Steer {
    fn texts(&self, _: &Recipe) -> Texts {
        Texts::Test
    }

    fn rules(&self, rules: &mut Rules) {
        if self.bases.is_empty() {
            rules.problem("`steer.bases` is empty, expected one model or more");
        }
        for (index, base) in self.bases.iter().enumerate() {
            if self.bases[..index].contains(base) {
                rules.problem(format!("`steer.bases` holds `{base}` twice"));
            } else if rules.known_model("steer.bases", base) {
                self.base_fits(base, rules);
            }
        }
        let test = ("data.test", rules.recipe.data.as_ref().and_then(|data| data.test));
        rules.prompts("steer.prompts", self.prompts, test);
        self.guides_fit(rules);
        self.settings_rules(rules);
    }

    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        let Self { prompts, prompts_in_flight, trace, .. } = self;
        let (longest, _) = self.longest_of_bases(&plan.recipe);
        let pair = |pair: &GuidePairSource| {
            format!("{} over {} with weight {}", pair.tuned, pair.untuned, pair.weight)
        };
        let set = |set: &GuideSet| set.pairs.iter().map(pair).collect::<Vec<_>>().join(", ");
        let guides = plan.guide_sets().iter().map(set).collect::<Vec<_>>().join("; or ");
        let guides = if guides.is_empty() { "none" } else { &guides };
        writeln!(out, "{}; guides: {guides}", self.bases.join(", "))?;
        for guide in plan.recipe.guide_models() {
            plan.write_guide_room(out, guide, &self.base_names(), longest)?;
        }
        write!(out, "     {prompts} prompts, {prompts_in_flight} at once, ")?;
        let semantics = match self.semantics {
            Semantics::Paper => "",
            Semantics::Official => "; semantics of the official release",
        };
        let trace = if *trace { "with trace" } else { "no trace" };
        let Self { sampling, stop, max_new_tokens, .. } = self.clone();
        let all = Answering { sampling, stop, max_new_tokens }.words();
        writeln!(out, "{all}; {trace}{semantics}")?;
        self.own_words(plan, out)?;
        let validation = self.validation_words(plan, out)?;
        self.method_words(plan, validation, out)
    }

    fn warnings(&self, plan: &Plan) -> Vec<String> {
        let recipe = &plan.recipe;
        let one_model = plan.guide_pairs().into_iter().filter_map(|pair| pair.one_model(recipe));
        let choose_nothing = one_model.map(|both| {
            format!(
                "`steer`: the tuned and the untuned guide are {both}, so every score is 0 and they \
                 choose nothing"
            )
        });
        let sampled = recipe.sampled_guides();
        let scoring = recipe.guide_models().into_iter().filter(|guide| !sampled.contains(guide));
        let ((longest, key), bases) = (self.longest_of_bases(recipe), self.base_names());
        let short = scoring.filter_map(|guide| plan.short_guide(&key, guide, &bases, longest));
        choose_nothing.chain(short).chain(self.idle_settings(recipe)).collect()
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        let model =
            |source: Option<_>| source.and_then(|source| Some(plan.model_of(&source)?.to_owned()));
        let guides = [plan.tuned(), plan.untuned()].map(model);
        let rows = self.method.iter().flat_map(|table| table.rows.iter().map(move |r| (table, r)));
        let cells = rows.flat_map(|(table, row)| {
            let models: Vec<&str> = match row.proposals.first() {
                Some(Proposal::Tuned) => guides[0].iter().map(String::as_str).collect(),
                Some(Proposal::Untuned) => guides[1].iter().map(String::as_str).collect(),
                _ => table.bases_of(&self.bases),
            };
            models.into_iter().map(move |model| (row, model))
        });
        let methods = cells.filter_map(|(row, model)| {
            let parts = self.method_memory(plan, row, model)?;
            Some(StageMemory { model: model.to_owned(), parts })
        });
        // The gold judges the guides before there is a base.
        let judge = plan.recipe.measures_guides().then(|| judge_parts(plan, GOLD)).flatten();
        let judge = judge.map(|parts| StageMemory { model: GOLD.to_owned(), parts });
        largest(methods.chain(judge))
    }
}

fn sixty_four() -> usize {
    64
}

fn eight() -> usize {
    8
}
