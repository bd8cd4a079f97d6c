//! The rows of summaries as two tables: rewards, and texts with what they have cost. A row that has
//! no answers, because its method does not apply, has no numbers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::columns::{Column, OfRun, draw, interval};
use crate::monitor::number::fixed;
use crate::report::divergence::DivergenceKind;
use crate::report::model_outputs::AlpacaEval;
use crate::report::summary::{Chosen, Reward, SummaryRow};
use crate::search::Search;

pub type RunRow<'a> = OfRun<'a, &'a SummaryRow>;

type Of<'a> = Column<'a, RunRow<'a>>;

/// What judges say, how it varies, and how far the texts are from the base's.
pub fn rewards(rows: &[RunRow]) -> String {
    let judges: BTreeSet<&str> =
        rows.iter().flat_map(|of| of.it.judges.keys().map(String::as_str)).collect();
    let gold = |of: &RunRow| of.it.gold_reward.clone();
    let mut columns = names();
    columns.push(Of::words("settings", |of| {
        Some(settings(&of.it.settings)).filter(|text| !text.is_empty())
    }));
    columns.push(Of::words("best on", |of| {
        let words = of.it.chosen.iter().map(|chosen| match chosen {
            Chosen::Test => "test",
            Chosen::Validation => "validation",
        });
        (!of.it.chosen.is_empty()).then(|| words.collect::<Vec<_>>().join(", "))
    }));
    columns.push(Of::number("gold reward", move |of| match of.it.not_applicable {
        Some(_) => Some("n/a".to_owned()),
        None => Some(fixed(gold(of)?.mean, 3)),
    }));
    columns.push(Of::number("95 %", move |of| within(&gold(of)?)));
    columns.push(Of::number("± seeds", move |of| Some(fixed(gold(of)?.seed_std?, 3))));
    columns.push(Of::number("by seed", move |of| {
        let seeds = gold(of)?.seeds;
        let words = seeds.iter().map(|mean| fixed(*mean, 2)).collect::<Vec<_>>();
        (seeds.len() > 1).then(|| words.join(" "))
    }));
    for judge in judges {
        let said = move |of: &RunRow| of.it.judges.get(judge).cloned();
        let mean = move |of: &RunRow| Some(fixed(said(of)?.mean, 3));
        columns.push(Of::number(&format!("{judge} reward"), mean));
        columns.push(Of::number("95 %", move |of| within(&said(of)?)));
    }
    columns.push(Of::number("win rate %", |of| {
        let found = of.it.alpaca_eval.as_ref()?;
        let AlpacaEval { win_rate, standard_error, .. } = found;
        let part = found.part().map_or_else(String::new, |part| format!(" ({part})"));
        Some(format!("{} ± {}{part}", fixed(*win_rate, 2), fixed(*standard_error, 2)))
    }));
    columns.push(Of::number("LC win rate %", |of| {
        Some(fixed(of.it.alpaca_eval.as_ref()?.length_controlled_win_rate?, 2))
    }));
    columns.push(Of::number("score", |of| Some(fixed(of.it.score?, 3))));
    columns.push(Of::number("logp/token", |of| Some(fixed(of.it.base_logprob_per_token?, 3))));
    columns.push(Of::number("KL/token", |of| {
        let kl = of.it.kl?;
        let bound = if kl.kind == DivergenceKind::UpperBound { "≤ " } else { "" };
        // What is little is not nothing, which the base has.
        let is_little = kl.per_token > 0.0 && kl.per_token < 0.0005;
        Some(if is_little {
            "<0.001".to_owned()
        } else {
            format!("{bound}{}", fixed(kl.per_token, 3))
        })
    }));
    columns.push(Of::number("prompts", |of| Some(of.it.prompts.to_string())));
    draw(&columns, rows)
}

/// What the texts are like, and what one prompt costs.
pub fn texts_and_cost(rows: &[RunRow]) -> String {
    fn text<'a>(header: &str, digits: usize, value: fn(&SummaryRow) -> f64) -> Of<'a> {
        let applies = |of: &RunRow| of.it.not_applicable.is_none();
        Of::number(header, move |of| applies(of).then(|| fixed(value(of.it), digits)))
    }
    let mut columns = names();
    columns.extend([
        text("tokens", 1, |row| row.response_tokens),
        text("words", 1, |row| row.words),
        text("complete", 2, |row| row.complete_fraction),
        text("distinct-1", 3, |row| row.distinct_1),
        text("distinct-2", 3, |row| row.distinct_2),
        text("distinct-3", 3, |row| row.distinct_3),
        text("repetition-4", 3, |row| row.repetition_4),
        text("base tokens", 1, |row| row.tokens.base),
        text("guide tokens", 1, |row| row.tokens.guide),
        Of::number("base G mult-adds", |of| giga(of.it.multiply_adds?.base?)),
        Of::number("guide G mult-adds", |of| giga(of.it.multiply_adds?.guide?)),
        text("s/prompt", 3, |row| row.seconds),
        Of::number("of them guides", |of| Some(fixed(of.it.guide_seconds?, 3))),
    ]);
    draw(&columns, rows)
}

fn names<'a>() -> Vec<Of<'a>> {
    vec![
        Of::words("run", |of| of.run.map(str::to_owned)),
        Of::words("base", |of| Some(of.it.base.clone())),
        Of::words("method", |of| Some(of.it.method.clone())),
    ]
}

/// By the bootstrap; a summary of before has the normal interval alone.
pub fn within(reward: &Reward) -> Option<String> {
    let normal = [reward.mean - reward.ci95, reward.mean + reward.ci95];
    let normal = (reward.ci95 > 0.0).then_some(normal);
    Some(interval(reward.bootstrap95.or(normal)?, false))
}

/// Billions.
fn giga(count: f64) -> Option<String> {
    Some(fixed(count / 1e9, 2))
}

/// Settings with their values; a table's are its own, without its name.
fn settings(values: &Value) -> String {
    // 1/0.667 has no end.
    let short = |number: f64| ((number * 1e4).round() / 1e4).to_string();
    let word = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => number.as_f64().map_or(String::new(), short),
        value => value.to_string(),
    };
    let one = |(key, value): (&String, &Value)| match value {
        Value::Object(_) => settings(value),
        value => format!("{} {}", symbol(key), word(value)),
    };
    values.as_object().into_iter().flatten().map(one).collect::<Vec<_>>().join(", ")
}

/// The short name of a setting, where it has one.
fn symbol(key: &str) -> &str {
    Search::key(key).and_then(|key| key.symbol.as_deref()).unwrap_or(key)
}
