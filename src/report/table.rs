//! Summaries as text tables for a terminal. The numbers are `summary.rs`'s.

use std::collections::BTreeSet;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use super::served::Served;
use super::summary::{Reward, Summary, SummaryRow};
use crate::monitor::number::{fixed, signed};
use crate::search::Search;

/// The rows of one run and the paired differences of its methods.
pub fn table(summary: &Summary) -> String {
    let judges = judges(summary.rows.iter());
    let mut text = draw(
        &headers(false, &judges),
        summary.rows.iter().map(|row| cells(row, &judges)).collect(),
    );
    text.push_str(&not_applicable(summary.rows.iter()));
    if !summary.comparisons.is_empty() {
        text.push_str("\n\ngold reward, paired by prompt (difference ± 2 standard errors):\n");
        for comparison in &summary.comparisons {
            text.push_str(&format!(
                "  {}: {} − {} = {} ± {} over {} prompts\n",
                comparison.base,
                comparison.a,
                comparison.b,
                signed(comparison.difference, 3),
                fixed(2.0 * comparison.standard_error, 3),
                comparison.prompts
            ));
        }
    }
    text.push_str(&served(&summary.rows));
    if let Some(gold) = summary.gold_accuracy() {
        text.push_str(&format!("\n\ngold: {}", gold.words()));
    }
    for note in &summary.notes {
        text.push_str(&format!("\n\nwarning: {note}"));
    }
    text.trim_end().to_owned()
}

/// The rows of several runs, the run's name first.
pub fn compare(summaries: &[Summary]) -> String {
    let judges = judges(summaries.iter().flat_map(|summary| &summary.rows));
    let rows = summaries
        .iter()
        .flat_map(|summary| summary.rows.iter().map(|row| (summary.run.clone(), row)));
    let rows = rows.map(|(run, row)| std::iter::once(run).chain(cells(row, &judges)).collect());
    let table = draw(&headers(true, &judges), rows.collect());
    table + &not_applicable(summaries.iter().flat_map(|summary| &summary.rows))
}

/// What bases that others serve have cost, row by row and in all.
fn served(rows: &[SummaryRow]) -> String {
    let costs: Vec<(String, &Served)> = rows
        .iter()
        .filter_map(|row| Some((format!("{} {}", row.base, row.method), row.served.as_ref()?)))
        .collect();
    if costs.is_empty() {
        return String::new();
    }
    let line = |(what, cost): (&str, &Served)| {
        let Served { requests, prompt_tokens, cached_tokens, completion_tokens, cost: money } =
            cost;
        let cached = match cached_tokens {
            0 => String::new(),
            tokens => format!(" ({tokens} of them cached)"),
        };
        let money = if *money > 0.0 { format!(", {money:.4} spent") } else { String::new() };
        format!(
            "  {what}: {requests} requests, {prompt_tokens} tokens read{cached}, \
             {completion_tokens} sampled{money}\n"
        )
    };
    let all = costs.iter().fold(Served::default(), |all, (_, cost)| all.and(cost));
    let each = costs.iter().map(|(what, cost)| line((what, cost)));
    let lines: String = each.chain([line(("in all", &all))]).collect();
    format!("\n\nserved bases (what was asked first by another row is counted there):\n{lines}")
}

/// Why methods do not apply to bases: a line for each reason with what it holds for.
fn not_applicable<'a>(rows: impl Iterator<Item = &'a SummaryRow>) -> String {
    let line = |(why, what): (&str, Vec<String>)| format!("\n  {}: {why}", what.join(", "));
    let lines: String = reasons(rows).into_iter().map(line).collect();
    if lines.is_empty() { lines } else { format!("\n\nnot applicable (n/a):{lines}") }
}

/// Why methods do not apply to bases: each reason with the bases and methods for which it holds.
pub(super) fn reasons<'a>(
    rows: impl Iterator<Item = &'a SummaryRow>,
) -> Vec<(&'a str, Vec<String>)> {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for row in rows {
        let Some(why) = &row.not_applicable else { continue };
        let what = format!("{} {}", row.base, row.method);
        match reasons.iter_mut().find(|(known, _)| known == why) {
            Some((_, all)) if all.contains(&what) => {}
            Some((_, all)) => all.push(what),
            None => reasons.push((why, vec![what])),
        }
    }
    reasons
}

