//! The flags of `w2s steer` for a base that others serve, whose address is `--base`.

use std::path::Path;
use std::rc::Rc;

use clap::{Args, ValueEnum};

use crate::cli::hub;
use crate::cli::settings::{Settings, key_help};
use crate::engine::SteerSettings;
use crate::error::{Error, Result};
use crate::policy::remote::{Asking, RemoteBase, Server};
use crate::recipe::{Recipe, tokenizer_folder};
use crate::text::{PromptTemplate, Tokenizer};

#[derive(Debug, Args)]
pub(super) struct ServedFlags {
    /// With a served --base: what the server calls the model [default: the only one it serves]
    #[arg(long, value_name = "NAME")]
    base_model: Option<String>,
    #[arg(long, value_enum, value_name = "DIALECT", help = help("dialect"))]
    base_dialect: Option<DialectFlag>,
    /// With a served --base: the environment variable that holds the key
    #[arg(long, value_name = "VARIABLE")]
    base_key: Option<String>,
    /// With a served --base: the model's tokenizer, a folder or a hub id, with which prompts go as
    /// token ids
    #[arg(long, value_name = "MODEL")]
    base_tokenizer: Option<String>,
    /// With a served --base: sample without settings that the server cannot take, instead of
    /// refusing
    #[arg(long)]
    drop_unsupported: bool,
    /// With a served --base: requests under way at once, at most [default: 32]
    #[arg(long, value_name = "N")]
    at_once: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DialectFlag {
    Auto,
    Openai,
    Vllm,
    Sglang,
    #[value(name = "llama.cpp")]
    LlamaCpp,
    Tgi,
    Ollama,
    Transformers,
    Chat,
}

fn help(key: &str) -> String {
    format!("With a served --base: {}", key_help(&format!("models.x.api.{key}")))
}

impl ServedFlags {
    /// As a recipe says it.
    pub fn put(&self, base: &str, settings: &mut Settings) {
        settings.flag("--base", "models.base.api.url", Some(base));
        settings.flag("--base-model", "models.base.api.model", self.base_model.as_deref());
        let dialect = self.base_dialect.and_then(|dialect| dialect.to_possible_value());
        let dialect = dialect.map(|value| value.get_name().to_owned());
        settings.flag("--base-dialect", "models.base.api.dialect", dialect);
        settings.flag("--base-key", "models.base.api.key", self.base_key.as_deref());
        settings.flag("--at-once", "models.base.api.limits.at_once", self.at_once);
        let tokenizer = self.base_tokenizer.as_deref();
        settings.flag("--base-tokenizer", "models.base.api.tokenizer", tokenizer);
        let drop = self.drop_unsupported.then_some("drop");
        settings.flag("--drop-unsupported", "models.base.api.unsupported", drop);
        settings.word("models.base.api", "--base");
    }

    /// Those that are given where `--base` is no address.
    pub fn idle(&self) -> Vec<&'static str> {
        let given = [
            ("--base-model", self.base_model.is_some()),
            ("--base-dialect", self.base_dialect.is_some()),
            ("--base-key", self.base_key.is_some()),
            ("--base-tokenizer", self.base_tokenizer.is_some()),
            ("--drop-unsupported", self.drop_unsupported),
            ("--at-once", self.at_once.is_some()),
        ];
        given.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect()
    }

    /// Whether nobody makes a text of a chat.
    pub fn needs_template(&self) -> bool {
        let server_does = matches!(self.base_dialect, Some(DialectFlag::Chat));
        self.base_tokenizer.is_none() && !server_does
    }

    /// The base of a recipe that the flags gave.
    pub fn open(
        &self,
        recipe: &Recipe,
        template: PromptTemplate,
        settings: &SteerSettings,
    ) -> Result<RemoteBase> {
        let api = recipe.api("base").ok_or_else(|| Error::failed("the base is not served"))?;
        let tokenizer = self.base_tokenizer.as_deref().map(hub::tokenizer).transpose()?;
        let tokenizer =
            tokenizer.map(|folder| Tokenizer::open(&tokenizer_folder(Path::new(&folder))));
        let asking = Asking {
            template,
            tokenizer: tokenizer.transpose()?.map(Rc::new),
            sampling: settings.sampling,
            stop: settings.stop.clone(),
            max_new_tokens: settings.max_new_tokens,
            unsupported: api.unsupported,
        };
        let base = RemoteBase::new(Server::open("--base", api)?, asking, None)?;
        base.tell_dropped();
        Ok(base)
    }
}
