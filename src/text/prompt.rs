//! What a model reads before a response: the one function that training and search both use, so BOS
//! and template cannot differ.

use super::Tokenizer;
use super::tokenizer::behind;
use crate::error::{Error, Result};
use crate::prompt::{Message, PromptText};
use crate::recipe::{Chat, Model};

#[derive(Debug, Clone, PartialEq)]
pub struct PromptTemplate {
    template: String,
    bos: Option<bool>,
    /// Whether the filled template is the user's turn of the tokenizer's chat template, and what
    /// the system says before it.
    chat: Option<Chat>,
}

impl PromptTemplate {
    /// `template` holds `{prompt}`. `bos` says whether the BOS token stands first; left out, what
    /// the tokenizer's post-processor puts before a text does, as in transformers.
    pub fn new(template: &str, bos: Option<bool>) -> Self {
        Self { template: template.to_owned(), bos, chat: None }
    }

    /// The filled template as the user's turn of the tokenizer's own chat template, which also
    /// decides on BOS.
    pub fn chat(template: &str, system: Option<&str>) -> Self {
        Self {
            template: template.to_owned(),
            bos: None,
            chat: Some(Chat { system: system.map(str::to_owned) }),
        }
    }

    /// The same, with or without BOS.
    pub fn with_bos(self, bos: Option<bool>) -> Self {
        Self { bos, ..self }
    }

    /// The template that a recipe gives a model.
    pub fn of(model: &Model) -> Self {
        Self { template: model.prompt.clone(), bos: model.bos, chat: model.chat.clone() }
    }

    /// The text that is tokenized; a BOS token that the tokenizer adds is not in it. Of a chat the
    /// last turn of the user fills the template, and a system's turn of its own stands instead of
    /// what the system is to say. To a model without any chat template, a single turn is a text.
    ///
    /// # Errors
    /// Where the prompt is another chat and the model reads texts, or a chat ends with the
    /// assistant's turn, or the tokenizer has no chat template, or that refuses the turns.
    pub fn render(&self, tokenizer: &Tokenizer, prompt: &PromptText) -> Result<String> {
        let fill = |text: &str| self.template.replace("{prompt}", text);
        match (prompt, &self.chat) {
            (PromptText::Plain(text), None) => Ok(fill(text)),
            (PromptText::Plain(text), Some(chat)) => {
                render_chat(tokenizer, chat, vec![Message::new("user", fill(text))])
            }
            (PromptText::Chat(turns), Some(chat)) => {
                let mut turns = turns.clone();
                match turns.last_mut() {
                    Some(turn) if turn.role == "user" => turn.content = fill(&turn.content),
                    Some(turn) if turn.role != "assistant" => {}
                    last => return Err(no_question(last.as_deref())),
                }
                render_chat(tokenizer, chat, turns)
            }
            (PromptText::Chat(_), None) => match prompt.single_turn() {
                Some(text) if tokenizer.chat_template()?.is_none() => Ok(fill(text)),
                turn => Err(no_chat(tokenizer, turn.is_some())),
            },
        }
    }

    /// Whether nothing is said before the response, which then begins the text.
    pub fn is_empty(&self, tokenizer: &Tokenizer, prompt: &PromptText) -> Result<bool> {
        Ok(self.render(tokenizer, prompt)?.is_empty())
    }

    /// What stands before every text. What a post-processor puts behind one, an EOS, never stands
    /// between prompt and response.
    ///
    /// # Errors
    /// Where BOS is asked of a tokenizer that has none.
    pub fn before(&self, tokenizer: &Tokenizer) -> Result<Vec<i64>> {
        match (self.bos, &self.chat) {
            (None, None) => tokenizer.added().map(|[before, _]| before),
            (None, Some(_)) | (Some(false), _) => Ok(Vec::new()),
            (Some(true), _) => tokenizer.bos_id().map(|bos| vec![bos]).ok_or_else(|| {
                let what = "`bos = true` asks for a BOS token, but neither the tokenizer nor \
                            generation_config.json nor config.json names one";
                Error::data(tokenizer.folder(), None, format!("{what}\n\nhint: leave `bos` out"))
            }),
        }
    }

    /// The ids of a text that is no prompt, such as a document: the text as it is, and before it
    /// what stands before every prompt.
    pub fn encode_text(&self, tokenizer: &Tokenizer, text: &str) -> Result<Vec<i64>> {
        // Templates, prompts and texts that bring the token themselves must not have it twice.
        Ok(behind(self.before(tokenizer)?, tokenizer.encode(text)?))
    }

    /// The ids of the rendered prompt; at least one. An empty prompt is BOS, as transformers'
    /// `generate` has it.
    pub fn encode(&self, tokenizer: &Tokenizer, prompt: &PromptText) -> Result<Vec<i64>> {
        let ids = self.encode_text(tokenizer, &self.render(tokenizer, prompt)?)?;
        if !ids.is_empty() {
            return Ok(ids);
        }
        let bos = tokenizer.bos_id().filter(|_| self.bos != Some(false));
        bos.map(|bos| vec![bos]).ok_or_else(|| {
            let hint = if self.bos == Some(false) {
                "leave `bos = false` out, or give a prompt"
            } else {
                "give a prompt"
            };
            Error::failed(format!(
                "an empty prompt without a BOS token gives a model nothing to read\n\nhint: {hint}"
            ))
        })
    }
}

