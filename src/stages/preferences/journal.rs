//! The journals of one split: pairs, and what was left out. A killed run continues them, to the
//! same bytes as an unbroken one.

use std::collections::HashSet;

use crate::artifacts::{Journal, interrupt};
use crate::error::Result;
use crate::monitor::Progress;
use crate::stages::context::Context;
use crate::stages::tasks::left_out_file;
use crate::text::{LeftOut, Pair};

/// One pair that was asked for: labelled and kept, or left out.
pub enum Labelled {
    Kept(Box<Pair>),
    LeftOut(LeftOut),
}

impl Labelled {
    fn id(&self) -> &str {
        match self {
            Self::Kept(pair) => &pair.id,
            Self::LeftOut(left_out) => &left_out.id,
        }
    }
}

/// Labels what is left of `items` (an id, and what it stands for) in groups of `group_size`, and
/// appends the results to the journals of `file` in the order of the items. Ids of results are an
/// item's id, or that and `/` and more. Groups do not depend on where a run stopped, so neither do
/// rewards.
pub fn label_all<T>(
    context: &Context,
    file: &str,
    items: &[T],
    id: impl Fn(&T) -> &str,
    group_size: usize,
    mut label: impl FnMut(&[T]) -> Result<Vec<Labelled>>,
) -> Result<()> {
    let (mut pairs, done) = Journal::<Pair>::open(context.run.path(file))?;
    let (mut left_out, skipped) = Journal::<LeftOut>::open(context.run.path(&left_out_file(file)))?;
    // The last item of the journals may be half written: from it on, all is made again and only
    // what is new is appended.
    let place = |last: &str| {
        items.iter().position(|item| {
            last.strip_prefix(id(item)).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    let last = [
        done.last().map(|pair| pair.id.as_str()),
        skipped.last().map(|left_out| left_out.id.as_str()),
    ];
    let resume_at = last.into_iter().flatten().filter_map(place).max().unwrap_or(0);
    let known: HashSet<&str> = done
        .iter()
        .map(|pair| pair.id.as_str())
        .chain(skipped.iter().map(|left_out| left_out.id.as_str()))
        .collect();
    let mut progress = Progress::start(file, items.len() as u64, 0);
    for (g, group) in items.chunks(group_size).enumerate() {
        interrupt::check()?;
        if g * group_size + group.len() > resume_at {
            for labelled in label(group)? {
                match labelled {
                    known_one if known.contains(known_one.id()) => {}
                    Labelled::Kept(pair) => pairs.append(&pair)?,
                    Labelled::LeftOut(one) => left_out.append(&one)?,
                }
            }
        }
        progress.advance(group.len() as u64);
    }
    progress.finish();
    Ok(())
}
