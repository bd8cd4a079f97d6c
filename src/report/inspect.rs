//! A log of Inspect (inspect.aisi.org.uk) of one base and method: an epoch for each seed, a sample
//! for each response, with what judges say as scores. `inspect view` and `inspect log` open it.
//! What a log's fields mean stands in its schema, `inspect_ai.log.EvalLog` of version 0.3.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::iso_time::iso_time;
use super::statistics::{mean, standard_error};
use crate::artifacts::fingerprint;
use crate::prompt::PromptText;

/// The version of the log's format.
const FORMAT: u32 = 2;

/// The responses of one base and method.
#[derive(Debug, Clone, PartialEq)]
pub struct InspectLog {
    /// The recipe's name.
    pub run: String,
    pub base: String,
    pub method: String,
    /// Where the prompts come from.
    pub dataset: String,
    /// Prompts that the recipe asks for.
    pub prompts: usize,
    /// Judges that the recipe asks of each response.
    pub judges: Vec<String>,
    /// One epoch each.
    pub seeds: Vec<u64>,
    /// When the last response was written.
    pub written: SystemTime,
    /// What else is to be known: settings, versions.
    pub metadata: Value,
    pub samples: Vec<InspectSample>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct InspectSample {
    pub id: String,
    pub seed: u64,
    pub prompt: PromptText,
    pub response: String,
    /// Whether the response ended before it had all tokens that it may have.
    pub is_complete: bool,
    /// Tokens of the response.
    pub tokens: usize,
    pub seconds: f64,
    /// What judges say, by their names.
    pub scores: BTreeMap<String, f64>,
    /// What else the journal says.
    pub metadata: Value,
}

impl InspectLog {
    /// What the log's file is called: `inspect` lists files by the time in front.
    pub fn file_name(&self) -> String {
        let plain = |name: &str| name.replace('_', "-");
        let time = iso_time(self.written).replace(':', "-");
        let time = time.trim_end_matches('Z');
        format!("{time}+00-00_{}_{}.json", plain(&self.task()), self.id("task"))
    }

    /// The log as JSON, samples last: readers of the head alone stop before them.
    pub fn value(&self) -> Value {
        let time = iso_time(self.written);
        let epochs = self.seeds.len();
        let all = self.prompts * epochs;
        let ids: Vec<&str> = self.first_epoch().map(|sample| sample.id.as_str()).collect();
        let is_judged = |sample: &InspectSample| {
            self.judges.iter().all(|judge| sample.scores.contains_key(judge))
        };
        let is_whole = self.samples.len() == all && self.samples.iter().all(is_judged);
        let status = if is_whole { "success" } else { "cancelled" };
        let scorers: Vec<Value> = self
            .scorers()
            .iter()
            .map(|name| json!({ "name": name, "metrics": [{ "name": "mean" }] }))
            .collect();
        json!({
            "version": FORMAT,
            "status": status,
            "eval": {
                "eval_id": self.id("eval"),
                "run_id": self.id("run"),
                "created": time,
                "task": self.task(),
                "task_id": self.id("task"),
                "task_version": 0,
                "task_attribs": {},
                "task_args": {},
                "dataset": {
                    "name": self.dataset,
                    "location": self.dataset,
                    "samples": self.prompts,
                    "sample_ids": ids,
                    "shuffled": false,
                },
                "model": self.model(),
                "model_args": {},
                "config": { "epochs": epochs, "epochs_reducer": ["mean"] },
                "packages": { "w2s": env!("CARGO_PKG_VERSION") },
                "metadata": self.metadata,
                "scorers": scorers,
            },
            "plan": { "name": "plan", "steps": [], "config": {} },
            "results": {
                "total_samples": all,
                "completed_samples": self.samples.len(),
                "scores": self.scorers().iter().map(|name| self.score(name)).collect::<Vec<_>>(),
            },
            "stats": { "started_at": time, "completed_at": time, "model_usage": {} },
            "samples": self.samples.iter().map(|sample| self.sample(sample)).collect::<Vec<_>>(),
        })
    }

    fn task(&self) -> String {
        format!("{}/{}/{}", self.run, self.base, self.method).replace('/', "-")
    }

    /// What Inspect takes for the model: what answered.
    fn model(&self) -> String {
        format!("w2s/{}/{}", self.base, self.method)
    }

    /// A short name that is the same for the same responses.
    fn id(&self, of: &str) -> String {
        let parts = json!([of, self.run, self.base, self.method, self.seeds]);
        fingerprint(&[parts])[..22].to_owned()
    }

    fn first_epoch(&self) -> impl Iterator<Item = &InspectSample> {
        let first = self.seeds.first().copied();
        self.samples.iter().filter(move |sample| Some(sample.seed) == first)
    }

