//! Prompts that a judge or a guide learns from pairs, and what is left of a test split without
//! them: what is measured on prompts that were learned says little of new ones.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use super::examples::{Dataset, Split};
use super::pair_files::{self, PairRows};
use super::whole_prompts::as_wanted;
use crate::error::Result;
use crate::prompt::{Prompt, PromptText};
use crate::recipe::{Data, PromptRule, Recipe};

/// What passes a whole test prompt over that a training or validation row has, too.
const ROWS: &str = "the training or validation rows of `[data]`";

/// The prompts of the pairs that a recipe learns from, for training and for validation.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnedPrompts {
    /// How whole test prompts are ended and cut.
    rule: Option<PromptRule>,
    /// By the table that names the pairs.
    by_table: Vec<(&'static str, HashSet<String>)>,
}

/// The prompts of a test split, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TestPrompts {
    /// As many as are asked for, or all there are.
    pub prompts: Vec<Prompt>,
    /// Those that were passed over on the way to the last of `prompts`, for training or validation
    /// texts begin with the same words: short prompts do so by chance.
    pub seen: Vec<Prompt>,
    /// Whole prompts on that way that ask what an earlier one does.
    pub repeated: Vec<Prompt>,
    /// How many were passed over for good on that way, by whose they are.
    pub learned: BTreeMap<String, usize>,
}

impl LearnedPrompts {
    /// Without any pairs yet.
    pub fn new(recipe: &Recipe) -> Self {
        let whole = recipe.data.as_ref().filter(|data| data.columns.prompt.is_some());
        Self { rule: whole.map(|data| data.prompt.clone()), by_table: Vec::new() }
    }

    /// Reads all pairs of the recipe that are there already.
    ///
    /// # Errors
    /// Those of [`pair_files::load`].
    pub fn read(recipe: &Recipe) -> Result<Self> {
        let mut learned = Self::new(recipe);
        for source in recipe.pair_sources() {
            learned.add(source.table, &pair_files::load(&source)?);
        }
        Ok(learned)
    }

    /// Takes the prompts of pairs that `table` names: as they stand, and as they would be test
    /// prompts.
    pub fn add(&mut self, table: &'static str, pairs: &PairRows) {
        let rows = pairs.train.iter().chain(&pairs.validation);
        let mut prompts = HashSet::new();
        for prompt in rows.map(|row| &row.prompt).filter(|prompt| !prompt.is_empty()) {
            let wanted = self.rule.as_ref().and_then(|rule| as_wanted(rule, prompt));
            prompts.extend(wanted.iter().chain([prompt]).map(|prompt| key(prompt).into_owned()));
        }
        self.by_table.push((table, prompts));
    }

    /// The table whose pairs have the prompt.
    fn table_of(&self, key: &str) -> Option<&'static str> {
        self.by_table.iter().find(|(_, prompts)| prompts.contains(key)).map(|(table, _)| *table)
    }
}

impl Dataset {
    /// The first `count` test prompts that nobody learns from. Those of `learned` pairs are passed
    /// over, and whole prompts that a training or validation row has. Those that are the first
    /// words of texts are kept apart where another split's texts begin with them.
    pub fn test_prompts(
        &self,
        data: &Data,
        seed: u64,
        count: usize,
        learned: &LearnedPrompts,
    ) -> TestPrompts {
        let prompts = |split: Split| {
            let rows = self.rows(split).iter();
            rows.filter_map(|row| Some(Prompt::new(&row.id, row.prompt(&data.prompt, seed)?)))
        };
        let earlier = [Split::Train, Split::Validation].into_iter().flat_map(prompts);
        let earlier: HashSet<String> =
            earlier.map(|prompt| key(&prompt.text).into_owned()).collect();
        let is_whole = data.columns.prompt.is_some();
        let (mut found, mut taken) = (TestPrompts::default(), HashSet::new());
        for prompt in prompts(Split::Test) {
            if found.prompts.len() == count {
                break;
            }
            let key = key(&prompt.text);
            let whose = match learned.table_of(&key) {
                Some(table) => Some(format!("the pairs of `{table}`")),
                None if earlier.contains(&*key) && is_whole => Some(ROWS.to_owned()),
                None => None,
            };
            if let Some(whose) = whose {
                *found.learned.entry(whose).or_default() += 1;
            } else if earlier.contains(&*key) {
                found.seen.push(prompt);
            } else if is_whole && !taken.insert(prompt.text.to_string().trim().to_owned()) {
                found.repeated.push(prompt);
            } else {
                found.prompts.push(prompt);
            }
        }
        found
    }
}

impl TestPrompts {
    /// The first `count`; those that were passed over for now come last.
    pub fn taken(self, count: usize) -> Vec<Prompt> {
        let Self { prompts, seen, repeated, learned: _ } = self;
        prompts.into_iter().chain(seen).chain(repeated).take(count).collect()
    }

    /// What is to be said where fewer prompts are left than `steer.prompts` asks for.
    pub fn too_few(&self, data: &Data, asked: usize) -> Option<String> {
        let left = self.prompts.len() + self.seen.len() + self.repeated.len();
        if left >= asked {
            return None;
        }
        if self.learned.is_empty() {
            return Some(data.too_few_prompts(left, asked));
        }
        let all = left + self.learned.values().sum::<usize>();
        let whose =
            self.learned.iter().map(|(whose, count)| format!("{count} are prompts of {whose}"));
        let lower = if left > 0 { "lower it, " } else { "" };
        Some(format!(
            "of {all} test prompts {left} are left that nobody learns from, and `steer.prompts` \
             asks for {asked}: {}\n\nhint: {lower}raise `data.test`, or take test prompts that the \
             pairs do not have",
            whose.collect::<Vec<_>>().join(", ")
        ))
    }
}

