//! What can be said of tokenizers before any weights are read: each folder's own, and which
//! vocabularies are one.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::rc::Rc;

use serde_json::Value;

use super::json_file::read_json;
use super::{PromptTemplate, Tokenizer, VocabularyDifference};
use crate::error::Result;
use crate::recipe::{GuidePairSource, Plan, Recipe, config_folder, two_vocabularies};

/// What stands before the prompts of each model in a folder, how each chat model is addressed, and
/// for each base of `[steer]` and the policy of `[ppo]` whether the guides share its vocabulary;
/// empty where a plan has none of these.
pub fn plan_report(plan: &Plan) -> Result<String> {
    let mut tokenizers = Tokenizers::default();
    let mut text = String::new();
    for (name, model) in &plan.recipe.models {
        let (Some(id), true) =
            (model.tokenizer_id(), model.chat.is_none() || model.bos == Some(true))
        else {
            continue;
        };
        let tokenizer = tokenizers.open(id)?;
        // What cannot stand there is one of the plan's problems.
        let template = PromptTemplate::of(model)?;
        let Ok(before) = template.before(&tokenizer) else { continue };
        // Writing to a `String` cannot fail.
        let _ = write!(text, "\n  {name}: {}", named(&tokenizer, &before));
    }
    let before = if text.is_empty() { text } else { format!("before a prompt{text}\n") };
    let mut text = String::new();
    for (name, model) in &plan.recipe.models {
        let (Some(id), true) = (model.tokenizer_id(), model.chat.is_some()) else { continue };
        let rendered =
            PromptTemplate::of(model)?.render(&*tokenizers.open(id)?, &"{prompt}".into())?;
        let _ = write!(text, "\n  {name} reads {rendered:?}");
    }
    let chats = if text.is_empty() { text } else { format!("chat{text}\n") };
    let mut text = String::new();
    for base in plan.recipe.steer.iter().flat_map(|steer| &steer.bases) {
        for guide in plan.recipe.guide_models() {
            let _ = write!(
                text,
                "\n  {base}, guided by {guide}: {}",
                tokenizers.identity(plan, base, guide)?
            );
        }
    }
    if let Some(ppo) = &plan.recipe.ppo {
        for policy in ppo.policies() {
            for guide in plan.recipe.ppo_guide_models() {
                let identity = tokenizers.identity(plan, policy, guide)?;
                let _ = write!(text, "\n  {policy}, rewarded by {guide}: {identity}");
            }
        }
    }
    text.push_str(&not_applicable(plan, &mut tokenizers));
    let vocabularies = if text.is_empty() { text } else { format!("vocabularies{text}\n") };
    Ok([before, chats, vocabularies]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("\n"))
}

/// Models that are asked for a BOS token which their tokenizers have not. A tokenizer that cannot
/// be read is told with its model.
pub fn bos_problems(recipe: &Recipe) -> Vec<String> {
    let mut tokenizers = Tokenizers::default();
    let mut problems = Vec::new();
    for (name, model) in &recipe.models {
        let Some(Ok(tokenizer)) = model.tokenizer_id().map(|id| tokenizers.open(id)) else {
            continue;
        };
        let Ok(template) = PromptTemplate::of(model) else { continue };
        let before = template.before(&tokenizer);
        problems.extend(before.err().map(|error| format!("`models.{name}.bos`: {error}")));
    }
    problems
}

/// What keeps guides from reading one text: tokenizers in folders whose vocabularies differ within
/// a pair. A tokenizer that cannot be read is told with its model.
pub fn pair_problems(recipe: &Recipe) -> Vec<String> {
    let mut problems = Vec::new();
    let mut tokenizers = Tokenizers::default();
    for GuidePairSource { tuned, untuned, .. } in recipe.guide_pairs() {
        let (Some(mine), Some(theirs)) = (recipe.model_of(&tuned), recipe.model_of(&untuned))
        else {
            continue;
        };
        if let Some(difference) = tokenizers.difference(recipe, mine, theirs) {
            let problem = format!(
                "the guides {tuned} and {untuned} of a pair have two vocabularies: {difference}"
            );
            problems.extend(Some(problem.clone()).filter(|_| !problems.contains(&problem)));
        }
    }
    problems
}

/// What keeps methods that need one vocabulary from steering a base: tokenizers in folders whose
/// vocabularies differ.
pub fn two_vocabularies_problems(recipe: &Recipe) -> Vec<String> {
    let mut problems = Vec::new();
    let mut tokenizers = Tokenizers::default();
    let Some(steer) = &recipe.steer else { return problems };
    for method in &steer.method {
        let Some(row) = method.rows.iter().find(|row| row.needs_one_vocabulary()) else { continue };
        for base in method.bases_of(&steer.bases) {
            for guide in recipe.guide_models() {
                let Some(difference) = tokenizers.difference(recipe, base, guide) else { continue };
                let [base, guide] = [format!("base `{base}`"), format!("guide `{guide}`")];
                let problem =
                    two_vocabularies(&row.search, &base, &guide, &format!("two: {difference}"));
                problems.extend(Some(problem.clone()).filter(|_| !problems.contains(&problem)));
            }
        }
    }
    problems
}

