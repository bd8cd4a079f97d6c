//! Summaries as text tables for a terminal.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use super::summary::{Row, Summary};
use crate::search::Search;

/// The rows of one run and the paired differences of its methods.
pub fn table(summary: &Summary) -> String {
    let mut text = draw(&headers(false), summary.rows.iter().map(cells).collect());
    if !summary.comparisons.is_empty() {
        text.push_str("\n\ngold reward, paired by prompt (difference ± 2 standard errors):\n");
        for comparison in &summary.comparisons {
            text.push_str(&format!(
                "  {}: {} − {} = {:+.3} ± {:.3} over {} prompts\n",
                comparison.base,
                comparison.a,
                comparison.b,
                comparison.difference,
                2.0 * comparison.standard_error,
                comparison.prompts
            ));
        }
    }
    for note in &summary.notes {
        text.push_str(&format!("\n\nwarning: {note}"));
    }
    text.trim_end().to_owned()
}

/// The rows of several runs, the run's name first.
pub fn compare(summaries: &[Summary]) -> String {
    let rows = summaries
        .iter()
        .flat_map(|summary| summary.rows.iter().map(|row| std::iter::once(summary.run.clone()).chain(cells(row)).collect::<Vec<_>>()));
    draw(&headers(true), rows.collect())
}

fn headers(with_run: bool) -> Vec<&'static str> {
    let columns = [
        "base",
        "method",
        "settings",
        "gold reward",
        "± 95 %",
        "by seed",
        "score",
        "logp/token",
        "tokens",
        "complete",
        "distinct-2",
        "s/prompt",
        "prompts",
    ];
    with_run.then_some("run").into_iter().chain(columns).collect()
}

fn cells(row: &Row) -> Vec<String> {
    let number = |value: Option<f64>, digits: usize| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"));
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let settings = row.settings.as_object().into_iter().flatten().map(|(key, value)| format!("{} {}", symbol(key), word(value)));
    let reward = row.gold_reward.as_ref();
    vec![
        row.base.clone(),
        row.method.clone(),
        settings.collect::<Vec<_>>().join(", "),
        number(reward.map(|reward| reward.mean), 3),
        number(reward.map(|reward| reward.ci95), 3),
        reward.map_or_else(String::new, |reward| reward.seeds.iter().map(|mean| format!("{mean:.2}")).collect::<Vec<_>>().join(" ")),
        number(row.score, 3),
        number(row.base_logprob_per_token, 3),
        number(Some(row.response_tokens), 1),
        number(Some(row.complete_fraction), 2),
        number(Some(row.distinct_2), 3),
        number(Some(row.seconds), 3),
        row.prompts.to_string(),
    ]
}

/// The short name of a setting, where it has one.
fn symbol(key: &str) -> &str {
    Search::key(key).and_then(|key| key.symbol).unwrap_or(key)
}

fn draw(headers: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(headers).add_rows(rows);
    let first_number = headers.iter().position(|header| *header == "gold reward").unwrap_or(0);
    for (i, column) in table.column_iter_mut().enumerate() {
        if i >= first_number {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}
