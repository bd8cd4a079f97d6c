//! Prompts that a model's template does not go with: such as end already in what it adds, and such
//! as its exemplars answer. Asked before any work, of the prompts that a stage has.

use super::pair_files::{PairRow, PairRows};
use super::whole_prompts::as_wanted;
use crate::prompt::{Prompt, PromptText};
use crate::recipe::{HOLE, Model, PromptRule, behind_hole};

/// Prompts that are looked at.
const FIRST: usize = 100;

/// What is wrong where most of `prompts` end already in what the template of the recipe's model
/// `name` puts behind them.
pub fn said_twice<'a>(
    name: &str,
    model: &Model,
    prompts: impl IntoIterator<Item = &'a PromptText>,
) -> Option<String> {
    let template = model.prompt.text()?;
    let end = Some(behind_hole(template)).filter(|end| !end.is_empty())?;
    let mut seen = 0;
    let first = prompts.into_iter().take(FIRST).inspect(|_| seen += 1);
    let ending = first.filter(|prompt| last_words(prompt).trim_end().ends_with(end)).count();
    (2 * ending > seen).then(|| {
        let plain = template
            .split_once(HOLE)
            .map_or(HOLE.to_owned(), |(before, _)| format!("{before}{HOLE}"));
        format!(
            "prompts already end in `{end}`, which `models.{name}.prompt` adds again\n\nhint: \
             leave it out of the template: `prompt = {plain:?}`"
        )
    })
}

/// What is wrong where a model's exemplars answer one of `prompts`, which are of the test split. A
/// prompt is the same with and without what stands behind it: the end that `rule` gives all of
/// them, and what the template adds; and as it is cut by `rule`.
pub fn answered_before(
    name: &str,
    model: &Model,
    prompts: &[Prompt],
    rule: &PromptRule,
) -> Option<String> {
    let exemplars = model.exemplars.as_ref()?;
    let template = exemplars.template(model.prompt.text()?);
    let ends = [rule.end.as_deref().unwrap_or_default().trim(), behind_hole(&template)];
    for (index, row) in exemplars.rows.iter().enumerate() {
        let shown = bare(&row.prompt, ends);
        let cut = as_wanted(rule, &row.prompt.as_str().into());
        let cut = cut.as_ref().map_or(shown, |cut| bare(last_words(cut), ends));
        let is_shown = |prompt: &&Prompt| {
            let asked = bare(last_words(&prompt.text), ends);
            asked == shown || asked == cut
        };
        if let Some(Prompt { id, .. }) = prompts.iter().find(is_shown) {
            return Some(format!(
                "exemplar {} of `models.{name}` is test prompt `{id}`, so its answer is known\n\n\
                 hint: take exemplars from another split",
                index + 1
            ));
        }
    }
    None
}

/// What is to be said of pairs of which most do not end as `rule` has the steered prompts end.
pub fn ends_otherwise(pairs: &PairRows, rule: &PromptRule) -> Option<String> {
    let end = rule.end.as_deref().map(str::trim).filter(|end| !end.is_empty())?;
    let ends = |pair: &&PairRow| last_words(&pair.prompt).trim_end().ends_with(end);
    let (all, ending) = (pairs.train.len(), pairs.train.iter().filter(ends).count());
    (2 * ending < all).then(|| {
        format!(
            "steered prompts end in `{end}` (`data.prompt.end`), and {ending} of {all} prompts of \
             the training pairs do: what is learned from them is asked otherwise. `data.prompt` \
             does not change pairs"
        )
    })
}

/// A prompt without white space at its ends and without any of `ends`.
fn bare<'a>(prompt: &'a str, ends: [&str; 2]) -> &'a str {
    let mut bare = prompt.trim();
    while let Some(shorter) =
        ends.iter().filter(|end| !end.is_empty()).find_map(|end| bare.strip_suffix(end))
    {
        bare = shorter.trim_end();
    }
    bare
}

