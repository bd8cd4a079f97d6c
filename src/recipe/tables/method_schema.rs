//! The schema of `[[steer.method]]`: an alternative for each kind, made of the searches' own
//! settings and of the kinds that name what is sampled once.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::chunk_len::ChunkLens;
use super::method_spelling::{MethodTable, SAMPLED, takes_tilt};
use crate::search::{Kind, Search};

impl JsonSchema for MethodTable {
    fn schema_name() -> Cow<'static, str> {
        "MethodTable".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let searches = Search::KINDS.iter().map(|kind| of_search(kind));
        let weights = json!({
            "type": "array",
            "items": { "type": "number" },
            "description": "The weights 1/β of the guides, a method for each.",
        });
        let mut lengths = ChunkLens::json_schema(generator).to_value();
        lengths["description"] =
            json!("The chunk lengths of the trainings that are sampled, among `ppo.chunk_len`.");
        lengths["default"] = json!([5]);
        let sampled = SAMPLED.iter().map(|sampled| {
            let keys = sampled.keys.iter().map(|key| {
                let field = if *key == "weights" { &weights } else { &lengths };
                ((*key).to_owned(), field.clone())
            });
            alternative(sampled.kind, sampled.words, keys.collect(), &["weights"])
        });
        let all: Vec<Value> = searches.chain(sampled).collect();
        Schema::try_from(json!({
            "description": "One method, or several that differ in what proposes.",
            "oneOf": all,
        }))
        .expect("a schema is an object")
    }
}

fn of_search(kind: &Kind) -> Value {
    let schema = (kind.schema)().to_value();
    let mut keys = schema["properties"].as_object().cloned().unwrap_or_default();
    if takes_tilt(kind) {
        let tilt = "Samples from log π_base + tilt · (log π* − log π_ref), token by token: the \
                    guides propose and compare. Needs guides with the base's vocabulary.";
        keys.insert("tilt".to_owned(), json!({ "type": "number", "description": tilt }));
    }
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let required: Vec<&str> = required.iter().filter_map(Value::as_str).collect();
    alternative(kind.name, schema["description"].as_str().unwrap_or_default(), keys, &required)
}

/// A table of lists, or a list of tables, over some of `keys`; `None` where there are none.
fn sweep(keys: &Map<String, Value>) -> Option<Value> {
    let single = |field: &Value| match field.get("items") {
        Some(items) if field["type"] == "array" => items.clone(),
        _ => field.clone(),
    };
    let (mut lists, mut row) = (Map::new(), Map::new());
    for (key, field) in keys {
        let mut one = single(field);
        let said = field["description"].clone();
        if let Some(one) = one.as_object_mut() {
            one.retain(|word, _| word != "default" && !word.starts_with("x-"));
            one.insert("description".to_owned(), said.clone());
        }
        let list = json!({ "type": "array", "items": one.clone(), "description": said });
        lists.insert(key.clone(), list);
        row.insert(key.clone(), one);
    }
    let (first, field) = keys.iter().next()?;
    let value = field.get("x-usual").cloned().unwrap_or_else(|| json!(2));
    let mut example = Map::new();
    example.insert(first.clone(), json!([1, value]));
    Some(json!({
        "description": "Several methods that differ in these keys, which stand here alone: all \
                        combinations of a table of lists, the last key changing fastest, or the \
                        rows of a list of tables. The values follow the name: `cbs-4-1`.",
        "type": ["object", "array", "null"],
        "properties": lists,
        "additionalProperties": false,
        "items": {
            "type": "object",
            "properties": row,
            "additionalProperties": false,
            "description": "One method.",
        },
        "examples": [example],
    }))
}

/// The table of one kind; of `required` those keys count that it has.
fn alternative(kind: &str, words: &str, keys: Map<String, Value>, required: &[&str]) -> Value {
    let own = required.iter().copied().filter(|key| keys.contains_key(*key));
    // What is swept stands in the sweep.
    let required = json!([{ "required": own.collect::<Vec<_>>() }, { "required": ["sweep"] }]);
    let name = "The name of its folder below `steer/<base>/`; by default the kind.";
    let bases = "The bases that it steers, among `steer.bases`; all of them by default.";
    let mut properties = Map::new();
    properties.insert("kind".to_owned(), json!({ "type": "string", "const": kind }));
    properties
        .insert("name".to_owned(), json!({ "type": ["string", "null"], "description": name }));
    let bases = json!({
        "type": ["array", "null"],
        "items": { "type": "string" },
        "description": bases,
        "examples": [["base"]],
    });
    properties.insert("bases".to_owned(), bases);
    let sweep = sweep(&keys);
    properties.extend(keys);
    properties.extend(sweep.map(|sweep| ("sweep".to_owned(), sweep)));
    json!({
        "type": "object",
        "description": words,
        "properties": properties,
        "required": ["kind"],
        "anyOf": required,
        "additionalProperties": false,
    })
}
