//! All that a killed training run needs to go on as if nothing had happened, in one atomically
//! written safetensors file: parameters, AdamW moments, the best parameters so far, and the
//! position in the schedule. The order of examples is a function of the seed and the step, so no
//! other state exists.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::Tensor;
use tracing::warn;

use super::AdamW;
use super::watchdog::Watchdog;
use crate::error::{Error, Result};
use crate::models::weights::{read_metadata, read_tensors, write_tensors};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Steps of the schedule done.
    pub step: usize,
    /// Updates made: fewer where steps were skipped.
    pub optimizer_step: i32,
    /// Step and validation values of the best parameters, if there was a validation.
    pub best: Option<(usize, Vec<(String, f64)>)>,
    /// Validations since then.
    #[serde(default)]
    pub since_best: usize,
    #[serde(default)]
    pub watchdog: Watchdog,
    /// What adapts in PPO beside the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl_coef: Option<f64>,
}

impl Position {
    /// What the validation of the best parameters gave under `name`.
    pub fn best_value(&self, name: &str) -> Option<f64> {
        let (_, values) = self.best.as_ref()?;
        values.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

pub struct Checkpoint {
    path: PathBuf,
}

impl Checkpoint {
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a training with a reference keeps what that says; removed with the checkpoints.
    pub fn reference(&self) -> PathBuf {
        self.path.with_extension("reference.safetensors")
    }

    /// Where the checkpoint before the newest lies, the one before that, …
    fn earlier(&self, age: usize) -> PathBuf {
        if age == 0 {
            self.path.clone()
        } else {
            self.path.with_extension(format!("{age}.safetensors"))
        }
    }

    /// Makes room for a new checkpoint: at most `keep` of them stay with it, and no more than fit
    /// in `bytes` together with it.
    fn rotate(&self, keep: usize, bytes: Option<u64>) -> Result<()> {
        let size = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.len()).ok();
        let existing = (0..).take_while(|age| size(&self.earlier(*age)).is_some()).count();
        // The new one will be as large as the newest.
        let mut total = size(&self.path).unwrap_or(0);
        let mut kept = 0;
        while kept + 1 < keep && kept < existing {
            total = total.saturating_add(size(&self.earlier(kept)).unwrap_or(0));
            if bytes.is_some_and(|bytes| total > bytes) {
                break;
            }
            kept += 1;
        }
        // With none to keep, the newest stays until the new one replaces it.
        for age in (kept.max(1)..existing).rev() {
            remove(&self.earlier(age))?;
        }
        for age in (0..kept).rev() {
            let (from, to) = (self.earlier(age), self.earlier(age + 1));
            std::fs::rename(&from, &to).map_err(Error::io(&from, "renaming"))?;
        }
        Ok(())
    }

    /// Writes the newest checkpoint; up to `keep` − 1 earlier ones stay beside it, as long as all
    /// together take no more than `bytes`.
    pub fn save(
        &self,
        position: &Position,
        optimizer: &AdamW,
        best: Option<&[Tensor]>,
        keep: usize,
        bytes: Option<u64>,
    ) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        self.rotate(keep, bytes)?;
        let (_, mut tensors) = optimizer.state();
        for (i, (name, weight)) in optimizer.weights().into_iter().enumerate() {
            tensors.push((format!("parameter.{name}"), weight));
            if let Some(best) = best {
                tensors.push((format!("best.{name}"), best[i].shallow_clone()));
            }
        }
        // TOML: serde_json may lose the last bit of a number that it reads.
        let position =
            toml::to_string(position).map_err(|error| Error::failed(error.to_string()))?;
        write_tensors(&self.path, &tensors, &[("position", &position)])
    }

    /// Restores parameters and optimiser in place from the newest checkpoint that can be read;
    /// `None` where none exists. The second value is the best parameters.
    pub fn load(&self, optimizer: &mut AdamW) -> Result<Option<(Position, Option<Vec<Tensor>>)>> {
        // A kill between a rotation and the write leaves none at the newest one's place.
        let mut found = (0..2).find(|age| self.earlier(*age).exists());
        while let Some(age) = found {
            match load(&self.earlier(age), optimizer) {
                Err(error) if self.earlier(age + 1).exists() => {
                    warn!("a checkpoint cannot be read, the one before it is taken: {error}");
                    found = Some(age + 1);
                }
                loaded => return loaded.map(Some),
            }
        }
        Ok(None)
    }

    pub fn remove(&self) -> Result<()> {
        for age in (0..2).chain((2..).take_while(|age| self.earlier(*age).exists())) {
            remove(&self.earlier(age))?;
        }
        remove(&self.reference())
    }
}