/// The text that a template is put around.
fn last_words(prompt: &PromptText) -> &str {
    match prompt {
        PromptText::Plain(text) => text,
        PromptText::Chat(turns) => turns.last().map_or("", |turn| &turn.content),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::LongPrompts;

    fn model(table: &str) -> Model {
        toml::from_str(&format!("id = 'x'\n{table}")).unwrap()
    }

    fn rule(end: Option<&str>) -> PromptRule {
        PromptRule { end: end.map(str::to_owned), ..PromptRule::default() }
    }

    fn prompts(texts: &[&str]) -> Vec<Prompt> {
        let all = texts.iter().enumerate();
        all.map(|(index, text)| Prompt::new(format!("test-{index}"), *text)).collect()
    }

    #[test]
    fn a_template_that_adds_what_prompts_end_in_is_told() {
        let twice = |template: &str, texts: &[&str]| {
            let model = model(&format!("prompt = '{template}'"));
            said_twice("large", &model, prompts(texts).iter().map(|prompt| &prompt.text))
        };
        let posts = ["POST: a\n\nTL;DR:", "POST: b\n\nTL;DR: ", "POST: c"];
        assert_eq!(twice("Post: {prompt}TL;DR:", &posts).unwrap(), {
            "prompts already end in `TL;DR:`, which `models.large.prompt` adds again\n\nhint: \
             leave it out of the template: `prompt = \"Post: {prompt}\"`"
        });
        assert_eq!(twice("{prompt}TL;DR:", &posts[1..]), None, "half of them is not most");
        assert_eq!(twice("TL;DR: {prompt} ", &posts), None);
        assert_eq!(twice("{prompt}TL;DR:", &[]), None);
    }

    #[test]
    fn an_exemplar_that_is_a_test_prompt_is_told_whatever_stands_behind_it() {
        let table = "prompt = '{prompt}TL;DR:'\nexemplars = { rows = [\
                     { prompt = 'POST: a', response = 'A' }, { prompt = \"POST: b\\n\\n\", \
                     response = 'B' }] }";
        let tests = prompts(&["POST: aa", "POST: b\n\nTL;DR:"]);
        let found = answered_before("large", &model(table), &tests, &rule(None)).unwrap();
        assert!(
            found.starts_with("exemplar 2 of `models.large` is test prompt `test-1`, so"),
            "{found}"
        );
        let plain = table.replace("TL;DR:", "");
        assert_eq!(answered_before("large", &model(&plain), &tests, &rule(None)), None);
        let end = Some("TL;DR:");
        assert!(answered_before("large", &model(&plain), &tests, &rule(end)).is_some());
        assert_eq!(answered_before("large", &model(table), &tests[..1], &rule(end)), None);
    }

    #[test]
    fn an_exemplar_is_a_test_prompt_as_the_rule_cuts_it() {
        let cut = PromptRule {
            // The end is a word of it.
            max_words: Some(3),
            long: LongPrompts::Cut,
            end: Some("TL;DR:".to_owned()),
            ..PromptRule::default()
        };
        let shown = model("exemplars = { rows = [{ prompt = 'a b c d', response = 'A' }] }");
        let tests = prompts(&["a b\n\nTL;DR:"]);
        assert!(answered_before("large", &shown, &tests, &cut).is_some());
        assert_eq!(answered_before("large", &shown, &tests, &rule(None)), None);
    }

    #[test]
    fn pairs_that_end_otherwise_are_told() {
        let row = |prompt: &str| PairRow {
            id: "train-0".to_owned(),
            prompt: prompt.into(),
            chosen: "a".to_owned(),
            rejected: "b".to_owned(),
            chosen_complete: true,
            rejected_complete: true,
            unfit: None,
        };
        let rows = |prompts: &[&str]| PairRows {
            train: prompts.iter().map(|prompt| row(prompt)).collect(),
            validation: Vec::new(),
            report: Default::default(),
        };
        let asked = rule(Some("\nTL;DR:"));
        let told = ends_otherwise(&rows(&["a", "b", "c TL;DR: "]), &asked).unwrap();
        assert!(told.contains("1 of 3 prompts of the training pairs"), "{told}");
        assert_eq!(ends_otherwise(&rows(&["a TL;DR:", "b"]), &asked), None);
        assert_eq!(ends_otherwise(&rows(&["a"]), &rule(None)), None);
    }
}
