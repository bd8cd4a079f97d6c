//! `report.html`: the tables and some responses side by side, one page without scripts or outside
//! resources. Numbers and figures are made in the files beside it.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::answer::Answer;
use super::figure::figures_html;
use super::ppo::{PpoReport, ppo_table};
use super::summary::{Reward, Summary, SummaryRow};
use super::table::{reasons, table, within};
use crate::monitor::number::{fixed, signed};

/// Some responses of one base and method, to be read by people.
pub struct Sample {
    pub base: String,
    pub method: String,
    pub responses: Vec<Answer>,
}

/// The page's style sheet.
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:75em;margin:2em auto;\
    padding:0 1em}\
    table{border-collapse:collapse}\
    td,th{padding:.3em .7em;border-bottom:1px solid #ccc;text-align:left;vertical-align:top}\
    td.n,th.n{text-align:right}.bar{background:#48a;height:.8em;display:inline-block}\
    .neg{background:#b54}pre{overflow-x:auto}b{font-weight:600}";

pub fn html(summary: &Summary, samples: &[Sample], ppo: &[PpoReport]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>{0}</title>\n\
         <style>{STYLE}</style></head><body>\n\
         <h1>{0}</h1>\n",
        escape(&summary.run)
    );
    for note in &summary.notes {
        let _ = writeln!(page, "<p><b>Warning:</b> {}</p>", escape(note));
    }
    if let Some(gold) = summary.gold_accuracy() {
        let _ = writeln!(page, "<p>The gold reward model: {}.</p>", escape(&gold.words()));
    }
    for gap in summary.gaps().iter().filter(|gap| gap.warning().is_none()) {
        let _ = writeln!(page, "<p>The guides alone: {}.</p>", escape(&gap.words()));
    }
    rewards(&mut page, "Gold reward", summary, |row| row.gold_reward.as_ref());
    let judges: BTreeSet<&String> = summary.rows.iter().flat_map(|row| row.judges.keys()).collect();
    for judge in judges {
        rewards(&mut page, &format!("Reward by {}", escape(judge)), summary, |row| {
            row.judges.get(judge)
        });
    }
    for (why, what) in reasons(summary.rows.iter()) {
        let (why, what) = (escape(why), escape(&what.join(", ")));
        let _ = writeln!(page, "<p>Not applicable ({what}): {why}</p>");
    }
    length_control(&mut page, summary);
    for PpoReport { policy, rows, figure } in ppo {
        let _ = write!(
            page,
            "<h2>PPO of {}</h2>\n<p>One line for each chunk length L: mean of the seeds, and one \
             standard deviation to each side. The return is the guide pair's score, unscaled.</p>\n\
             {figure}\n{}",
            escape(policy),
            ppo_table(rows)
        );
    }
    page.push_str(&figures_html(&summary.figures, escape));
    let _ = write!(page, "<h2>All numbers</h2>\n<pre>{}</pre>\n", escape(&table(summary)));
    responses(&mut page, samples);
    page.push_str("</body></html>\n");
    page
}

/// Mean rewards of one judge as bars with their numbers and intervals.
fn rewards(
    page: &mut String,
    title: &str,
    summary: &Summary,
    of: impl Fn(&SummaryRow) -> Option<&Reward>,
) {
    let _ = writeln!(
        page,
        "<h2>{title}</h2>\n<table><tr><th>base</th><th>method</th><th class=\"n\">mean</th><th \
         class=\"n\">95 %</th><th class=\"n\">± seeds</th><th></th></tr>"
    );
    let means = || summary.rows.iter().filter_map(|row| Some(of(row)?.mean.abs()));
    let scale = means().fold(f64::MIN_POSITIVE, f64::max);
    for row in &summary.rows {
        let Some(reward) = of(row) else { continue };
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td \
             class=\"n\">{}</td><td class=\"n\">{}</td><td><span class=\"bar{}\" \
             style=\"width:{:.1}em\"></span></td></tr>",
            escape(&row.base),
            escape(&row.method),
            fixed(reward.mean, 3),
            within(reward).unwrap_or_default(),
            reward.seed_std.map_or_else(|| "–".to_owned(), |std| fixed(std, 3)),
            if reward.mean < 0.0 { " neg" } else { "" },
            20.0 * reward.mean.abs() / scale
        );
    }
    page.push_str("</table>\n");
}

/// Reward and length of each method, and the gain that length does not explain.
fn length_control(page: &mut String, summary: &Summary) {
    if summary.length_control.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Reward at equal length</h2>\n<p>Ordinary least squares over all responses of a base: \
         reward = α + gain of the method + slope · words. The reference has no gain; standard \
         errors are paired by prompt.</p>\n\
         <table><tr><th>base</th><th>method</th><th class=\"n\">gold reward</th><th \
         class=\"n\">words</th><th class=\"n\">gain</th><th class=\"n\">gain at equal \
         length</th><th class=\"n\">± 2 s.e.</th><th class=\"n\">slope</th></tr>\n",
    );
    let number =
        |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| signed(value, 3));
    for control in &summary.length_control {
        for row in &control.methods {
            let is_reference = row.method == control.reference;
            let [gain, left, error] = match is_reference {
                true => ["reference".to_owned(), String::new(), String::new()],
                false => [
                    number(Some(row.gain)),
                    number(row.gain_at_equal_length),
                    row.standard_error
                        .map_or_else(|| "–".to_owned(), |error| fixed(2.0 * error, 3)),
                ],
            };
            let slope = if is_reference {
                control.slope.map_or_else(|| "–".to_owned(), |slope| signed(slope, 4))
            } else {
                String::new()
            };
            let _ = writeln!(
                page,
                "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{:.1}</td><td \
                 class=\"n\">{gain}</td><td class=\"n\">{left}</td><td class=\"n\">{error}</td><td \
                 class=\"n\">{slope}</td></tr>",
                escape(&control.base),
                escape(&row.method),
                fixed(row.gold_reward, 3),
                row.words
            );
        }
    }
    page.push_str("</table>\n");
}

