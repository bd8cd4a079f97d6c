//! Summaries as text tables for a terminal: rewards; texts and cost; paired differences from a
//! baseline; weak to strong. The numbers are `summary/`'s.

mod columns;
mod differences;
mod rows;

use std::collections::BTreeSet;

use serde::Serialize;

use self::columns::OfRun;
use self::differences::{differences, differences_table, weak_to_strong_table};
use self::rows::{RunRow, rewards, texts_and_cost};
use super::served::Served;
use super::summary::{Comparison, Summary, SummaryRow};
use crate::error::{Error, Result};

pub(super) use self::rows::within;

/// One run, its differences counted from the references of its bases.
pub fn table(summary: &Summary) -> String {
    tables(std::slice::from_ref(summary), None)
}

/// All rows of several runs; differences are counted from the method `baseline` where a base or its
/// guides know one of this name, and else from the base's reference.
///
/// # Errors
/// [`Error::Recipe`] where no run has such a method.
pub fn compare(summaries: &[Summary], baseline: Option<&str>) -> Result<String> {
    is_known(summaries, baseline)?;
    Ok(tables(summaries, baseline))
}

/// A summary, and what [`compare`] shows of its differences.
#[derive(Debug, Serialize)]
pub struct Compared<'a> {
    #[serde(flatten)]
    pub summary: &'a Summary,
    /// Each method less the baseline.
    pub differences: Vec<Comparison>,
}

/// [`compare`] as data.
pub fn compared<'a>(summaries: &'a [Summary], baseline: Option<&str>) -> Result<Vec<Compared<'a>>> {
    is_known(summaries, baseline)?;
    let one = |summary| Compared { summary, differences: differences(summary, baseline) };
    Ok(summaries.iter().map(one).collect())
}

fn is_known(summaries: &[Summary], baseline: Option<&str>) -> Result<()> {
    let Some(baseline) = baseline else { return Ok(()) };
    let methods: BTreeSet<&str> =
        summaries.iter().flat_map(|it| &it.rows).map(|row| row.method.as_str()).collect();
    if methods.contains(baseline) {
        return Ok(());
    }
    let known = methods.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    Err(Error::recipe(format!(
        "`--baseline {baseline}`: no row is of this method\n\nhint: the methods are {known}"
    )))
}

fn tables(summaries: &[Summary], baseline: Option<&str>) -> String {
    let has_several = summaries.len() > 1;
    let rows: Vec<RunRow> = each(summaries, |it| it.rows.iter().collect());
    let less = each(summaries, |it| differences(it, baseline));
    let weak = each(summaries, |it| it.weak_to_strong.iter().collect());
    let mut text = rewards(&rows);
    text.push_str(&not_applicable(rows.iter().map(|of| of.it)));
    for (title, table) in [
        ("texts, and what one of them costs:", texts_and_cost(&rows)),
        (
            "differences, paired by prompt (p of the t-test, by Holm over the methods of one base, \
             of wins against losses; detectable: at 80 % power):",
            differences_table(&less),
        ),
        ("weak to strong, gold reward of the steered base:", weak_to_strong_table(&weak)),
    ] {
        if !table.is_empty() {
            text.push_str(&format!("\n\n{title}\n{table}"));
        }
    }
    text.push_str(&served(&rows));
    for summary in summaries {
        let run = if has_several { format!("{}: ", summary.run) } else { String::new() };
        if let Some(gold) = summary.gold_accuracy() {
            text.push_str(&format!("\n\n{run}gold: {}", gold.words()));
        }
        for gap in summary.gaps().iter().filter(|gap| gap.warning().is_none()) {
            text.push_str(&format!("\n\n{run}guides: {}", gap.words()));
        }
        for note in &summary.notes {
            text.push_str(&format!("\n\n{run}warning: {note}"));
        }
    }
    text.trim_end().to_owned()
}

