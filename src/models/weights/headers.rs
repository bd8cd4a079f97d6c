//! What the headers of weights say, compared with what a model needs. The numbers themselves are
//! not looked at, so that a model of any size is checked at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::Kind;

use super::files::weight_files;
use super::tensor_file::{Stored, TensorFile};
use crate::artifacts::stand_in;
use crate::error::{Error, Result};

/// So many misfits of one kind are named; a model that is another has hundreds.
const NAMED: usize = 8;

const FLOATS: [Kind; 4] = [Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double];

/// The files of one model's weights, mapped.
pub struct Headers {
    path: PathBuf,
    pub(super) files: Vec<TensorFile>,
    /// Files that are not there or are damaged, and what is wrong with each.
    unread: Vec<(PathBuf, Vec<String>)>,
}

/// Where each tensor lies, by the name of its variable: the number of its file, and the place
/// there.
pub(super) type Places<'a> = BTreeMap<String, (usize, &'a Stored)>;

impl Headers {
    /// The headers of a model folder. Shards that are missing or damaged are told by
    /// [`Self::places`], together with what does not fit in the others.
    ///
    /// # Errors
    /// [`Error::Model`] where the folder holds no weights, [`Error::Data`] where their index cannot
    /// be used.
    pub fn open(folder: &Path) -> Result<Self> {
        let (there, missing): (Vec<PathBuf>, Vec<PathBuf>) =
            weight_files(folder)?.into_iter().partition(|path| path.is_file());
        let mut headers = Self { path: folder.to_owned(), files: Vec::new(), unread: Vec::new() };
        let links = missing.iter().find_map(|path| stand_in::refuse(path).err());
        if !missing.is_empty() {
            let missing =
                missing.iter().map(|path| format!("missing shard `{}`", path.display())).collect();
            let links = links.map(|error| error.to_string());
            let problems = bounded(missing, "shards are missing").into_iter().chain(links);
            headers.unread.push((folder.to_owned(), problems.collect()));
        }
        there.iter().for_each(|path| headers.add(path));
        Ok(headers)
    }

    /// The headers of one file.
    pub fn of_file(path: &Path) -> Self {
        let mut headers = Self { path: path.to_owned(), files: Vec::new(), unread: Vec::new() };
        headers.add(path);
        headers
    }

    fn add(&mut self, path: &Path) {
        match TensorFile::open(path) {
            Ok(file) => self.files.push(file),
            Err(Error::Model { path, problems }) => self.unread.push((path, problems)),
            Err(error) => self.unread.push((self.path.clone(), vec![error.to_string()])),
        }
    }

    fn tensors(&self) -> impl Iterator<Item = (usize, &String, &Stored)> {
        self.files.iter().enumerate().flat_map(|(number, file)| {
            file.tensors.iter().map(move |(name, stored)| (number, name, stored))
        })
    }

    /// The shape of the tensor that the files call `name`.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.files.iter().find_map(|file| Some(&file.tensors.get(name)?.shape[..]))
    }

    /// Compares every tensor with `shapes`, which `asker` (a config file) asks for. `variable`
    /// names the variable that a tensor belongs in, `None` for tensors of no use.
    ///
    /// # Errors
    /// [`Error::Model`] with all that is unreadable, missing, unexpected, misshapen or of a kind
    /// that no weights have.
    pub fn check(
        &self,
        shapes: &BTreeMap<String, Vec<i64>>,
        asker: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<()> {
        self.places(shapes, asker, variable).map(drop)
    }

    /// [`Self::check`], and where each tensor lies.
    pub(super) fn places(
        &self,
        shapes: &BTreeMap<String, Vec<i64>>,
        asker: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Places<'_>> {
        let (mut places, mut unexpected, mut misshapen, mut unusable, mut twice) =
            (Places::new(), vec![], vec![], vec![], vec![]);
        for (file, name, stored) in self.tensors() {
            let Some(target) = variable(name) else { continue };
            let Some(expected) = shapes.get(&target) else {
                unexpected.push(format!(
                    "unexpected tensor `{name}` {:?}{}",
                    stored.shape,
                    quantised(&unexpected, is_quantised_name(name))
                ));
                continue;
            };
            if !expected.iter().map(|&size| size as usize).eq(stored.shape.iter().copied()) {
                misshapen.push(format!(
                    "tensor `{name}` has shape {:?}, {asker} asks for {expected:?}",
                    stored.shape
                ));
            }
            if !stored.kind.is_some_and(|kind| FLOATS.contains(&kind)) {
                let what = unsupported(name, stored);
                unusable.push(format!(
                    "{what}: weights are F16, BF16, F32 or F64{}",
                    quantised(&unusable, is_quantised_kind(&stored.dtype))
                ));
            }
            if places.insert(target, (file, stored)).is_some() {
                twice.push(format!("tensor `{name}` is there twice"));
            }
        }
        // What is not found may lie in a file that could not be read.
        let absent =
            shapes.iter().filter(|(name, _)| self.unread.is_empty() && !places.contains_key(*name));
        let absent: Vec<String> =
            absent.map(|(name, shape)| format!("missing tensor `{name}` {shape:?}")).collect();
        let problems: Vec<String> = [
            bounded(misshapen, "tensors have another shape"),
            bounded(unusable, "tensors are stored as no floating-point numbers"),
            bounded(unexpected, "tensors are unexpected"),
            bounded(twice, "tensors are there twice"),
            bounded(absent, "tensors are missing"),
        ]
        .concat();
        let own =
            (!problems.is_empty()).then(|| Error::Model { path: self.path.clone(), problems });
        Error::all(&self.path, self.whole().err().into_iter().chain(own))?;
        Ok(places)
    }

    /// Whether every file of the weights could be read.
    pub fn whole(&self) -> Result<()> {
        Error::all(
            &self.path,
            self.unread.iter().cloned().map(|(path, problems)| Error::Model { path, problems }),
        )
    }
}

pub(super) fn unsupported(name: &str, stored: &Stored) -> String {
    format!("tensor `{name}` is stored as {}, which is not supported", stored.dtype)
}

/// The first few, and how many more there are that `are` so.
fn bounded(mut problems: Vec<String>, are: &str) -> Vec<String> {
    let more = problems.len().saturating_sub(NAMED);
    problems.truncate(NAMED);
    problems.extend((more > 0).then(|| format!("… and {more} more {are}")));
    problems
}

/// The way out, said once.
fn quantised(told: &[String], is_quantised: bool) -> &'static str {
    let first = is_quantised && !told.iter().any(|problem| problem.contains("hint: "));
    if first {
        "\n\nhint: these are quantised weights: name the folder of the model that they were made of"
    } else {
        ""
    }
}

/// As bitsandbytes, GPTQ, AWQ, compressed tensors, FP8 and MXFP4 call what belongs to a quantised
/// weight.
fn is_quantised_name(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let whole = [
        "qweight",
        "qzeros",
        "scales",
        "g_idx",
        "absmax",
        "quant_map",
        "nested_absmax",
        "SCB",
        "weight_packed",
        "weight_scale",
    ];
    whole.contains(&last)
        || ["weight_scale_", "weight_zero_point", "weight_shape", "bitsandbytes__"]
            .iter()
            .any(|start| last.starts_with(start))
}

fn is_quantised_kind(dtype: &str) -> bool {
    ["I8", "U8", "F8", "F6", "F4", "Int8", "Uint8"].iter().any(|start| dtype.starts_with(start))
}
