//! Prompts that a model's template does not go with: such as end already in what it adds, and such
//! as its exemplars answer. Asked before any work, of the prompts that a stage has.

use crate::prompt::{Prompt, PromptText};
use crate::recipe::{HOLE, Model, behind_hole};

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
/// prompt is the same with and without what stands behind it: `end` of the data, and what the
/// template adds.
pub fn answered_before(
    name: &str,
    model: &Model,
    prompts: &[Prompt],
    end: Option<&str>,
) -> Option<String> {
    let exemplars = model.exemplars.as_ref()?;
    let template = exemplars.template(model.prompt.text()?);
    let ends = [end.unwrap_or_default().trim(), behind_hole(&template)];
    for (index, row) in exemplars.rows.iter().enumerate() {
        let shown = bare(&row.prompt, ends);
        if let Some(Prompt { id, .. }) =
            prompts.iter().find(|prompt| bare(last_words(&prompt.text), ends) == shown)
        {
            return Some(format!(
                "exemplar {} of `models.{name}` is test prompt `{id}`, so its answer is known\n\n\
                 hint: take exemplars from another split",
                index + 1
            ));
        }
    }
    None
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

    fn model(table: &str) -> Model {
        toml::from_str(&format!("id = 'x'\n{table}")).unwrap()
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
        let found = answered_before("large", &model(table), &tests, None).unwrap();
        assert!(
            found.starts_with("exemplar 2 of `models.large` is test prompt `test-1`, so"),
            "{found}"
        );
        let plain = table.replace("TL;DR:", "");
        assert_eq!(answered_before("large", &model(&plain), &tests, None), None);
        let end = Some("TL;DR:");
        assert!(answered_before("large", &model(&plain), &tests, end).is_some());
        assert_eq!(answered_before("large", &model(table), &tests[..1], end), None);
    }
}
