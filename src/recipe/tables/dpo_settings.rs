//! The settings that `dpo.sweep` stands for: one recipe tunes several guides, which differ in some
//! keys of `[dpo]`.

use toml::{Table, Value};

use super::super::deserialize::{self, What};
use super::super::ranges;
use super::super::rules::{Rules, first_twice};
use super::Recipe;
use super::dpo::Dpo;
use super::dpo_sweep::{DpoSweep, name};

/// The keys of `[dpo]` itself that a sweep may have; all others are those of its `training`.
const OWN: [&str; 3] = ["beta", "loss", "label_smoothing"];

impl Recipe {
    /// What the folders of tuned guides and the methods that they steer are called, for each
    /// setting of `dpo.sweep`; one without a name where there is none.
    pub(in crate::recipe) fn guide_settings(&self) -> Vec<Option<String>> {
        match self.dpo.as_ref().and_then(|dpo| dpo.sweep.as_ref()) {
            None => vec![None],
            Some(sweep) => sweep.rows.iter().map(|row| Some(name(row))).collect(),
        }
    }
}

impl Dpo {
    /// The table that each setting of the sweep stands for, which sweeps nothing itself; those that
    /// are none are left out.
    pub(super) fn settings(&self) -> Vec<(Option<String>, Self)> {
        match &self.sweep {
            None => vec![(None, self.clone())],
            Some(sweep) => {
                let set = |row: &Table| Some((Some(name(row)), self.with(row).ok()?));
                sweep.rows.iter().filter_map(set).collect()
            }
        }
    }

    /// # Errors
    /// What is wrong with the row, in words.
    fn with(&self, row: &Table) -> Result<Self, String> {
        let plain = Self { sweep: None, ..self.clone() };
        let mut table = Table::try_from(plain).map_err(|error| error.to_string())?;
        for (key, value) in row {
            let in_training = table.get_mut("training").filter(|_| !OWN.contains(&key.as_str()));
            let at = match in_training {
                Some(Value::Table(training)) => training,
                _ => &mut table,
            };
            at.insert(key.clone(), value.clone());
        }
        deserialize::read(&Value::Table(table)).map_err(|problem| match problem.what {
            What::UnknownKey { key, .. } => format!(
                "`dpo.sweep` has `{key}`, which cannot be swept\n\nhint: `{}`, or a key of \
                 `dpo.training` such as `learning_rate`",
                OWN.join("`, `")
            ),
            What::Wrong { found, expected } => format!(
                "`dpo.sweep.{}` holds {found}, expected {expected}",
                problem.path.last().map_or("", String::as_str)
            ),
            What::UnknownChoice { found, choices } => {
                format!("`dpo.sweep` holds `{found}`, expected one of {}", choices.join(", "))
            }
            other => format!("`dpo.sweep`: {other:?}"),
        })
    }

    /// Every row must be a setting of its own that DPO can have.
    pub(super) fn sweep_rules(&self, rules: &mut Rules) {
        let Some(DpoSweep { rows, .. }) = &self.sweep else { return };
        let given = Table::try_from(&self.training).unwrap_or_default();
        if let Some(twice) = rows[0].keys().find(|key| given.contains_key(key.as_str())) {
            rules.problem_hint(
                format!("`dpo.training.{twice}` is given beside the `dpo.sweep` over it"),
                "leave one of the two out",
            );
        }
        for row in rows {
            match self.with(row) {
                Err(problem) => rules.once(|rules| rules.problem(problem)),
                Ok(dpo) => ranges::rules_of("dpo", &dpo, rules),
            }
        }
        let names: Vec<String> = rows.iter().map(name).collect();
        for name in &names {
            rules.folder_name("dpo.sweep", name);
        }
        if let Some(twice) = first_twice(&names) {
            rules.problem(format!("`dpo.sweep` holds `{twice}` twice"));
        }
        if rules.recipe.ppo.as_ref().is_some_and(|ppo| ppo.tuned.is_none()) {
            rules.problem_hint(
                "`[ppo]` is rewarded by one guide pair, and `dpo.sweep` makes several",
                "name two models as `ppo.tuned` and `ppo.untuned`, or leave the sweep out",
            );
        }
    }
}