    /// The judges that have said something.
    fn scorers(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .samples
            .iter()
            .flat_map(|sample| sample.scores.keys().map(String::as_str))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Mean of a judge's rewards and its standard error, epochs averaged first.
    fn score(&self, judge: &str) -> Value {
        let mut by_prompt: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for sample in &self.samples {
            if let Some(score) = sample.scores.get(judge) {
                by_prompt.entry(&sample.id).or_default().push(*score);
            }
        }
        let scored: usize = by_prompt.values().map(Vec::len).sum();
        let units: Vec<f64> = by_prompt.values().map(|scores| mean(scores)).collect();
        // One prompt alone has no standard error.
        let metric = |name: &str, value: f64| {
            let value = if value.is_finite() { value } else { 0.0 };
            json!({ "name": name, "value": value })
        };
        json!({
            "name": judge,
            "scorer": judge,
            "reducer": "mean",
            "scored_samples": scored,
            "unscored_samples": self.samples.len() - scored,
            "params": {},
            "metrics": {
                "mean": metric("mean", mean(&units)),
                "stderr": metric("stderr", standard_error(&units)),
            },
        })
    }

    fn sample(&self, sample: &InspectSample) -> Value {
        let epoch = self.seeds.iter().position(|seed| *seed == sample.seed).unwrap_or(0) + 1;
        let turn = |role: &str, content: &str| json!({ "role": role, "content": content });
        let asked: Vec<Value> = match &sample.prompt {
            PromptText::Plain(text) => vec![turn("user", text)],
            PromptText::Chat(turns) => {
                turns.iter().map(|message| turn(&message.role, &message.content)).collect()
            }
        };
        let answer = json!({
            "role": "assistant",
            "content": sample.response,
            "source": "generate",
            "model": self.model(),
        });
        let scores: Map<String, Value> = sample
            .scores
            .iter()
            .map(|(name, score)| {
                (name.clone(), json!({ "value": score, "answer": sample.response }))
            })
            .collect();
        let usage = json!({
            "input_tokens": 0,
            "output_tokens": sample.tokens,
            "total_tokens": sample.tokens,
        });
        let output = json!({
            "model": self.model(),
            "choices": [{
                "message": answer,
                "stop_reason": if sample.is_complete { "stop" } else { "max_tokens" },
            }],
            "completion": sample.response,
            "usage": usage,
            "time": sample.seconds,
        });
        let mut metadata = sample.metadata.clone();
        metadata["seed"] = json!(sample.seed);
        json!({
            "id": sample.id,
            "epoch": epoch,
            "input": match &sample.prompt {
                PromptText::Plain(text) => json!(text),
                PromptText::Chat(_) => json!(asked),
            },
            "target": "",
            "messages": asked.iter().chain([&answer]).collect::<Vec<_>>(),
            "events": self.events(&asked, &output, &scores),
            "output": output,
            "scores": scores,
            "metadata": metadata,
            "store": {},
            "model_usage": { (self.model()): usage },
            "total_time": sample.seconds,
            "working_time": sample.seconds,
            "attachments": {},
        })
    }

    /// What the transcript of a sample shows: that it was asked, and what judges said.
    fn events(&self, asked: &[Value], output: &Value, scores: &Map<String, Value>) -> Vec<Value> {
        let at = |event: &str| {
            let mut known = Map::new();
            known.insert("event".to_owned(), json!(event));
            known.insert("timestamp".to_owned(), json!(iso_time(self.written)));
            known.insert("working_start".to_owned(), json!(0));
            known
        };
        let with = |mut event: Map<String, Value>, fields: Value| {
            if let Value::Object(fields) = fields {
                event.extend(fields);
            }
            Value::Object(event)
        };
        let answered = json!({
            "model": self.model(),
            "input": asked,
            "tools": [],
            "tool_choice": "none",
            "config": {},
            "output": output,
        });
        let judged = scores.iter().map(|(name, score)| {
            let fields = json!({ "score": score, "scorer": name, "intermediate": false });
            with(at("score"), fields)
        });
        [with(at("model"), answered)].into_iter().chain(judged).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn log(prompts: usize) -> InspectLog {
        let sample = |seed: u64, gold: Option<f64>| InspectSample {
            id: "test-0".into(),
            seed,
            prompt: "one".into(),
            response: " two".into(),
            is_complete: seed == 7,
            tokens: 1,
            seconds: 0.5,
            scores: gold.map(|gold| ("gold".to_owned(), gold)).into_iter().collect(),
            metadata: json!({ "score": 1.5 }),
        };
        InspectLog {
            run: "demo".into(),
            base: "m".into(),
            method: "best_of_4".into(),
            dataset: "builtin:reviews".into(),
            prompts,
            judges: Vec::new(),
            seeds: vec![7, 9],
            written: SystemTime::UNIX_EPOCH + Duration::from_secs(86_400),
            metadata: json!({ "settings": { "n": 4 } }),
            samples: vec![sample(7, Some(1.0)), sample(9, None)],
        }
    }

    #[test]
    fn seeds_are_epochs_and_judges_are_scores() {
        let value = log(1).value();
        assert_eq!(
            (&value["status"], &value["eval"]["config"]["epochs"]),
            (&json!("success"), &json!(2))
        );
        let samples = value["samples"].as_array().unwrap();
        assert_eq!((&samples[1]["epoch"], &samples[1]["metadata"]["seed"]), (&json!(2), &json!(9)));
        assert_eq!(samples[0]["output"]["choices"][0]["stop_reason"], "stop");
        assert_eq!(samples[1]["output"]["choices"][0]["stop_reason"], "max_tokens");
        assert_eq!(samples[0]["scores"]["gold"]["value"], 1.0);
        let score = &value["results"]["scores"][0];
        assert_eq!((&score["scored_samples"], &score["unscored_samples"]), (&json!(1), &json!(1)));
        assert_eq!(score["metrics"]["mean"]["value"], 1.0);
    }

    #[test]
    fn half_a_run_is_no_success_and_names_are_as_inspect_lists_them() {
        assert_eq!(log(2).value()["status"], "cancelled");
        let unjudged = InspectLog { judges: vec!["gold".into()], ..log(1) };
        assert_eq!(unjudged.value()["status"], "cancelled");
        let name = log(1).file_name();
        assert!(name.starts_with("1970-01-02T00-00-00+00-00_demo-m-best-of-4_"), "{name}");
        assert!(name.ends_with(".json"), "{name}");
    }
}
