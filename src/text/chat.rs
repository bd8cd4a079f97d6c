//! Chat templates: the jinja text of a tokenizer folder, compiled once and rendered as transformers
//! renders it.
//!
//! What templates take from Python rather than from jinja is in [`super::jinja_python`], filters
//! and operators that differ in [`super::jinja_filters`], and syntax in [`super::jinja_source`].
//! Where a folder keeps its template is known to `recipe`.

use std::fmt;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};

use super::jinja_filters;
use super::jinja_methods;
use super::jinja_python::{self, Clock};
use super::jinja_source::prepared;
use crate::error::{Error, Result};
use crate::prompt::Message;

const NAME: &str = "chat";

#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// Special tokens by role.
    special: Vec<(String, String)>,
    /// The file it came from, for messages.
    path: PathBuf,
}

/// What `raise_exception` was called with.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

impl ChatTemplate {
    /// `special` are the tokens that the template may name, by role (`bos_token`, …); those of no
    /// role are undefined in it.
    pub fn new(path: &Path, source: &str, special: &[(String, String)]) -> Result<Self> {
        let wrong = |error: minijinja::Error| {
            let why = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            Error::data(
                path,
                None,
                format!("the chat template cannot be read: {why}{}", line(&error)),
            )
        };
        let mut environment = Environment::new();
        let syntax =
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(wrong)?;
        environment.set_syntax(syntax);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(jinja_methods::method);
        environment.add_filter("tojson", jinja_python::tojson);
        jinja_filters::add(&mut environment);
        environment.add_filter("trim", jinja_python::trim);
        environment.add_test("sequence", jinja_python::is_sequence);
        environment.add_test("iterable", jinja_python::is_iterable);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<Value, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, message.clone())
                    .with_source(Raised(message)))
            },
        );
        // One moment for all prompts: a run that goes past midnight must not change what its models
        // read.
        let clock = Clock::now();
        environment.add_function("strftime_now", move |format: String| clock.format(&format));
        environment.add_template_owned(NAME, prepared(source)).map_err(wrong)?;
        Ok(Self { environment, special: special.to_vec(), path: path.to_owned() })
    }

    /// The text of a chat; `add_generation_prompt` ends it where the assistant's next turn begins.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        if messages.is_empty() {
            return Err(self.error("a chat needs one message or more".to_owned()));
        }
        let turn = |message: &Message| {
            Value::from_pairs([
                ("role", message.role.as_str()),
                ("content", message.content.as_str()),
            ])
        };
        let mut context: Vec<(&str, Value)> = vec![
            ("messages", messages.iter().map(turn).collect()),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ];
        context.extend(
            self.special.iter().map(|(role, token)| (role.as_str(), Value::from(token.as_str()))),
        );
        let rendered = self
            .environment
            .get_template(NAME)
            .and_then(|template| template.render(Value::from_pairs(context)));
        rendered.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &minijinja::Error) -> Error {
        let mut cause = Some(error as &dyn std::error::Error);
        while let Some(inner) = cause {
            if let Some(raised) = inner.downcast_ref::<Raised>() {
                return self.error(format!("the chat template refuses this chat: {raised}"));
            }
            cause = inner.source();
        }
        let why = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        self.error(format!("the chat template cannot be rendered: {why}{}", line(error)))
    }

    fn error(&self, message: String) -> Error {
        Error::data(&self.path, None, message)
    }
}

fn line(error: &minijinja::Error) -> String {
    error.line().map(|line| format!(" (line {line} of the template)")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(source: &str) -> Result<ChatTemplate> {
        ChatTemplate::new(
            Path::new("model/chat_template.jinja"),
            source,
            &[("bos_token".into(), "<s>".into())],
        )
    }

    fn chat() -> Vec<Message> {
        vec![Message::new("system", "S"), Message::new("user", " U\n")]
    }

    #[test]
    fn a_template_is_rendered_with_roles_and_special_tokens() {
        let source = "{{ bos_token }}{{ eos_token }}\n{%- for m in messages %}\n  \
                      {% if loop.first %}\n>{% endif %}\n{{ m.role }}:{{ m['content'] | trim }}\n\
                      {% endfor %}\n{% if add_generation_prompt %}assistant:{% endif %}\n";
        let template = template(source).unwrap();
        assert_eq!(template.render(&chat(), true).unwrap(), "<s>>system:S\nuser:U\nassistant:");
        assert_eq!(template.render(&chat(), false).unwrap(), "<s>>system:S\nuser:U\n");
        assert!(
            template
                .render(&[], true)
                .unwrap_err()
                .to_string()
                .ends_with("a chat needs one message or more")
        );
    }

    #[test]
    fn what_is_wrong_with_a_template_is_one_clear_error() {
        let error = template("a\n{% if %}").unwrap_err().to_string();
        assert!(
            error.starts_with("model/chat_template.jinja: the chat template cannot be read: ")
                && error.contains("line 2"),
            "{error}"
        );
        let error =
            |source: &str| template(source).unwrap().render(&chat(), true).unwrap_err().to_string();
        let raising = "{% macro no(m) %}{{ raise_exception('no ' + m.role + ' turn') }}\
                       {% endmacro %}{{ no(messages[0]) }}";
        assert_eq!(
            error(raising),
            "model/chat_template.jinja: the chat template refuses this chat: no system turn"
        );
        let error = error("a\n{{ eos_token + 'x' }}");
        assert!(
            error.contains("the chat template cannot be rendered: ") && error.contains("line 2"),
            "{error}"
        );
    }

    #[test]
    fn generation_blocks_render_as_what_they_hold() {
        let source = "a \n{%- generation %}\n b{% set x = 1 %}\n  {% endgeneration -%}\n \
                      c{% if x is defined %}leaked{% endif %}";
        assert_eq!(template(source).unwrap().render(&chat(), true).unwrap(), "a bc");
    }
}
