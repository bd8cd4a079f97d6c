//! What a model reads before a response: the one function that training and search both use, so BOS and template cannot differ.

use super::{Message, Tokenizer};
use crate::error::{Error, Result};
use crate::recipe::{Chat, Model};

#[derive(Debug, Clone, PartialEq)]
pub struct PromptTemplate {
    template: String,
    bos: bool,
    /// Whether the filled template is the user's turn of the tokenizer's chat template, and what the system says before it.
    chat: Option<Chat>,
}

impl PromptTemplate {
    /// `template` holds `{prompt}`; `bos` puts the tokenizer's BOS token first, if it has one.
    pub fn new(template: &str, bos: bool) -> Self {
        Self { template: template.to_owned(), bos, chat: None }
    }

    /// The filled template as the user's turn of the tokenizer's own chat template, which also decides on BOS.
    pub fn chat(template: &str, system: Option<&str>) -> Self {
        Self { template: template.to_owned(), bos: false, chat: Some(Chat { system: system.map(str::to_owned) }) }
    }

    /// Of a model of a recipe.
    pub fn of(model: &Model) -> Self {
        Self { template: model.prompt.clone(), bos: model.has_bos(), chat: model.chat.clone() }
    }

    /// The text that is tokenized; a BOS token that the tokenizer adds is not in it.
    pub fn render(&self, tokenizer: &Tokenizer, prompt: &str) -> Result<String> {
        let text = self.template.replace("{prompt}", prompt);
        let Some(chat) = &self.chat else { return Ok(text) };
        let Some(template) = tokenizer.chat_template()? else {
            let hint = "hint: prompt it without chat, and write what it should read around `{prompt}`";
            return Err(Error::data(tokenizer.folder(), None, format!("a chat was asked of it, but it has no chat template\n\n{hint}")));
        };
        let system = chat.system.iter().map(|system| Message::new("system", system.as_str()));
        template.render(&system.chain([Message::new("user", text)]).collect::<Vec<_>>(), true)
    }

    /// The ids of the rendered prompt; at least one.
    pub fn encode(&self, tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<i64>> {
        let text = self.render(tokenizer, prompt)?;
        let begins_with = |id: i64| tokenizer.token(id).is_some_and(|bos| text.starts_with(&bos));
        // Templates and prompts that bring the token themselves must not have it twice.
        let bos = if self.bos { tokenizer.bos_id().filter(|id| !begins_with(*id)) } else { None };
        let mut ids: Vec<i64> = bos.into_iter().collect();
        ids.extend(tokenizer.encode(&text)?);
        if ids.is_empty() {
            return Err(Error::failed(
                "an empty prompt without a BOS token gives a model nothing to read\n\nhint: set `bos = true`, or give a prompt",
            ));
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Tokenizer {
        Tokenizer::train_bpe(["a b c d e f g".repeat(5)].into_iter(), 270).unwrap()
    }

    /// The tokenizer, saved and opened with a chat template that emits BOS and trims.
    fn chatting() -> Tokenizer {
        let folder = tempfile::tempdir().unwrap();
        tokenizer().save(folder.path()).unwrap();
        let template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content.strip() }} {% endfor %}{% if add_generation_prompt %}>{% endif %}";
        std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
        // A copy keeps the template where the tokenizer goes.
        let copy = folder.path().join("copy");
        std::fs::create_dir(&copy).unwrap();
        Tokenizer::open(folder.path()).unwrap().save(&copy).unwrap();
        Tokenizer::open(&copy).unwrap()
    }

    #[test]
    fn bos_and_template_stand_before_the_prompt() {
        let tokenizer = tokenizer();
        let with = PromptTemplate::new("Review: {prompt}", true).encode(&tokenizer, "good").unwrap();
        let without = PromptTemplate::new("Review: {prompt}", false).encode(&tokenizer, "good").unwrap();
        assert_eq!(with[0], 0);
        assert_eq!(with[1..], without);
        assert_eq!(tokenizer.decode(&without).unwrap(), "Review: good");
        assert_eq!(PromptTemplate::new("{prompt}", true).encode(&tokenizer, "").unwrap(), [0]);
        assert!(PromptTemplate::new("{prompt}", false).encode(&tokenizer, "").unwrap_err().to_string().contains("hint"));
    }

    #[test]
    fn a_prompt_that_holds_the_mark_is_not_filled_again() {
        let rendered = PromptTemplate::new("<{prompt}>", true).render(&tokenizer(), "a {prompt} b {prompt}").unwrap();
        assert_eq!(rendered, "<a {prompt} b {prompt}>");
    }

    #[test]
    fn bos_never_stands_twice() {
        let tokenizer = chatting();
        let once = |template: PromptTemplate, prompt: &str| {
            let ids = template.encode(&tokenizer, prompt).unwrap();
            assert_eq!((ids[0], ids.iter().filter(|id| **id == 0).count()), (0, 1), "{ids:?}");
        };
        once(PromptTemplate::new("{prompt}", true), "a");
        once(PromptTemplate::new("<|endoftext|>{prompt}", true), "a");
        once(PromptTemplate::new("{prompt}", true), "<|endoftext|>a");
        once(PromptTemplate::chat("{prompt}", None), "a");
        once(PromptTemplate { bos: true, ..PromptTemplate::chat("{prompt}", None) }, "a");
    }

    #[test]
    fn the_chat_template_turns_the_filled_prompt_into_a_user_turn() {
        let tokenizer = chatting();
        let rendered = |system: Option<&str>| PromptTemplate::chat("Say: {prompt} ", system).render(&tokenizer, "hi").unwrap();
        assert_eq!(rendered(None), "<|endoftext|>[user] Say: hi >");
        assert_eq!(rendered(Some("")), "<|endoftext|>[system]  [user] Say: hi >");
        assert_eq!(rendered(Some("be kind")), "<|endoftext|>[system] be kind [user] Say: hi >");
        let error = PromptTemplate::chat("{prompt}", None).encode(&self::tokenizer(), "a").unwrap_err().to_string();
        assert!(error.contains("it has no chat template\n\nhint:"), "{error}");
    }
}