fn load(path: &Path, optimizer: &mut AdamW) -> Result<(Position, Option<Vec<Tensor>>)> {
    let _no_grad = tch::no_grad_guard();
    let unusable = |what: String| {
        Error::model(path, format!("{what}\n\nhint: start this stage anew with --from"))
    };
    let metadata = read_metadata(path)?;
    let position = metadata
        .get("position")
        .ok_or_else(|| unusable("no `position` in the checkpoint".into()))?;
    let position: Position =
        toml::from_str(position).map_err(|error| unusable(format!("`position`: {error}")))?;
    let tensors: BTreeMap<String, Tensor> = read_tensors(path)?;
    let find = |name: &str| -> Result<Tensor> {
        tensors
            .get(name)
            .map(Tensor::shallow_clone)
            .ok_or_else(|| unusable(format!("no tensor `{name}` in the checkpoint")))
    };
    optimizer.restore(position.optimizer_step, find)?;
    let names: Vec<String> = optimizer.weights().into_iter().map(|(name, _)| name).collect();
    let all = |prefix: &str| {
        names.iter().map(|name| find(&format!("{prefix}.{name}"))).collect::<Result<Vec<Tensor>>>()
    };
    optimizer.set_weights(&all("parameter")?);
    let best = position.best.is_some().then(|| all("best")).transpose()?;
    Ok((position, best))
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(path, "removing")(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::train::AdamWSettings;

    fn optimizer() -> AdamW {
        let weight = Tensor::zeros([1000], (Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
        AdamW::new(vec![("w".into(), weight)], AdamWSettings::with_decay(0.0))
    }

    fn at(step: usize) -> Position {
        Position { step, ..Position::default() }
    }

    fn steps(checkpoint: &Checkpoint) -> Vec<usize> {
        let paths = (0..9).map(|age| checkpoint.earlier(age)).take_while(|path| path.exists());
        paths.map(|path| load(&path, &mut optimizer()).unwrap().0.step).collect()
    }

    #[test]
    fn the_newest_few_stay_within_their_limit() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::at(folder.path().join("state/sft.safetensors"));
        let save = |step: usize, keep: usize, bytes: Option<u64>| {
            checkpoint.save(&at(step), &optimizer(), None, keep, bytes).unwrap()
        };
        for (step, expected) in
            [(1, vec![1]), (2, vec![2, 1]), (3, vec![3, 2, 1]), (4, vec![4, 3, 2])]
        {
            save(step, 3, None);
            assert_eq!(steps(&checkpoint), expected);
        }
        // Each takes about 12 kB.
        save(5, 3, Some(30_000));
        assert_eq!(steps(&checkpoint), [5, 4]);
        save(6, 1, None);
        assert_eq!(steps(&checkpoint), [6]);
        save(7, 2, Some(1));
        assert_eq!(steps(&checkpoint), [7], "the newest stays whatever the limit");
        save(8, 2, None);
        std::fs::write(checkpoint.reference(), "").unwrap();
        checkpoint.remove().unwrap();
        assert_eq!(std::fs::read_dir(folder.path().join("state")).unwrap().count(), 0);
    }

    #[test]
    fn a_position_is_kept_to_the_last_bit() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::at(folder.path().join("state/sft.safetensors"));
        let stream = crate::sampling::Stream::new(1, "numbers", "");
        let values: Vec<(String, f64)> =
            (0..500).map(|i| (i.to_string(), (stream.uniform(i, 0) * 20.0 - 9.0).exp())).collect();
        let best =
            Some((3, values.into_iter().chain([("none".to_owned(), f64::INFINITY)]).collect()));
        let position = Position { step: 4, best, kl_coef: Some(0.1 + 0.2), ..Position::default() };
        let optimizer = optimizer();
        let weights: Vec<Tensor> =
            optimizer.weights().into_iter().map(|(_, weight)| weight).collect();
        checkpoint.save(&position, &optimizer, Some(&weights), 1, None).unwrap();
        assert_eq!(checkpoint.load(&mut self::optimizer()).unwrap().unwrap().0, position);
    }

    #[test]
    fn a_broken_or_missing_newest_one_gives_way_to_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::at(folder.path().join("sft.safetensors"));
        assert!(checkpoint.load(&mut optimizer()).unwrap().is_none());
        for step in [1, 2] {
            checkpoint.save(&at(step), &optimizer(), None, 2, None).unwrap();
        }
        std::fs::write(checkpoint.path(), b"half").unwrap();
        assert_eq!(checkpoint.load(&mut optimizer()).unwrap().unwrap().0.step, 1);
        std::fs::remove_file(checkpoint.path()).unwrap();
        assert_eq!(checkpoint.load(&mut optimizer()).unwrap().unwrap().0.step, 1);
        std::fs::write(checkpoint.earlier(1), b"half").unwrap();
        assert!(
            checkpoint.load(&mut optimizer()).is_err(),
            "with nothing to fall back to it is an error"
        );
    }
}
