//! Which tokens of a folder are special, and in which role: `tokenizer_config.json`,
//! `special_tokens_map.json` and `added_tokens.json`, with the precedence of transformers'
//! `PreTrainedTokenizerFast`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::json_file::read_json;
use crate::error::Result;

/// The roles that every tokenizer may have, in the order in which transformers adds their tokens.
const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Token strings.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct SpecialTokens {
    /// By role: those of [`ROLES`], and a model's own such as `image_token`.
    pub roles: Vec<(String, String)>,
    /// Special without a role.
    pub extra: Vec<String>,
}

impl SpecialTokens {
    pub fn of(roles: &[(&str, &str)]) -> Self {
        let roles = roles.iter().map(|(role, token)| ((*role).to_owned(), (*token).to_owned()));
        Self { roles: roles.collect(), extra: Vec::new() }
    }

    pub fn get(&self, role: &str) -> Option<&str> {
        self.roles.iter().find(|(name, _)| name == role).map(|(_, token)| token.as_str())
    }

    /// The special tokens of a folder; also the tokens that its files declare and `known`, the
    /// added tokens of `tokenizer.json`, lacks or has otherwise.
    pub fn read(
        folder: &Path,
        config: &Map<String, Value>,
        known: &[&AddedToken],
    ) -> Result<(Self, Vec<AddedToken>)> {
        let mut roles: Map<String, Value> = Map::new();
        let mut extra: Vec<Value> = Vec::new();
        for fields in [config.get("extra_special_tokens"), config.get("additional_special_tokens")]
            .into_iter()
            .flatten()
        {
            match fields {
                Value::Array(tokens) if extra.is_empty() => extra.clone_from(tokens),
                Value::Object(named) => roles.extend(named.clone()),
                _ => {}
            }
        }
        roles.extend(
            config
                .iter()
                .filter(|(key, _)| key.ends_with("_token"))
                .map(|(key, value)| (key.clone(), value.clone())),
        );
        // A config that lists its added tokens is complete; the files beside it are of an older
        // layout.
        let mut declared: BTreeMap<u64, AddedToken> = BTreeMap::new();
        if let Some(Value::Object(tokens)) = config.get("added_tokens_decoder") {
            declared.extend(
                tokens
                    .iter()
                    .filter_map(|(id, token)| Some((id.parse().ok()?, added_token(token, false)?))),
            );
        } else {
            for (key, value) in
                read_json(&folder.join("special_tokens_map.json"))?.unwrap_or_default()
            {
                match value {
                    Value::Array(tokens) => extra.extend(
                        tokens
                            .into_iter()
                            .filter(|token| !extra.contains(token))
                            .collect::<Vec<_>>(),
                    ),
                    value if key.ends_with("_token") => drop(roles.insert(key, value)),
                    _ => {}
                }
            }
            let special: HashSet<&str> = roles.values().chain(&extra).filter_map(content).collect();
            for (token, id) in read_json(&folder.join("added_tokens.json"))?.unwrap_or_default() {
                let is_special = special.contains(token.as_str());
                declared.extend(id.as_u64().map(|id| (id, AddedToken::from(token, is_special))));
            }
        }
        let named = |role: &str| {
            roles.get(role).and_then(content).map(|token| (role.to_owned(), token.to_owned()))
        };
        let own = roles.keys().map(String::as_str).filter(|role| !ROLES.contains(role));
        let special = Self {
            roles: ROLES.into_iter().chain(own).filter_map(named).collect(),
            extra: extra.iter().filter_map(content).map(str::to_owned).collect(),
        };
        let added = special.missing(declared.into_values().collect(), known, |token| {
            roles
                .values()
                .chain(&extra)
                .find(|value| content(value) == Some(token))
                .and_then(|value| added_token(value, true))
        });
        Ok((special, added))
    }

