//! What the `alpaca_eval` package leaves: verdicts, annotations and its leaderboard. Starting it is
//! left to `alpaca_eval.rs`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::artifacts::atomic;
use crate::error::{Error, Result};
use crate::recipe::AlpacaEvalTable;
use crate::report::WinRate;

/// The files of one run of the package.
pub struct Left {
    folder: PathBuf,
    /// Where the package puts its results.
    results: PathBuf,
    verdicts: PathBuf,
}

impl Left {
    /// Beside the file of responses that is judged.
    pub fn of(file: &Path, verdicts: &Path, table: &AlpacaEvalTable) -> Self {
        let folder = file.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        let results = match table.has_own_annotators() {
            true => folder.clone(),
            false => folder.join(&table.annotators),
        };
        Self { folder, results, verdicts: verdicts.to_owned() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the package keeps its verdicts while it works.
    pub fn verdicts_file(&self) -> &Path {
        &self.verdicts
    }

    /// What the package reads of where the judge is served.
    pub fn client_file(&self) -> PathBuf {
        self.folder.join("client.json")
    }

    /// Bytes of the verdicts, which grow with them.
    pub fn verdict_bytes(&self) -> u64 {
        std::fs::metadata(self.verdicts_file()).map_or(0, |file| file.len())
    }

    /// How many verdicts there are. The package may be writing them: what cannot be read are none.
    pub fn verdicts(&self) -> usize {
        let rows = std::fs::read(self.verdicts_file()).ok();
        let rows = rows.and_then(|bytes| serde_json::from_slice::<Vec<Value>>(&bytes).ok());
        rows.map_or(0, |rows| rows.iter().filter(|row| preference(row).is_some()).count())
    }

    /// Lets the package ask again where the judge's answer was no verdict, which it keeps like one;
    /// a file that a kill left half written holds nothing that can be used.
    pub fn drop_missing_verdicts(&self) -> Result<()> {
        let file = self.verdicts_file();
        let bytes = match std::fs::read(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            bytes => bytes.map_err(Error::io(file, "reading"))?,
        };
        let rows: Vec<Value> = serde_json::from_slice(&bytes).unwrap_or_default();
        let kept: Vec<Value> = rows.into_iter().filter(|row| preference(row).is_some()).collect();
        if kept.is_empty() {
            return std::fs::remove_file(file).map_err(Error::io(file, "removing"));
        }
        atomic::write(file, Value::Array(kept).to_string().as_bytes())
    }

    /// What the package found; `prompts` has the id of each instruction.
    ///
    /// # Errors
    /// Where its files are not there, or say something else than it does in the version that this
    /// program knows.
    pub fn win_rate(&self, annotators: &str, prompts: &[(&str, &str)]) -> Result<WinRate> {
        let path = self.results.join("leaderboard.csv");
        let unread = |what: &str| {
            Error::data(
                &path,
                None,
                format!(
                    "{what}\n\nhint: this program reads what alpaca_eval 0.6 leaves; `pip install \
                     alpaca-eval==0.6.6` has it"
                ),
            )
        };
        let mut table =
            csv::Reader::from_path(&path).map_err(|error| unread(&error.to_string()))?;
        let columns = table.headers().map_err(|error| unread(&error.to_string()))?.clone();
        let row = table.records().next().and_then(|row| row.ok());
        let row = row.ok_or_else(|| unread("holds no row"))?;
        let number = |column: &str| {
            let place = columns.iter().position(|known| known == column)?;
            row.get(place)?.parse::<f64>().ok().filter(|number| number.is_finite())
        };
        let needed = |column: &str| {
            number(column).ok_or_else(|| unread(&format!("has no number in column `{column}`")))
        };
        Ok(WinRate {
            win_rate: needed("win_rate")?,
            standard_error: number("standard_error").unwrap_or(0.0),
            length_controlled_win_rate: number("length_controlled_winrate"),
            length_controlled_standard_error: number("lc_standard_error"),
            discrete_win_rate: number("discrete_win_rate"),
            judged: needed("n_total")? as usize,
            annotators: annotators.to_owned(),
            preferences: self.preferences(prompts)?,
        })
    }

    /// Preference for our response of 0 to 1, by prompt id.
    fn preferences(&self, prompts: &[(&str, &str)]) -> Result<BTreeMap<String, f64>> {
        let path = self.results.join("annotations.json");
        let bytes = std::fs::read(&path).map_err(Error::io(&path, "reading"))?;
        let rows: Vec<Value> = serde_json::from_slice(&bytes)
            .map_err(|error| Error::data(&path, Some(error.line()), error.to_string()))?;
        let by_instruction: BTreeMap<&str, f64> = rows
            .iter()
            .filter_map(|row| Some((row["instruction"].as_str()?, preference(row)? - 1.0)))
            .collect();
        let of = |(instruction, id): &(&str, &str)| {
            Some(((*id).to_owned(), *by_instruction.get(instruction)?))
        };
        Ok(prompts.iter().filter_map(of).collect())
    }
}

/// 1 for the reference's response, 2 for ours, 1.5 for a draw; `None` where there is no verdict.
fn preference(row: &Value) -> Option<f64> {
    row["preference"].as_f64().filter(|preference| (1.0..=2.0).contains(preference))
}
