//! What a model reads before a response: the one function that training and search both use, so BOS
//! and template cannot differ.

mod served;

use super::Tokenizer;
use super::tokenizer::behind;
use crate::error::{Error, Result};
use crate::prompt::{Message, PromptText};
use crate::recipe::{ANSWER, Chat, Exemplar, Exemplars, HOLE, Model};

#[derive(Debug, Clone, PartialEq)]
pub struct PromptTemplate {
    template: String,
    bos: Option<bool>,
    /// Whether the filled template is the user's turn of the tokenizer's chat template, and what
    /// the system says before it.
    chat: Option<Chat>,
    exemplars: Shown,
}

/// Answered prompts before the prompt.
#[derive(Debug, Clone, Default, PartialEq)]
struct Shown {
    /// Before a text.
    text: String,
    /// Before the last turn of a chat, or before all its turns but the system's.
    turns: Vec<Message>,
}

impl PromptTemplate {
    /// `template` holds `{prompt}`. `bos` says whether the BOS token stands first; left out, what
    /// the tokenizer's post-processor puts before a text does, as in transformers.
    pub fn new(template: &str, bos: Option<bool>) -> Self {
        Self { template: template.to_owned(), bos, chat: None, exemplars: Shown::default() }
    }

    /// The filled template as the user's turn of the tokenizer's own chat template, which also
    /// decides on BOS.
    pub fn chat(template: &str, system: Option<&str>) -> Self {
        Self {
            template: template.to_owned(),
            bos: None,
            chat: Some(Chat { system: system.map(str::to_owned) }),
            exemplars: Shown::default(),
        }
    }

    /// The same, with or without BOS.
    pub fn with_bos(self, bos: Option<bool>) -> Self {
        Self { bos, ..self }
    }

    /// The template that a recipe gives a model.
    ///
    /// # Errors
    /// Where it lies in a file that nobody has read into the recipe.
    pub fn of(model: &Model) -> Result<Self> {
        let unread = model.exemplars.as_ref().and_then(|exemplars| exemplars.file.as_deref());
        let template = model.prompt.text().filter(|_| unread.is_none()).ok_or_else(|| {
            let file = unread.or(model.prompt.file()).unwrap_or_default();
            Error::failed(format!("`{file}`, which prompts are made of, has not been read"))
        })?;
        let exemplars = model.exemplars.as_ref().map(|given| Shown::of(given, template));
        Ok(Self {
            template: template.to_owned(),
            bos: model.bos,
            chat: model.chat.clone(),
            exemplars: exemplars.unwrap_or_default(),
        })
    }