/// What two prompts have in common that ask the same, without white space around it.
fn key(prompt: &PromptText) -> Cow<'_, str> {
    match prompt.key() {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::text::load_dataset;

    /// A recipe with these prompts of test rows, of training rows, and of pairs.
    fn found(
        asked: usize,
        column: bool,
        rule: &str,
        pairs: &[&str],
    ) -> (TestPrompts, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, rows: Vec<serde_json::Value>| {
            let rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
            std::fs::write(folder.path().join(name), rows.join("\n")).unwrap();
            folder.path().join(name).display().to_string()
        };
        let row = |prompt: &str| json!({ "prompt": prompt, "text": format!("{prompt} and more") });
        for (split, prompts) in [
            ("train", &["one x", "two x"][..]),
            ("validation", &["three x"]),
            ("test", &["four x", "two x", "five x\n", "six x", "seven x y"]),
        ] {
            write(&format!("{split}.jsonl"), prompts.iter().map(|prompt| row(prompt)).collect());
        }
        let pair = |prompt: &&str| json!({ "prompt": prompt, "chosen": "a", "rejected": "b" });
        let gold = write("gold.jsonl", pairs.iter().map(pair).collect());
        let column = if column { "columns = { prompt = 'prompt' }" } else { "" };
        let recipe = format!(
            "[run]\nname = 'x'\n[data]\nsource = {:?}\n{column}\nprompt = {{ {rule} }}\n\
             train = 0\nvalidation = 0\ntest = 0\n\
             [gold.reward_model]\nmodel = 'm'\nsource = {gold:?}\nvalidation_pairs = 1\n",
            folder.path().display().to_string()
        );
        let recipe: Recipe = toml::from_str(&recipe).unwrap();
        let learned = LearnedPrompts::read(&recipe).unwrap();
        let data = recipe.data.as_ref().unwrap();
        let found = load_dataset(data, 1).unwrap().test_prompts(data, 1, asked, &learned);
        let too_few = found.too_few(data, asked);
        (found, too_few)
    }

    fn ids(prompts: &[Prompt]) -> Vec<&str> {
        prompts.iter().map(|prompt| prompt.id.as_str()).collect()
    }

    #[test]
    fn prompts_that_were_learned_are_no_test_prompts() {
        let (TestPrompts { prompts, seen, learned, .. }, too_few) =
            found(2, true, "", &["five x", "other", " six x"]);
        assert_eq!((ids(&prompts), ids(&seen), too_few), (vec!["test-0", "test-4"], vec![], None));
        let told: Vec<(&str, usize)> =
            learned.iter().map(|(whose, count)| (whose.as_str(), *count)).collect();
        assert_eq!(told, [("the pairs of `gold.reward_model`", 2), (ROWS, 1)]);

        let (_, too_few) = found(3, true, "", &["five x", "other", " six x"]);
        let too_few = too_few.unwrap();
        assert!(
            too_few.starts_with(
                "of 5 test prompts 2 are left that nobody learns from, and `steer.prompts` asks \
                 for 3: 2 are prompts of the pairs of `gold.reward_model`, 1 are prompts of the \
                 training or validation rows of `[data]`\n\nhint: lower it"
            ),
            "{too_few}"
        );
    }

    #[test]
    fn a_prompt_is_known_again_with_its_end_and_cut() {
        let rule = "max_words = 3, end = 'TL;DR:', long = 'cut'";
        let (found, _) = found(9, true, rule, &["seven x of another kind", "four x", "other"]);
        assert_eq!(ids(&found.prompts), ["test-2", "test-3"]);
    }

    #[test]
    fn first_words_are_passed_over_for_pairs_and_kept_apart_for_texts() {
        let rule = "min_words = 2, max_words = 2";
        let (found, too_few) = found(4, false, rule, &["six x", "other"]);
        assert_eq!(
            (ids(&found.prompts), ids(&found.seen)),
            (vec!["test-0", "test-2", "test-4"], vec!["test-1"])
        );
        assert_eq!((found.learned.values().sum::<usize>(), too_few), (1, None));
    }

    #[test]
    fn a_whole_prompt_is_asked_once() {
        let file = tempfile::NamedTempFile::with_suffix(".jsonl").unwrap();
        let rows = ["a", "b", "a ", "c", "b"].map(|prompt| json!({ "prompt": prompt }).to_string());
        std::fs::write(file.path(), rows.join("\n")).unwrap();
        let recipe = format!(
            "[run]\nname = 'x'\n[data]\nsource = {:?}\ncolumns = {{ prompt = 'prompt' }}\n\
             test = 0\n",
            file.path().display().to_string()
        );
        let recipe: Recipe = toml::from_str(&recipe).unwrap();
        let (data, learned) = (recipe.data.as_ref().unwrap(), LearnedPrompts::new(&recipe));
        let found =
            |count: usize| load_dataset(data, 1).unwrap().test_prompts(data, 1, count, &learned);
        let few = found(3);
        assert_eq!(ids(&few.prompts), ["test-0", "test-1", "test-3"]);
        assert_eq!(ids(&few.repeated), ["test-2"]);
        let all = found(5);
        assert_eq!((ids(&all.repeated), all.too_few(data, 5)), (vec!["test-2", "test-4"], None));
        assert!(all.too_few(data, 6).is_some());
    }

    #[test]
    fn a_chat_of_one_turn_asks_what_its_text_asks() {
        use crate::prompt::Message;
        let one: PromptText = vec![Message::new("user", " q\n")].into();
        let two: PromptText = vec![Message::new("system", "s"), Message::new("user", "q")].into();
        assert_eq!(key(&one), key(&"q".into()));
        assert_eq!(key(&two), key(&one), "whatever the system says");
    }
}
