//! What the settings of chunk-level beam search change, drawn from the rows of a summary: gold
//! reward and guide score over W·K and over L, and the gold against the score along both
//! (over-optimisation is where the score still rises and the gold does not). Best-of-N stands
//! beside them.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use super::curves::{Curve, Panel};
use super::statistics::standard_deviation;
use super::summary::{Summary, SummaryRow};
use crate::monitor::number::fixed;

/// Settings that make a curve or a diagram.
const LEAST: usize = 3;

/// The rows of one base that differ in W, K and L alone, and those of best-of-N.
pub struct Sweep<'a> {
    pub base: &'a str,
    cbs: Vec<Setting<'a>>,
    best_of_n: Vec<Setting<'a>>,
}

/// A row and its settings; best-of-N has `k` samples of whole responses.
#[derive(Clone, Copy)]
struct Setting<'a> {
    w: u64,
    k: u64,
    /// `None` for whole responses.
    l: Option<u64>,
    row: &'a SummaryRow,
}

/// A curve's label and its settings, with what stands on the horizontal axis.
type Line<'a> = (String, Vec<(f64, Setting<'a>)>);

impl<'a> Setting<'a> {
    fn samples(&self) -> u64 {
        self.w * self.k
    }

    /// The gold reward of each seed over what `x` says, one run a seed.
    fn gold(&self) -> Vec<f64> {
        self.row.gold_reward.as_ref().map(|reward| reward.seeds.clone()).unwrap_or_default()
    }
}

/// All sweeps of a summary's rows, base after base; rows of other guides or other sampling than
/// theirs are sweeps of their own.
pub fn sweeps(summary: &Summary) -> Vec<Sweep<'_>> {
    let mut all: Vec<(String, Sweep)> = Vec::new();
    for row in summary.rows.iter().filter(|row| row.not_applicable.is_none()) {
        let Some((setting, is_cbs, rest)) = setting(row) else { continue };
        let known = all.iter().position(|(other, sweep)| *other == rest && sweep.base == row.base);
        let place = known.unwrap_or_else(|| {
            all.push((rest, Sweep { base: &row.base, cbs: Vec::new(), best_of_n: Vec::new() }));
            all.len() - 1
        });
        let sweep = &mut all[place].1;
        if is_cbs { sweep.cbs.push(setting) } else { sweep.best_of_n.push(setting) }
    }
    all.into_iter().map(|(_, sweep)| sweep).filter(|sweep| sweep.cbs.len() >= LEAST).collect()
}

/// A row's settings, whether it is a chunk-level beam search, and what else is said of it.
fn setting(row: &SummaryRow) -> Option<(Setting<'_>, bool, String)> {
    let mut rest = row.settings.as_object()?.clone();
    let mut take = |key: &str| rest.remove(key);
    let number = |value: Option<Value>| value.as_ref().and_then(Value::as_u64);
    let (w, k, n) = (number(take("beam_width")), number(take("successors")), number(take("n")));
    let l = take("chunk_len");
    let rest = Value::Object(rest).to_string();
    match (w.zip(k), l, n) {
        (Some((w, k)), Some(l), None) => Some((Setting { w, k, l: l.as_u64(), row }, true, rest)),
        (None, None, Some(n)) => Some((Setting { w: 1, k: n, l: None, row }, false, rest)),
        _ => None,
    }
}

impl<'a> Sweep<'a> {
    /// Diagrams of what varies: over W·K at one L, over L at one W and K, and along both the gold
    /// against the score. None where fewer than three settings differ in one thing.
    pub fn panels(&self) -> Vec<(String, Vec<Panel>)> {
        let over_samples = self.over_samples();
        let over_length = self.over_length();
        let mut all = Vec::new();
        for (name, x, lines) in [
            ("samples", "W·K (N of best-of-N)", &over_samples),
            ("chunk-length", "chunk length L", &over_length),
        ] {
            if lines.is_empty() {
                continue;
            }
            let gold = panel(self.base, x, "gold reward", lines, &|setting| setting.gold());
            let score = panel(self.base, x, "score by the guides", lines, &|setting| {
                setting.row.score.into_iter().collect()
            });
            let title = format!("{}, gold against score over {x}", self.base);
            let along = Panel {
                title,
                x: "score by the guides".to_owned(),
                y: "gold reward".to_owned(),
                is_log_2: false,
                curves: lines.iter().map(|(label, line)| gold_by_score(label, line)).collect(),
            };
            all.push((name.to_owned(), vec![gold, score, along]));
        }
        all
    }