/// A line for each base to which a method does not apply, as far as it is known before a run, and
/// a warning where it applies to none.
fn not_applicable(plan: &Plan, tokenizers: &mut Tokenizers) -> String {
    let mut text = String::new();
    let recipe = &plan.recipe;
    for (steer, method) in
        recipe.steer.iter().flat_map(|steer| steer.method.iter().map(move |method| (steer, method)))
    {
        let rows = method.rows.iter().filter(|row| row.needs_one_vocabulary());
        let names = rows.flat_map(|row| row.methods()).map(|(name, _)| name).collect::<Vec<_>>();
        if names.is_empty() {
            continue;
        }
        let (names, bases) = (names.join(", "), method.bases_of(&steer.bases));
        let mut without = 0;
        for &base in &bases {
            let guides = plan.guide_pairs();
            let guides = guides.iter().filter_map(|pair| plan.model_of(&pair.tuned));
            let mut why = guides.filter_map(|guide| {
                Some(format!("guide `{guide}`: {}", tokenizers.kept_apart(recipe, base, guide)?))
            });
            if let Some(why) = why.next() {
                without += 1;
                // Writing to a `String` cannot fail.
                let _ = write!(text, "\n  {names}: not applicable to {base} with {why}");
            }
        }
        if without == bases.len() && without > 0 {
            let _ = write!(text, "\n  warning: {names}: applicable to none of its bases");
        }
    }
    text
}

/// Each is read once, however many models share its folder.
#[derive(Default)]
struct Tokenizers(BTreeMap<String, Rc<Tokenizer>>);

impl Tokenizers {
    fn open(&mut self, folder: &str) -> Result<Rc<Tokenizer>> {
        if let Some(tokenizer) = self.0.get(folder) {
            return Ok(tokenizer.clone());
        }
        let tokenizer = Rc::new(Tokenizer::open(Path::new(folder))?);
        self.0.insert(folder.to_owned(), tokenizer.clone());
        Ok(tokenizer)
    }

    /// How the vocabularies of two models of the recipe differ, where both lie in folders.
    fn difference(
        &mut self,
        recipe: &Recipe,
        one: &str,
        other: &str,
    ) -> Option<VocabularyDifference> {
        let folder =
            |model: &str| recipe.models.get(recipe.tokenizer_owner(model))?.tokenizer_id().cloned();
        let (mine, theirs) = (self.open(&folder(one)?).ok()?, self.open(&folder(other)?).ok()?);
        mine.vocabulary().difference(&theirs.vocabulary())
    }

    /// What keeps a base and a guide from having one vocabulary, as far as it is known before a
    /// run.
    fn kept_apart(&mut self, recipe: &Recipe, base: &str, guide: &str) -> Option<String> {
        let owners = [base, guide].map(|model| recipe.tokenizer_owner(model));
        let is_there = |model: &&str| {
            recipe.models.get(*model).is_some_and(|own| own.tokenizer_id().is_some())
        };
        if owners.iter().all(is_there) {
            return Some(self.difference(recipe, base, guide)?.to_string());
        }
        let both = "they train a tokenizer each, which the run compares".to_owned();
        (owners[0] != owners[1]).then_some(both)
    }

    fn identity(&mut self, plan: &Plan, base: &str, guide: &str) -> Result<String> {
        let [mine, theirs] = [base, guide].map(|model| plan.recipe.tokenizer_owner(model));
        let [my_folder, their_folder] = [mine, theirs].map(|model| {
            plan.recipe.models.get(model).and_then(|model| model.tokenizer_id().cloned())
        });
        Ok(match (my_folder, their_folder) {
            _ if mine == theirs => "one tokenizer, so ids pass straight through".to_owned(),
            (Some(a), Some(b)) if a == b => {
                "one tokenizer, so ids pass straight through".to_owned()
            }
            (Some(a), Some(b)) => identity(&*self.open(&a)?, &*self.open(&b)?),
            (None, _) if plan.recipe.api(mine).is_some() => {
                "it is served, and the guides read its text".to_owned()
            }
            (None, None) => "each trains its own, so the guides read text".to_owned(),
            _ => "one is still to be trained, so the guides read text".to_owned(),
        })
    }
}

fn identity(base: &Tokenizer, guide: &Tokenizer) -> String {
    let (base, guide) = (base.vocabulary(), guide.vocabulary());
    match base.difference(&guide) {
        None => format!("the same {} tokens, so ids pass straight through", base.len()),
        Some(difference) => format!("not the same, so the guides read text: {difference}"),
    }
}

