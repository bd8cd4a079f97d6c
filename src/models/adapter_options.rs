//! Which options of PEFT's LoRA change what an adapter computes and are refused here, with the way
//! out, and which change nothing.

use serde_json::{Map, Value};

pub(super) const MERGE: &str = "hint: merge it in PEFT, `PeftModel.from_pretrained(base, \
                                adapter).merge_and_unload().save_pretrained(folder)`, and name \
                                that folder";
pub(super) const NO_REWARD: &str = "hint: a language model's `lm_head` gives no reward";
const NOT_MERGEABLE: &str = "hint: it cannot be merged into the weights either: train a plain LoRA";
const BASE_CHANGED: &str = "hint: merge it where it was trained (`merge_and_unload`), or save it \
                            from there with `path_initial_model_for_weight_conversion`, which \
                            makes a plain LoRA of PiSSA, OLoRA, CorDA and LoRA-GA";

/// What is said of an adapter on the output layer. Where that is the embedding too, a plain merge
/// would change both, and be another model than the adapter is.
pub(super) fn head_problem(is_tied: bool) -> String {
    let way_out = match is_tied {
        true => format!(
            "hint: in its base the output layer is the embedding too, so give it weights of its \
             own first, `base.config.tie_word_embeddings = False; base.lm_head.weight = \
             torch.nn.Parameter(base.lm_head.weight.clone())`, and then {}",
            MERGE.trim_start_matches("hint: ")
        ),
        false => MERGE.to_owned(),
    };
    format!(
        "`target_modules` takes in the output layer, `lm_head`: only layers of blocks are \
             adapted here\n\n{way_out}"
    )
}

/// Options that must be off, what they do, and the way out.
pub(super) const REFUSED: [(&str, &str, &str); 15] = [
    ("use_dora", "the directions and lengths of weights are learned apart (DoRA)", MERGE),
    ("bias", "biases were trained too", MERGE),
    ("lora_bias", "its layers have biases of their own", MERGE),
    ("modules_to_save", "it brings whole layers of its own", MERGE),
    ("trainable_token_indices", "it brings rows of the embedding", MERGE),
    ("target_parameters", "it stands on parameters, not on layers", MERGE),
    ("layer_replication", "it repeats layers of its base", MERGE),
    ("kasa_config", "it takes the smallest singular values off the base's weights (KaSA)", MERGE),
    ("use_bdlora", "its matrices are block-diagonal (BD-LoRA)", MERGE),
    ("monteclora_config", "it draws its weights (MonteCLoRA)", MERGE),
    ("velora_config", "it compresses activations (VeLoRA)", MERGE),
    (
        "alora_invocation_tokens",
        "it acts only from its invocation tokens on (aLoRA)",
        NOT_MERGEABLE,
    ),
    ("arrow_config", "it routes each token to one of several adapters (Arrow)", NOT_MERGEABLE),
    ("use_qalora", "it averages inputs in groups (QALoRA)", NOT_MERGEABLE),
    ("megatron_config", "it is of Megatron's parallel layers", NOT_MERGEABLE),
];

/// Keys that change nothing about what an adapter computes: names, versions, and settings of
/// training or of initialisations that leave the base as it is. `fan_in_fan_out` is put right by
/// PEFT from the layer itself; `qalora_group_size`, `loftq_config`, `eva_config`, `corda_config`
/// and `lora_ga_config` count only with the option that they belong to; tied embeddings are no
/// targets here.
pub(super) const WITHOUT_EFFECT: [&str; 15] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "fan_in_fan_out",
    "inference_mode",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
];

/// What an adapter is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It predicts tokens.
    Language,
    /// It gives texts a reward, by a head that it brings.
    Reward,
}

impl Purpose {
    /// As PEFT calls it.
    pub fn task_type(self) -> &'static str {
        match self {
            Self::Language => "CAUSAL_LM",
            Self::Reward => "SEQ_CLS",
        }
    }

    /// The layers that the adapter brings whole, in PEFT's config: of a classifier PEFT takes
    /// whichever of these names the model has.
    pub fn modules_to_save(self) -> Option<[&'static str; 2]> {
        match self {
            Self::Language => None,
            Self::Reward => Some(["classifier", "score"]),
        }
    }

    fn brings(self, key: &str, value: &Value) -> bool {
        let brought = self.modules_to_save().filter(|_| key == "modules_to_save");
        let is_brought = |name: &Value| {
            name.as_str().is_some_and(|name| brought.is_some_and(|brought| brought.contains(&name)))
        };
        value.as_array().is_some_and(|names| names.iter().all(is_brought))
    }
}

/// What of an `adapter_config.json` keeps the adapter from being read for `purpose`: its type, its
/// task, its initialisation, and every key of `rest` that is on and not known to change nothing.
pub(super) fn problems(
    purpose: Purpose,
    peft_type: &str,
    task: Option<&str>,
    initialisation: &Value,
    rest: &Map<String, Value>,
) -> Vec<String> {
    if peft_type != "LORA" {
        return vec![format!(
            "`peft_type` is `{peft_type}`, only `LORA` is supported\n\n{MERGE}, if its kind can be \
             merged"
        )];
    }
    let mut problems = Vec::new();
    if let Some(task) = task.filter(|task| *task != purpose.task_type()) {
        let (of, known, way_out) = match purpose {
            Purpose::Language => ("language models", purpose.task_type(), MERGE),
            Purpose::Reward => ("reward models", purpose.task_type(), NO_REWARD),
        };
        problems.push(format!(
            "`task_type` is `{task}`, only adapters of {of} (`{known}`) are supported\n\n{way_out}"
        ));
    }
    problems.extend(initialisation_problem(initialisation));
    for (key, value) in rest {
        let refused = REFUSED.iter().find(|(name, ..)| name == key);
        // The table of a variant is its switch, also where it is empty.
        let is_off = is_off(value) && !(refused.is_some() && value.is_object());
        if is_off
            || WITHOUT_EFFECT.contains(&key.as_str())
            || (key == "bias" && value == "none")
            || purpose.brings(key, value)
        {
            continue;
        }
        problems.push(match refused {
            Some((_, what, way_out)) => {
                format!("`{key}` = {} is not supported: {what}\n\n{way_out}", shown(value))
            }
            None => format!(
                "`{key}` = {} is no option that this version knows, and may change the \
                 answer\n\n{MERGE}",
                shown(value)
            ),
        });
    }
    problems
}

/// The initialisations that take A and B out of the base's weights, so that those saved are not the
/// changes of that base.
fn initialisation_problem(value: &Value) -> Option<String> {
    let leaves_the_base = match value {
        Value::Null | Value::Bool(_) => true,
        // EVA and MiCA look at the base's activations and weights, and leave them.
        Value::String(name) => {
            matches!(name.to_lowercase().as_str(), "gaussian" | "eva" | "orthogonal" | "mica")
        }
        _ => false,
    };
    let changes = value.as_str().is_some_and(|name| {
        let name = name.to_lowercase();
        ["pissa", "olora", "corda", "loftq", "lora_ga"].iter().any(|known| name.starts_with(known))
    });
    let what = if changes {
        "it changed the weights of its base"
    } else {
        "no initialisation that this version knows"
    };
    (!leaves_the_base).then(|| {
        format!("`init_lora_weights` = {} is not supported: {what}\n\n{BASE_CHANGED}", shown(value))
    })
}

pub(super) fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(table) => table.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// The value as JSON, cut where it is long.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