    /// For each W and L, and for best-of-N, along the number of samples; only of lengths with three
    /// numbers of samples or more.
    fn over_samples(&self) -> Vec<Line<'a>> {
        let mut lengths: BTreeMap<(bool, Option<u64>), Vec<Setting>> = BTreeMap::new();
        for setting in &self.cbs {
            lengths.entry((setting.l.is_none(), setting.l)).or_default().push(*setting);
        }
        lengths.retain(|_, settings| different(settings, |setting| setting.samples()) >= LEAST);
        let mut lines: Vec<Line> = Vec::new();
        for ((_, length), settings) in &lengths {
            let mut widths: BTreeMap<u64, Vec<(f64, Setting)>> = BTreeMap::new();
            for setting in settings {
                let point = (setting.samples() as f64, *setting);
                widths.entry(setting.w).or_default().push(point);
            }
            let label = |w: u64| format!("W = {w}, L = {}", word(*length));
            lines.extend(widths.into_iter().map(|(w, line)| (label(w), line)));
        }
        if !lines.is_empty() && !self.best_of_n.is_empty() {
            let line = self.best_of_n.iter().map(|setting| (setting.samples() as f64, *setting));
            lines.push(("best of N".to_owned(), line.collect()));
        }
        lines
    }

    /// For each W and K with three lengths or more, along L, and best of W·K as a level line where
    /// it was sampled.
    fn over_length(&self) -> Vec<Line<'a>> {
        let mut beams: BTreeMap<(u64, u64), Vec<(f64, Setting)>> = BTreeMap::new();
        for setting in &self.cbs {
            let Some(length) = setting.l else { continue };
            beams.entry((setting.w, setting.k)).or_default().push((length as f64, *setting));
        }
        beams.retain(|_, line| line.len() >= LEAST);
        let ends = |line: &[(f64, Setting)]| {
            let lengths = || line.iter().map(|(length, _)| *length);
            [lengths().fold(f64::INFINITY, f64::min), lengths().fold(0.0, f64::max)]
        };
        let level = beams.iter().filter_map(|((w, k), line)| {
            let same = self.best_of_n.iter().find(|setting| setting.samples() == w * k)?;
            let label = format!("best of {}", w * k);
            Some((label, ends(line).map(|length| (length, *same)).to_vec()))
        });
        let mut level: Vec<Line> = level.collect();
        level.dedup_by(|a, b| a.0 == b.0);
        let lines = beams.iter().map(|((w, k), line)| (format!("W = {w}, K = {k}"), line.clone()));
        lines.chain(level).collect()
    }

    /// For each L a table of mean gold rewards, one row for each W and one column for each K, as
    /// HTML; empty without several of both.
    pub fn grids(&self) -> String {
        let mut text = String::new();
        let mut lengths: Vec<Option<u64>> = self.cbs.iter().map(|setting| setting.l).collect();
        lengths.sort_by_key(|length| (length.is_none(), *length));
        lengths.dedup();
        for length in lengths {
            let of_length: Vec<&Setting> =
                self.cbs.iter().filter(|setting| setting.l == length).collect();
            let all = |of: fn(&Setting) -> u64| {
                let mut all: Vec<u64> = of_length.iter().map(|setting| of(setting)).collect();
                all.sort_unstable();
                all.dedup();
                all
            };
            let (widths, successors) = (all(|setting| setting.w), all(|setting| setting.k));
            if widths.len() < 2 || successors.len() < 2 {
                continue;
            }
            let head: String =
                successors.iter().map(|k| format!("<th class=\"n\">K = {k}</th>")).collect();
            let _ = writeln!(
                text,
                "<p>Gold reward at L = {}, and how far the seeds lie apart.</p>\n\
                 <table><tr><th></th>{head}</tr>",
                word(length)
            );
            for w in widths {
                let cell = |k: &u64| {
                    let found = of_length.iter().find(|setting| (setting.w, setting.k) == (w, *k));
                    let number = found.and_then(|setting| words(setting));
                    format!("<td class=\"n\">{}</td>", number.unwrap_or_else(|| "–".to_owned()))
                };
                let cells: String = successors.iter().map(cell).collect();
                let _ = writeln!(text, "<tr><th>W = {w}</th>{cells}</tr>");
            }
            text.push_str("</table>\n");
        }
        text
    }
}

/// The gold reward of a setting, and the seeds' standard deviation where there are several.
fn words(setting: &Setting) -> Option<String> {
    let reward = setting.row.gold_reward.as_ref()?;
    let mean = fixed(reward.mean, 3);
    Some(match reward.seeds.len() {
        0 | 1 => mean,
        _ => format!("{mean} ± {}", fixed(standard_deviation(&reward.seeds), 3)),
    })
}

fn word(length: Option<u64>) -> String {
    length.map_or_else(|| "inf".to_owned(), |length| length.to_string())
}

/// How many values `of` has.
fn different(settings: &[Setting], of: fn(&Setting) -> u64) -> usize {
    settings.iter().map(of).collect::<std::collections::BTreeSet<u64>>().len()
}

/// One diagram of what each line's settings have by `values`, a number for each seed.
fn panel(
    base: &str,
    x: &str,
    y: &str,
    lines: &[Line],
    values: &dyn Fn(&Setting) -> Vec<f64>,
) -> Panel {
    let curve = |(label, line): &Line| Curve {
        label: label.clone(),
        runs: line
            .iter()
            .map(|(x, setting)| values(setting).into_iter().map(|value| (*x, value)).collect())
            .collect(),
    };
    Panel {
        title: format!("{base}, {y}"),
        x: x.to_owned(),
        y: y.to_owned(),
        is_log_2: is_wide(lines),
        curves: lines.iter().map(curve).collect(),
    }
}