/// For each prompt shown, the responses of all methods under it.
fn responses(page: &mut String, samples: &[Sample]) {
    let Some(first) = samples.first() else { return };
    page.push_str("<h2>Responses</h2>\n");
    for shown in &first.responses {
        let _ = writeln!(page, "<h3>{}</h3>\n<table>", escape(&shown.prompt));
        for sample in samples {
            for answer in sample
                .responses
                .iter()
                .filter(|answer| (answer.seed, &answer.id) == (shown.seed, &shown.id))
            {
                let reward = answer.gold_reward.map_or_else(String::new, |reward| fixed(reward, 2));
                let _ = writeln!(
                    page,
                    "<tr><td>{} {}</td><td class=\"n\">{reward}</td><td><b>{}</b>{}{}</td></tr>",
                    escape(&sample.base),
                    escape(&sample.method),
                    escape(&answer.prompt),
                    escape(&answer.response),
                    if answer.complete { "" } else { " …" }
                );
            }
        }
        page.push_str("</table>\n");
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Role;

    #[test]
    fn generated_text_cannot_break_the_page() {
        let mut summary = Summary::new("<run>");
        let answer = Answer {
            seed: 1,
            id: "test-0".into(),
            prompt: "A <b>".into(),
            response: " <script>alert(1)</script>".into(),
            complete: false,
            score: None,
            gold_reward: Some(-1.5),
            judges: [("<u>".to_owned(), 2.0)].into(),
            base_logprob_per_token: None,
            response_tokens: 4,
            base_tokens: 4,
            guide_tokens: 0,
            seconds: 0.1,
            guide_seconds: None,
        };
        summary.add(
            "base",
            "cbs",
            Role::Steered,
            serde_json::json!({ "beam_width": 4 }),
            std::slice::from_ref(&answer),
        );
        let shorter = Answer { response: "one".into(), gold_reward: Some(-3.0), ..answer.clone() };
        summary.add("base", "<i>", Role::Plain, serde_json::json!({}), &[shorter]);
        assert!(!html(&summary, &[], &[]).contains("equal length"), "no reference is known");
        summary.control_for_length("base", "<i>");
        let page = html(
            &summary,
            &[Sample { base: "base".into(), method: "cbs".into(), responses: vec![answer] }],
            &[],
        );
        assert!(
            !page.contains("<script>")
                && page.contains("&lt;script&gt;")
                && page.contains("-1.500")
                && page.contains("W 4"),
            "{page}"
        );
        // Both texts are one word long, so all of the gain is left.
        assert!(
            page.contains("reference")
                && page.contains("<td class=\"n\">+1.500</td><td class=\"n\">+1.500</td>"),
            "{page}"
        );
        assert!(
            !page.contains("<i>") && !page.contains("<u>") && page.contains("Reward by &lt;u&gt;"),
            "{page}"
        );
    }
}