    /// The text that is tokenized; a BOS token that the tokenizer adds is not in it. Of a chat the
    /// last turn of the user fills the template, and a system's turn of its own stands instead of
    /// what the system is to say. To a model without any chat template, a single turn is a text.
    ///
    /// # Errors
    /// Where the prompt is another chat and the model reads texts, or a chat ends with the
    /// assistant's turn, or the tokenizer has no chat template, or that refuses the turns.
    pub fn render(&self, tokenizer: &Tokenizer, prompt: &PromptText) -> Result<String> {
        let fill = |text: &str| self.template.replace(HOLE, text);
        let behind = |text: &str| format!("{}{}", self.exemplars.text, fill(text));
        match (prompt, &self.chat) {
            (PromptText::Plain(text), None) => Ok(behind(text)),
            (PromptText::Plain(text), Some(chat)) => {
                self.render_chat(tokenizer, chat, vec![Message::new("user", fill(text))])
            }
            (PromptText::Chat(turns), Some(chat)) => {
                self.render_chat(tokenizer, chat, self.asked(turns)?)
            }
            (PromptText::Chat(_), None) => match prompt.single_turn() {
                Some(text) if tokenizer.chat_template()?.is_none() => Ok(behind(text)),
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

    /// Whether BOS stands before the prompt, where that is said.
    pub fn bos(&self) -> Option<bool> {
        self.bos
    }

    /// The last turn of the user fills the template.
    fn asked(&self, turns: &[Message]) -> Result<Vec<Message>> {
        let mut turns = turns.to_vec();
        match turns.last_mut() {
            Some(turn) if turn.role == "user" => {
                turn.content = self.template.replace(HOLE, &turn.content);
            }
            Some(turn) if turn.role != "assistant" => {}
            last => return Err(no_question(last.as_deref())),
        }
        Ok(turns)
    }

    /// The same with what the system says, where no turn says it, and with the exemplars.
    fn with_system(&self, chat: &Chat, mut turns: Vec<Message>) -> Vec<Message> {
        let has_own = turns.first().is_some_and(|turn| turn.role == "system");
        if let Some(system) = chat.system.as_ref().filter(|_| !has_own) {
            turns.insert(0, Message::new("system", system.as_str()));
        }
        let first = usize::from(turns.first().is_some_and(|turn| turn.role == "system"));
        turns.splice(first..first, self.exemplars.turns.iter().cloned());
        turns
    }

    /// The turns by the tokenizer's chat template, up to where the assistant's next turn begins.
    fn render_chat(
        &self,
        tokenizer: &Tokenizer,
        chat: &Chat,
        turns: Vec<Message>,
    ) -> Result<String> {
        let Some(template) = tokenizer.chat_template()? else {
            let hint = "hint: put a `chat_template.jinja` into its folder, or prompt it without chat, \
                    and write what it should read around `{prompt}`";
            return Err(Error::data(
                tokenizer.folder(),
                None,
                format!("a chat was asked of it, but it has no chat template\n\n{hint}"),
            ));
        };
        template.render(&self.with_system(chat, turns), true)
    }
}

impl Shown {
    /// Those of a model whose `prompt` is `template`.
    fn of(exemplars: &Exemplars, template: &str) -> Self {
        let each = exemplars.template(template);
        let response = |row: &Exemplar| row.response.trim().to_owned();
        let text = exemplars.rows.iter().map(|row| fill(&each, &row.prompt, row.response.trim()));
        let turns = exemplars.rows.iter().flat_map(|row| {
            [("user", template.replace(HOLE, &row.prompt)), ("assistant", response(row))]
        });
        Self {
            text: text.collect(),
            turns: turns.map(|(role, said)| Message::new(role, said)).collect(),
        }
    }
}

/// The template with a prompt and a response in the places that it has for them; what these hold is
/// no place.
fn fill(template: &str, prompt: &str, response: &str) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((at, place, text)) = [(HOLE, prompt), (ANSWER, response)]
        .into_iter()
        .filter_map(|(place, text)| Some((rest.find(place)?, place, text)))
        .min()
    {
        filled.push_str(&rest[..at]);
        filled.push_str(text);
        rest = &rest[at + place.len()..];
    }
    filled + rest
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
    fn exemplars_stand_before_the_prompt_as_texts_or_as_turns() {
        let model = |table: &str| -> Model {
            let rows = "rows = [{ prompt = 'a {response}', response = ' b ' }, \
                        { prompt = 'c', response = '{prompt}' }]";
            toml::from_str(&format!("id = 'x'\n{}", table.replace("ROWS", rows))).unwrap()
        };
        let rendered = |table: &str, tokenizer: &Tokenizer, prompt: &PromptText| {
            PromptTemplate::of(&model(table)).unwrap().render(tokenizer, prompt).unwrap()
        };
        let plain = "prompt = '{prompt}:'\nexemplars = { ROWS }";
        let expected = "a {response}: b\nc: {prompt}\nq:";
        assert_eq!(rendered(plain, &tokenizer(), &"q".into()), expected);
        let own = "exemplars = { ROWS, template = '<{prompt}|{response}>' }";
        let expected = "<a {response}|b><c|{prompt}>q";
        assert_eq!(rendered(own, &tokenizer(), &"q".into()), expected);
        let chat = "prompt = 'Say {prompt}'\nchat = { system = 's' }\nexemplars = { ROWS }";
        let turns = "<|endoftext|>[system] s [user] Say a {response} [assistant] b [user] Say c \
                     [assistant] {prompt} [user] Say q >";
        assert_eq!(rendered(chat, &chatting(), &"q".into()), turns);
        let asked = [Message::new("system", "own"), Message::new("user", "q")].to_vec();
        let own_system = turns.replace("[system] s", "[system] own");
        assert_eq!(rendered(chat, &chatting(), &asked.into()), own_system);
        let unread = PromptTemplate::of(&model("prompt = { file = 'p.txt' }"));
        assert!(unread.unwrap_err().to_string().contains("`p.txt`"));
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