/// Whether the horizontal axis has room for several powers of 2.
fn is_wide(lines: &[Line]) -> bool {
    let places = || lines.iter().flat_map(|(_, line)| line).map(|(x, _)| *x);
    places().fold(0.0, f64::max) >= 4.0 * places().fold(f64::INFINITY, f64::min)
}

/// Mean gold reward over mean score.
fn gold_by_score(label: &str, line: &[(f64, Setting)]) -> Curve {
    let point = |(_, setting): &(f64, Setting)| {
        Some((setting.row.score?, setting.row.gold_reward.as_ref()?.mean))
    };
    Curve { label: label.to_owned(), runs: vec![line.iter().filter_map(point).collect()] }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::{Answer, Role};

    /// A summary with a row for each of these settings, of two seeds; all scores are the number of
    /// samples, and gold rewards what `gold` says of W, K and L.
    fn summary(cbs: &[(u64, u64, u64)], best_of_n: &[u64]) -> Summary {
        let mut summary = Summary::new("run");
        let mut add = |method: &str, settings: Value, samples: u64, gold: f64| {
            let answer = |seed: u64| Answer {
                seed,
                id: "x".into(),
                prompt: "p".into(),
                response: "r".into(),
                complete: true,
                score: Some(samples as f64),
                gold_reward: Some(gold + seed as f64),
                judges: BTreeMap::new(),
                base_logprob_per_token: None,
                response_tokens: 1,
                base_tokens: 1,
                guide_tokens: 1,
                seconds: 0.0,
                guide_seconds: None,
            };
            summary.add("m", method, Role::Steered, settings, &[answer(1), answer(2)]);
        };
        for (w, k, l) in cbs {
            let settings = json!({ "beam_width": w, "successors": k, "chunk_len": l });
            add(&format!("cbs-{w}-{k}-{l}"), settings, w * k, *w as f64);
        }
        for n in best_of_n {
            add(&format!("best-{n}"), json!({ "n": n }), *n, 0.0);
        }
        summary
    }

    fn labels(panel: &Panel) -> Vec<&str> {
        panel.curves.iter().map(|curve| curve.label.as_str()).collect()
    }

    #[test]
    fn samples_have_a_line_for_each_width_and_lengths_one_for_each_beam() {
        let cbs = [(1, 4, 5), (1, 16, 5), (4, 4, 5), (2, 4, 1), (2, 4, 5), (2, 4, 20)];
        let summary = summary(&cbs, &[4, 8, 16]);
        let sweeps = sweeps(&summary);
        assert_eq!(sweeps.len(), 1);
        let figures = sweeps[0].panels();
        let names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["samples", "chunk-length"]);
        let [gold, score, along] = &figures[0].1[..] else { panic!("three diagrams") };
        let expected = ["W = 1, L = 5", "W = 2, L = 5", "W = 4, L = 5", "best of N"];
        assert_eq!((labels(gold), labels(along)), (expected.to_vec(), expected.to_vec()));
        assert_eq!(gold.curves[0].runs, [[(4.0, 2.0), (4.0, 3.0)], [(16.0, 2.0), (16.0, 3.0)]]);
        assert_eq!(score.curves[0].runs, [[(4.0, 4.0)], [(16.0, 16.0)]]);
        assert_eq!(along.curves[0].runs, [[(4.0, 2.5), (16.0, 2.5)]]);
        assert!(gold.is_log_2 && !along.is_log_2);
        let gold = &figures[1].1[0];
        assert_eq!(labels(gold), ["W = 2, K = 4", "best of 8"]);
        assert_eq!(gold.curves[1].runs[1], [(20.0, 1.0), (20.0, 2.0)]);
        let grids = sweeps[0].grids();
        assert!(grids.contains("L = 5") && !grids.contains("L = 20"), "{grids}");
        assert!(
            grids
                .contains("<th>W = 4</th><td class=\"n\">5.500 ± 0.707</td><td class=\"n\">–</td>"),
            "{grids}"
        );
    }

    #[test]
    fn two_settings_are_no_curve_and_other_guides_are_another_sweep() {
        assert!(sweeps(&summary(&[(1, 4, 5), (1, 16, 5)], &[4, 8, 16])).is_empty());
        let mut both = summary(&[(1, 4, 5), (1, 8, 5), (1, 16, 5)], &[]);
        let mut others = both.rows.clone();
        others.iter_mut().for_each(|row| row.settings["guide"] = json!("beta-0.2"));
        both.rows.extend(others);
        let sweeps = sweeps(&both);
        assert_eq!(sweeps.iter().map(|sweep| sweep.cbs.len()).collect::<Vec<_>>(), [3, 3]);
        assert!(sweeps.iter().all(|sweep| sweep.grids().is_empty()));
    }
}