/// What each model folder's tokenizer and config say, the lines that `further` adds (what, and what
/// it is), and whether the others have the vocabulary of the first.
pub fn folder_reports(
    folders: &[&Path],
    further: impl Fn(&Path, Option<&Tokenizer>) -> Vec<(&'static str, String)>,
) -> Result<String> {
    let mut text = String::new();
    let mut first = None;
    for folder in folders {
        let described = Tokenizer::open(folder)
            .and_then(|tokenizer| Ok((describe(folder, &tokenizer)?, tokenizer)));
        let (described, tokenizer) = match described {
            Ok((described, tokenizer)) => (described, Some(tokenizer)),
            Err(error) => (
                format!(
                    "{}\n  {:<14} {}\n",
                    folder.display(),
                    "tokenizer",
                    indented(&error.to_string())
                ),
                None,
            ),
        };
        text.push_str(&described);
        for (what, is) in further(folder, tokenizer.as_ref()) {
            let _ = writeln!(text, "  {what:<14} {}", indented(&is));
        }
        let Some(tokenizer) = tokenizer else { continue };
        match &first {
            None => first = Some((folder.display(), tokenizer.vocabulary())),
            Some((against, vocabulary)) => {
                let said = match vocabulary.difference(&tokenizer.vocabulary()) {
                    None => "the same, id by id".to_owned(),
                    Some(difference) => format!("not the same: {difference}"),
                };
                let _ = writeln!(text, "  against {against}: {said}");
            }
        }
    }
    Ok(text.trim_end().to_owned())
}

/// Lines that continue under a column of values.
fn indented(text: &str) -> String {
    text.replace("\n\n", "\n").replace('\n', "\n                 ")
}

fn describe(folder: &Path, tokenizer: &Tokenizer) -> Result<String> {
    let config = read_json(&config_folder(folder).join("config.json"))?;
    let field = |name: &str| config.as_ref().and_then(|config| config.get(name));
    let (size, largest) = (tokenizer.vocab_size(), tokenizer.largest_id());
    let rows = field("vocab_size").and_then(Value::as_i64);
    let embedding = match rows {
        None => "unknown, no `vocab_size` in config.json".to_owned(),
        Some(rows) if tokenizer.largest_common_id() >= rows => {
            format!("{rows} rows, too few for id {largest}")
        }
        Some(rows) if largest >= rows => {
            format!("{rows} rows, none for id {largest}, which no text may hold")
        }
        Some(rows) => format!("{rows} rows"),
    };
    let special = |id: Option<i64>| id.map_or("none".to_owned(), |id| named(tokenizer, &[id]));
    let [before, after] = tokenizer.added()?;
    let chat = match tokenizer.chat_template() {
        Ok(Some(_)) => "yes".to_owned(),
        Ok(None) => "none".to_owned(),
        Err(error) => error.to_string(),
    };
    let lines = [
        (
            "family",
            field("model_type")
                .and_then(Value::as_str)
                .unwrap_or("unknown, no `model_type` in config.json")
                .to_owned(),
        ),
        ("vocabulary", format!("{size} tokens, largest id {largest}")),
        ("embedding", embedding),
        ("bos", special(tokenizer.bos_id())),
        ("eos", special(tokenizer.eos_id())),
        ("pad", special(tokenizer.pad_id())),
        ("before a text", named(tokenizer, &before)),
        ("after a text", named(tokenizer, &after)),
        ("chat template", chat),
    ];
    let lines = lines.map(|(what, is)| format!("  {what:<14} {is}\n"));
    Ok(format!("{}\n{}", folder.display(), lines.concat()))
}

/// Ids with their tokens.
pub fn named(tokenizer: &Tokenizer, ids: &[i64]) -> String {
    let all: Vec<String> = ids
        .iter()
        .map(|&id| format!("{id} `{}`", tokenizer.token(id).unwrap_or_default()))
        .collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_described_and_compared_with_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        for (path, text) in [(&a, "ab ab ab "), (&b, "cd cd cd ")] {
            std::fs::create_dir(path).unwrap();
            Tokenizer::train_bpe([text.repeat(9)].into_iter(), 258).unwrap().save(path).unwrap();
        }
        std::fs::write(a.join("config.json"), r#"{"model_type":"gpt2","vocab_size":258}"#).unwrap();
        std::fs::write(b.join("config.json"), r#"{"vocab_size":200}"#).unwrap();
        std::fs::write(b.join("chat_template.jinja"), "{{ messages[0].content }}").unwrap();
        let report = folder_reports(&[&a, &b, &a], |folder, tokenizer| {
            assert!(tokenizer.is_some());
            vec![("weights", format!("of {}", folder.ends_with("b")))]
        })
        .unwrap();
        for expected in [
            "  family         gpt2\n  vocabulary     258 tokens, largest id 257\n  embedding      \
             258 rows\n  bos            0 `<|endoftext|>`\n",
            "  pad            none\n  before a text  nothing\n  after a text   nothing\n  chat \
             template  none\n",
            "  embedding      200 rows, too few for id 257\n",
            "  chat template  yes\n  weights        of true\n",
            "b\n  family         unknown, no `model_type` in config.json\n",
            "not the same: 257 of 258 and 258 tokens have the same id, 257 are in both; the first \
             difference is id 257: ",
            "a: the same, id by id",
        ] {
            assert!(report.contains(expected), "{report}\nlacks {expected}");
        }
    }
}