/// The judges beside the gold that any of these rows knows.
fn judges<'a>(rows: impl Iterator<Item = &'a SummaryRow>) -> BTreeSet<&'a str> {
    rows.flat_map(|row| row.judges.keys().map(String::as_str)).collect()
}

const FIRST_NUMBER: &str = "gold reward";

fn headers(with_run: bool, judges: &BTreeSet<&str>) -> Vec<String> {
    let of_judge = |judge: &&str| [format!("{judge} reward"), "± 95 %".to_owned()];
    let before =
        ["base", "method", "settings", FIRST_NUMBER, "± 95 %", "by seed"].map(str::to_owned);
    let after = ["score", "logp/token", "tokens", "complete", "distinct-2", "s/prompt", "prompts"]
        .map(str::to_owned);
    let run = with_run.then_some("run".to_owned());
    run.into_iter().chain(before).chain(judges.iter().flat_map(of_judge)).chain(after).collect()
}

fn cells(row: &SummaryRow, judges: &BTreeSet<&str>) -> Vec<String> {
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "–".to_owned(), |value| fixed(value, digits))
    };
    let with_interval = |reward: Option<&Reward>| {
        [number(reward.map(|reward| reward.mean), 3), number(reward.map(|reward| reward.ci95), 3)]
    };
    let reward = row.gold_reward.as_ref();
    let [mean, interval] = match row.not_applicable {
        Some(_) => ["n/a".to_owned(), "–".to_owned()],
        None => with_interval(reward),
    };
    let seeds = reward.map_or_else(String::new, |reward| {
        reward.seeds.iter().map(|mean| fixed(*mean, 2)).collect::<Vec<_>>().join(" ")
    });
    let before = [row.base.clone(), row.method.clone(), settings(&row.settings)];
    let is_applicable = row.not_applicable.is_none();
    let counted = |value: f64, digits: usize| number(Some(value).filter(|_| is_applicable), digits);
    let after = [
        number(row.score, 3),
        number(row.base_logprob_per_token, 3),
        counted(row.response_tokens, 1),
        counted(row.complete_fraction, 2),
        counted(row.distinct_2, 3),
        counted(row.seconds, 3),
        row.prompts.to_string(),
    ];
    let judged = judges.iter().flat_map(|judge| with_interval(row.judges.get(*judge)));
    before.into_iter().chain([mean, interval, seeds]).chain(judged).chain(after).collect()
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

fn draw(headers: &[String], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(headers).add_rows(rows);
    let first_number = headers.iter().position(|header| header == FIRST_NUMBER).unwrap_or(0);
    for (i, column) in table.column_iter_mut().enumerate() {
        if i >= first_number {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Answer, Role};

    #[test]
    fn what_rounds_to_zero_has_no_sign() {
        let mut summary = Summary::new("run");
        for (method, reward) in [("base", 0.0001), ("cbs", -0.0001)] {
            let answer = Answer {
                seed: 1,
                id: "x".into(),
                prompt: "p".into(),
                response: "a b".into(),
                complete: true,
                score: Some(reward),
                gold_reward: Some(reward),
                judges: [("kind".to_owned(), reward)].into(),
                base_logprob_per_token: Some(reward),
                response_tokens: 2,
                base_tokens: 2,
                guide_tokens: 0,
                seconds: 1.0,
                guide_seconds: None,
            };
            let answers = [answer.clone(), Answer { id: "y".into(), ..answer }];
            summary.add("m", method, Role::Other, Value::Null, &answers);
        }
        summary.compare();
        let drawn = [table(&summary), compare(&[summary])].concat();
        assert!(drawn.contains("cbs − base = 0.000 ± 0.000 over 2 prompts"), "{drawn}");
        assert!(!drawn.contains("-0.0") && !drawn.contains("+0.0"), "{drawn}");
    }
}
