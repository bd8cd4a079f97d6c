//! Paired differences as tables: every method less the baseline of its base, and weak to strong.

use std::collections::HashSet;

use super::columns::{Column, OfRun, draw, interval, p};
use crate::monitor::number::{fixed, signed};
use crate::recipe::GOLD;
use crate::report::summary::{Comparison, Over, Summary, WeakToStrong, against};

/// Every method of every base less `baseline`, by the gold and then by each other judge; where a
/// base and its guides know none of this name, and where none is named, less the base's reference.
/// Holm's correction is over the methods of one base by one judge.
pub fn differences(summary: &Summary, baseline: Option<&str>) -> Vec<Comparison> {
    let bases = distinct(summary.rows.iter().map(|row| row.base.as_str()));
    let judges = distinct(summary.comparisons.iter().map(|it| it.judge.as_str()));
    let mut all = Vec::new();
    for judge in judges {
        for base in bases.iter().copied() {
            let less = |baseline: &str| against(&summary.comparisons, judge, base, baseline);
            let named = baseline.map(less).filter(|family| !family.is_empty());
            let reference = || summary.reference(base).map(less);
            all.extend(named.or_else(reference).unwrap_or_default());
        }
    }
    all
}

/// Each name once, in order of its first place.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    names.filter(|name| seen.insert(*name)).collect()
}

pub fn differences_table(all: &[OfRun<Comparison>]) -> String {
    type Of<'a> = Column<'a, OfRun<'a, Comparison>>;
    let has_judges = all.iter().any(|of| of.it.judge != GOLD);
    let less = |it: &Comparison| match &it.against {
        Some(guides) => format!("{} of {guides}", it.b),
        None => it.b.clone(),
    };
    let columns = [
        Of::words("run", |of| of.run.map(str::to_owned)),
        Of::words("base", |of| Some(of.it.base.clone())),
        Of::words("method", |of| Some(of.it.a.clone())),
        Of::words("less", |of| Some(less(&of.it))),
        Of::words("judge", |of| has_judges.then(|| of.it.judge.clone())),
        Of::number("difference", |of| Some(signed(of.it.difference, 3))),
        Of::number("95 %", |of| Some(interval(of.it.within()?, true))),
        Of::number("wins/ties/losses", |of| {
            let Comparison { wins, ties, losses, .. } = of.it;
            (wins + ties + losses > 0).then(|| format!("{wins}/{ties}/{losses}"))
        }),
        Of::number("p", |of| of.it.p.map(p)),
        Of::number("p Holm", |of| of.it.p_holm.map(p)),
        Of::number("p wins", |of| of.it.p_wins.map(p)),
        Of::number("detectable", |of| Some(fixed(of.it.detectable?, 3))),
        Of::number("prompts", |of| Some(of.it.prompts.to_string())),
    ];
    draw(&columns, all)
}

pub fn weak_to_strong_table(all: &[OfRun<&WeakToStrong>]) -> String {
    type Of<'a> = Column<'a, OfRun<'a, &'a WeakToStrong>>;
    let mut columns = vec![
        Of::words("run", |of| of.run.map(str::to_owned)),
        Of::words("base", |of| Some(of.it.base.clone())),
        Of::words("method", |of| Some(of.it.method.clone())),
        Of::number("gold reward", |of| Some(fixed(of.it.gold_reward, 3))),
    ];
    type Gain = fn(&WeakToStrong) -> Option<Over>;
    let over: [(&str, Gain); 3] = [
        ("over tuned guide", |row| row.over_tuned),
        ("over base", |row| row.over_base),
        ("over direct", |row| row.over_direct),
    ];
    for (header, over) in over {
        columns.extend([
            Of::number(header, move |of| Some(signed(over(of.it)?.difference, 3))),
            Of::number("95 %", move |of| Some(interval(over(of.it)?.bootstrap95?, true))),
            Of::number("p Holm", move |of| Some(p(over(of.it)?.p_holm?))),
        ]);
    }
    draw(&columns, all)
}