/// What `of` gives of each run, with the runs' names where there are several.
fn each<'a, T>(summaries: &'a [Summary], of: impl Fn(&'a Summary) -> Vec<T>) -> Vec<OfRun<'a, T>> {
    let run = |it: &'a Summary| (summaries.len() > 1).then_some(it.run.as_str());
    let of_run = |summary| of(summary).into_iter().map(move |it| OfRun { run: run(summary), it });
    summaries.iter().flat_map(of_run).collect()
}

/// What bases that others serve have cost, row by row and in all.
fn served(rows: &[RunRow]) -> String {
    let cost = |of: &RunRow| {
        let run = of.run.map_or_else(String::new, |run| format!("{run} "));
        Some((format!("{run}{} {}", of.it.base, of.it.method), of.it.served.clone()?))
    };
    let costs: Vec<(String, Served)> = rows.iter().filter_map(cost).collect();
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
    let rows = costs.iter().map(|(what, cost)| line((what, cost)));
    let lines: String = rows.chain([line(("in all", &all))]).collect();
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::report::divergence::{Divergence, DivergenceKind};
    use crate::report::{Answer, Chosen, MultiplyAdds, Role};

    fn answer(id: &str, reward: f64) -> Answer {
        Answer {
            seed: 1,
            id: id.into(),
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
        }
    }

    fn summary(name: &str, rewards: [[f64; 2]; 3]) -> Summary {
        let mut summary = Summary::new(name);
        let rows =
            [("m", "base", Role::Plain), ("m", "cbs", Role::Steered), ("g", "tuned", Role::Tuned)];
        for ((base, method, role), [x, y]) in rows.into_iter().zip(rewards) {
            summary.add(base, method, role, Value::Null, &[answer("x", x), answer("y", y)]);
        }
        summary.compare();
        summary
    }

    #[test]
    fn what_rounds_to_zero_has_no_sign() {
        let summary = summary("run", [[0.0001; 2], [-0.0001; 2], [0.0; 2]]);
        let drawn = [table(&summary), compare(&[summary], None).unwrap()].concat();
        assert!(drawn.contains("|      0.000 | 0.000 … 0.000 |"), "{drawn}");
        assert!(!drawn.contains("-0.0") && !drawn.contains("+0.0"), "{drawn}");
    }

    #[test]
    fn what_is_known_of_some_rows_has_a_column_and_what_is_known_of_none_has_not() {
        let mut first = summary("first", [[0.0, 1.0], [2.0, 5.0], [1.0, 1.0]]);
        let plain = table(&first);
        for absent in ["KL", "best on", "mult-adds", "of them guides", "± seeds", "run", "direct"]
        {
            assert!(!plain.contains(absent), "{absent}\n{plain}");
        }
        let row = &mut first.rows[1];
        row.kl = Some(Divergence {
            per_token: 0.5,
            per_response: 10.0,
            kind: DivergenceKind::UpperBound,
        });
        row.chosen = vec![Chosen::Test, Chosen::Validation];
        row.multiply_adds = Some(MultiplyAdds { base: Some(2.5e9), guide: Some(5e8) });
        row.guide_seconds = Some(0.25);
        let drawn = compare(&[first.clone(), summary("second", [[0.0; 2]; 3])], None).unwrap();
        for told in [
            "| first  | m    | cbs    | test, validation |       3.500 | 2.000 … 5.000 |",
            "≤ 0.500",
            "|             2.50 |              0.50 |",
            "|          0.250 |",
            "| first  | m    | cbs    | base | gold  |     +3.000 | +2.000 … +4.000 |            2/0/0 |",
            "| first  | m    | cbs    |       3.500 |           +2.500 | +1.000 … +4.000 |",
        ] {
            assert!(drawn.contains(told), "{told}\n{drawn}");
        }
        let from_tuned = compare(&[first], Some("tuned")).unwrap();
        assert!(from_tuned.contains("| m    | cbs    | tuned of g | gold  |"), "{from_tuned}");
    }
}