/// The turns by the tokenizer's chat template, up to where the assistant's next turn begins.
fn render_chat(tokenizer: &Tokenizer, chat: &Chat, turns: Vec<Message>) -> Result<String> {
    let Some(template) = tokenizer.chat_template()? else {
        let hint = "hint: put a `chat_template.jinja` into its folder, or prompt it without chat, \
                    and write what it should read around `{prompt}`";
        return Err(Error::data(
            tokenizer.folder(),
            None,
            format!("a chat was asked of it, but it has no chat template\n\n{hint}"),
        ));
    };
    let has_own = turns.first().is_some_and(|turn| turn.role == "system");
    let system = chat.system.iter().filter(|_| !has_own);
    let system = system.map(|system| Message::new("system", system.as_str()));
    template.render(&system.chain(turns).collect::<Vec<_>>(), true)
}

/// A chat for a model that is given texts.
fn no_chat(tokenizer: &Tokenizer, has_template: bool) -> Error {
    let (what, hint) = match has_template {
        true => ("the prompt is a chat, but this model is given texts", ""),
        false => (
            "the prompt is a chat of several turns, but this model is given texts",
            "put a `chat_template.jinja` into its folder, where it has none; ",
        ),
    };
    let hint = format!(
        "{hint}`chat = {{}}` of the recipe's model, or `--base-chat` and `--guide-chat`, have it \
         read chats by its chat template"
    );
    Error::data(tokenizer.folder(), None, format!("{what}\n\nhint: {hint}"))
}

/// A chat that nobody waits for an answer to.
fn no_question(last: Option<&Message>) -> Error {
    let found = match last {
        Some(turn) => format!("ends with a turn of `{}`", turn.role),
        None => "has no turn".to_owned(),
    };
    Error::failed(format!("the chat {found}; expected one that a response answers"))
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
        let template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] \
                        {{ m.content.strip() }} \
                        {% endfor %}{% if add_generation_prompt %}>{% endif %}";
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
        let with = PromptTemplate::new("Review: {prompt}", Some(true))
            .encode(&tokenizer, &"good".into())
            .unwrap();
        let without = PromptTemplate::new("Review: {prompt}", Some(false))
            .encode(&tokenizer, &"good".into())
            .unwrap();
        assert_eq!(with[0], 0);
        assert_eq!(with[1..], without);
        assert_eq!(tokenizer.decode(&without).unwrap(), "Review: good");
        assert_eq!(
            PromptTemplate::new("{prompt}", Some(true)).encode(&tokenizer, &"".into()).unwrap(),
            [0]
        );
        assert!(
            PromptTemplate::new("{prompt}", Some(false))
                .encode(&tokenizer, &"".into())
                .unwrap_err()
                .to_string()
                .contains("hint")
        );
    }

    #[test]
    fn a_prompt_that_holds_the_mark_is_not_filled_again() {
        let rendered = PromptTemplate::new("<{prompt}>", Some(true))
            .render(&tokenizer(), &"a {prompt} b {prompt}".into())
            .unwrap();
        assert_eq!(rendered, "<a {prompt} b {prompt}>");
    }

    #[test]
    fn bos_never_stands_twice() {
        let tokenizer = chatting();
        let once = |template: PromptTemplate, prompt: &str| {
            let ids = template.encode(&tokenizer, &prompt.into()).unwrap();
            assert_eq!((ids[0], ids.iter().filter(|id| **id == 0).count()), (0, 1), "{ids:?}");
        };
        once(PromptTemplate::new("{prompt}", Some(true)), "a");
        once(PromptTemplate::new("<|endoftext|>{prompt}", Some(true)), "a");
        once(PromptTemplate::new("{prompt}", Some(true)), "<|endoftext|>a");
        once(PromptTemplate::chat("{prompt}", None), "a");
        once(PromptTemplate::chat("{prompt}", None).with_bos(Some(true)), "a");
    }

    #[test]
    fn the_chat_template_turns_the_filled_prompt_into_a_user_turn() {
        let tokenizer = chatting();
        let rendered = |system: Option<&str>| {
            PromptTemplate::chat("Say: {prompt} ", system).render(&tokenizer, &"hi".into()).unwrap()
        };
        assert_eq!(rendered(None), "<|endoftext|>[user] Say: hi >");
        assert_eq!(rendered(Some("")), "<|endoftext|>[system]  [user] Say: hi >");
        assert_eq!(rendered(Some("be kind")), "<|endoftext|>[system] be kind [user] Say: hi >");
        let error = PromptTemplate::chat("{prompt}", None)
            .encode(&self::tokenizer(), &"a".into())
            .unwrap_err()
            .to_string();
        assert!(error.contains("it has no chat template\n\nhint:"), "{error}");
    }
}