    /// What must be added to a tokenizer that has `known`: the declared tokens that it lacks or has
    /// with other flags, then the tokens with a role and the extra ones.
    fn missing(
        &self,
        declared: Vec<AddedToken>,
        known: &[&AddedToken],
        as_given: impl Fn(&str) -> Option<AddedToken>,
    ) -> Vec<AddedToken> {
        let by_content: HashMap<String, AddedToken> =
            declared.iter().map(|token| (token.content.clone(), token.clone())).collect();
        let mut added: Vec<AddedToken> =
            declared.into_iter().filter(|token| !known.contains(&token)).collect();
        let mut there: HashSet<String> = known.iter().map(|token| token.content.clone()).collect();
        there.extend(added.iter().map(|token| token.content.clone()));
        for token in self.roles.iter().map(|(_, token)| token).chain(&self.extra) {
            if there.insert(token.clone()) {
                added.extend(by_content.get(token).cloned().or_else(|| as_given(token)));
            }
        }
        for token in &mut added {
            token.special |= self.roles.iter().any(|(_, named)| *named == token.content);
        }
        added
    }
}

/// A token is a string, or an object with `content`.
fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

fn added_token(value: &Value, special: bool) -> Option<AddedToken> {
    let flag = |name: &str| value[name].as_bool();
    let special = special || flag("special").unwrap_or(false);
    let mut token = AddedToken::from(content(value)?, special);
    token.single_word = flag("single_word").unwrap_or(false);
    token.lstrip = flag("lstrip").unwrap_or(false);
    token.rstrip = flag("rstrip").unwrap_or(false);
    token.normalized = flag("normalized").unwrap_or(!special);
    Some(token)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(files: &[(&str, Value)], config: Value) -> (SpecialTokens, Vec<AddedToken>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in files {
            std::fs::write(folder.path().join(name), value.to_string()).unwrap();
        }
        let known = AddedToken::from("</s>", true);
        SpecialTokens::read(folder.path(), config.as_object().unwrap(), &[&known]).unwrap()
    }

    #[test]
    fn declared_tokens_are_added_in_transformers_order() {
        let plain = |content: &str| json!({ "content": content, "special": true });
        let config = json!({
            "added_tokens_decoder": {
                "10": plain("<b>"), "2": plain("</s>"), "9": { "content": "<a>", "lstrip": true }
            },
            "eos_token": "</s>",
            "bos_token": { "__type": "AddedToken", "content": "<a>", "normalized": true },
            "pad_token": null,
            "image_token": "<image>",
            "add_bos_token": true,
            "additional_special_tokens": ["<b>", "<c>"],
        });
        let stale = json!({ "pad_token": "<stale>" });
        let (special, added) = read(&[("special_tokens_map.json", stale)], config);
        assert_eq!(
            special.roles,
            SpecialTokens::of(&[
                ("bos_token", "<a>"),
                ("eos_token", "</s>"),
                ("image_token", "<image>")
            ])
            .roles
        );
        assert_eq!(special.extra, ["<b>", "<c>"]);
        let contents: Vec<&str> = added.iter().map(|token| token.content.as_str()).collect();
        assert_eq!(contents, ["<a>", "<b>", "<image>", "<c>"]);
        assert!(added[0].lstrip && added[0].special && added[0].normalized && !added[1].normalized);
    }

    #[test]
    fn the_older_layout_lets_the_map_win() {
        let map = json!({
            "eos_token": { "content": "<end>", "rstrip": true },
            "additional_special_tokens": ["<x>"]
        });
        let files = [
            ("special_tokens_map.json", map),
            ("added_tokens.json", json!({ "<x>": 7, "<word>": 8 })),
        ];
        let (special, added) = read(&files, json!({ "eos_token": "</s>", "unk_token": "<unk>" }));
        assert_eq!(
            (special.get("eos_token"), special.get("unk_token"), special.get("bos_token")),
            (Some("<end>"), Some("<unk>"), None)
        );
        let contents: Vec<(&str, bool)> =
            added.iter().map(|token| (token.content.as_str(), token.special)).collect();
        assert_eq!(contents, [("<x>", true), ("<word>", false), ("<end>", true), ("<unk>", true)]);
        assert!(added[2].rstrip);
    }
}
