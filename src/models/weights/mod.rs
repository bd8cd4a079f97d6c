//! Tensors in files: memory-mapped reading of safetensors and of `torch.save`, loading into a
//! model's variables, and atomic writing.
//!
//! Nothing here knows a model. The kinds are ours to map: libtorch's own loaders change kinds
//! silently and ignore what they do not expect.

mod files;
mod headers;
mod pickle;
mod tensor_file;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value};
use tch::{Device, Kind, Tensor};

use crate::artifacts::atomic;
use crate::error::{Error, Result};
pub(super) use files::weight_files;
pub use headers::Headers;
use headers::unsupported;
use tensor_file::{Stored, TensorFile, dtype_of};

/// Bytes of a tensor that are looked at in one piece.
const SLICE: usize = 32 << 20;

/// All tensors of a file, copied into memory in the file's kinds.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let file = TensorFile::open(path)?;
    let mut tensors = BTreeMap::new();
    for (name, stored) in &file.tensors {
        let kind = stored.kind.ok_or_else(|| Error::model(path, unsupported(name, stored)))?;
        let mapped = file.tensor(stored)?;
        let mut owned = Tensor::f_empty(mapped.size(), (kind, Device::Cpu))?;
        owned.f_copy_(&mapped)?;
        tensors.insert(name.clone(), owned);
    }
    Ok(tensors)
}

/// The text that [`write_tensors`] stored beside the tensors.
pub fn read_metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    Ok(TensorFile::open(path)?.metadata)
}

/// How many numbers the weight files of a model folder hold.
pub fn stored_numbers(folder: &Path) -> Result<u64> {
    let mut numbers = 0;
    for path in weight_files(folder)? {
        numbers += TensorFile::open(&path)?
            .tensors
            .values()
            .map(|stored| stored.shape.iter().product::<usize>() as u64)
            .sum::<u64>();
    }
    Ok(numbers)
}

/// Writes a file that appears whole or not at all. The order on disk depends on kinds and names
/// only, so equal tensors give equal bytes. `format = "pt"` is added to the metadata, which
/// transformers asks for.
pub fn write_tensors(
    path: &Path,
    tensors: &[(String, Tensor)],
    metadata: &[(&str, &str)],
) -> Result<()> {
    let mut sorted: Vec<&(String, Tensor)> = tensors.iter().collect();
    // Wide elements first, so that every tensor begins at a multiple of its element size.
    sorted.sort_by(|(left, a), (right, b)| {
        b.kind()
            .elt_size_in_bytes()
            .cmp(&a.kind().elt_size_in_bytes())
            .then_with(|| left.cmp(right))
    });

    let mut header = Map::new();
    let mut texts: BTreeMap<&str, &str> = metadata.iter().copied().collect();
    texts.insert("format", "pt");
    header.insert(
        "__metadata__".to_owned(),
        serde_json::to_value(texts).expect("a map of strings is JSON"),
    );
    let mut end = 0;
    for (name, tensor) in &sorted {
        let dtype = dtype_of(tensor.kind())
            .ok_or_else(|| Error::failed(format!("`{name}`: cannot save {:?}", tensor.kind())))?;
        let start = end;
        end += tensor.numel() * tensor.kind().elt_size_in_bytes();
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        let info = serde_json::to_value(TensorInfo { dtype, shape, data_offsets: (start, end) })
            .expect("a tensor's info is JSON");
        if header.insert(name.clone(), info).is_some() {
            return Err(Error::failed(format!(
                "`{name}` is given twice to be saved in {}",
                path.display()
            )));
        }
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');

    atomic::write_with(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for (_, tensor) in &sorted {
            write_bytes(tensor, file)?;
        }
        Ok(())
    })
}

/// Copies the weights of a model folder into `variables`, converting to their kind and device.
/// `variable` names the variable that a tensor belongs in, `None` for tensors of no use. The
/// variables and the files must agree in every name and shape; else the error lists what is
/// missing, unexpected or misshapen.
pub fn load(
    folder: &Path,
    variables: &BTreeMap<String, Tensor>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<()> {
    copy_all(&Headers::open(folder)?, variables, "config.json", variable)
}

/// [`load`] of one file, whose tensors are called as the variables and were asked for by the file
/// `asker`.
pub fn load_file(path: &Path, variables: &BTreeMap<String, Tensor>, asker: &str) -> Result<()> {
    copy_all(&Headers::of_file(path), variables, asker, |name| Some(name.to_owned()))
}

/// Whether the folder's tensor called `name` holds the numbers of `tensor`, in its kind; yes, where
/// there is none of that name.
pub fn holds_again(folder: &Path, name: &str, tensor: &Tensor) -> Result<bool> {
    let _no_grad = tch::no_grad_guard();
    let headers = Headers::open(folder)?;
    let Some((file, stored)) =
        headers.files.iter().find_map(|file| Some((file, file.tensors.get(name)?)))
    else {
        return Ok(true);
    };
    let mapped = file.tensor(stored)?;
    if mapped.size() != tensor.size() {
        return Ok(false);
    }
    let rows = stored.shape.first().copied().unwrap_or(1);
    let step = (rows * SLICE).checked_div(stored.bytes()).unwrap_or(rows).clamp(1, rows.max(1));
    for start in (0..rows).step_by(step) {
        let slice =
            |tensor: &Tensor| tensor.f_narrow(0, start as i64, step.min(rows - start) as i64);
        let again = slice(&mapped)?.f_to_kind(tensor.kind())?.f_to_device(tensor.device())?;
        if !again.f_equal(&slice(tensor)?)? {
            return Ok(false);
        }
        file.release(stored);
    }
    Ok(true)
}

fn copy_all(
    headers: &Headers,
    variables: &BTreeMap<String, Tensor>,
    asker: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let shapes = variables.iter().map(|(name, variable)| (name.clone(), variable.size())).collect();
    let places = headers.places(&shapes, asker, variable)?;
    // In the order of the disk.
    let mut in_order: Vec<(usize, &Stored, &Tensor)> =
        places.iter().map(|(name, &(file, stored))| (file, stored, &variables[name])).collect();
    in_order.sort_by_key(|(file, stored, _)| (*file, stored.start));
    for (file, stored, variable) in in_order {
        copy(&headers.files[file], stored, variable)?;
    }
    Ok(())
}

/// Copies in slices of the first dimension and lets go of each slice's pages, so that a large
/// embedding is never there twice.
fn copy(file: &TensorFile, stored: &Stored, variable: &Tensor) -> Result<()> {
    let mapped = file.tensor(stored)?;
    let rows = stored.shape.first().copied().unwrap_or(1);
    let pieces = stored.bytes().div_ceil(SLICE).clamp(1, rows.max(1));
    if pieces == 1 {
        variable.shallow_clone().f_copy_(&mapped)?;
    } else {
        let step = rows.div_ceil(pieces);
        for start in (0..rows).step_by(step) {
            let count = step.min(rows - start) as i64;
            variable.f_narrow(0, start as i64, count)?.f_copy_(&mapped.f_narrow(
                0,
                start as i64,
                count,
            )?)?;
            file.release(stored);
        }
    }
    file.release(stored);
    Ok(())
}

fn write_bytes(tensor: &Tensor, file: &mut impl Write) -> io::Result<()> {
    let other = |error: tch::TchError| io::Error::other(error.to_string());
    let tensor = tensor
        .detach()
        .f_to_device(Device::Cpu)
        .and_then(|tensor| tensor.f_contiguous())
        .map_err(other)?;
    if tensor.numel() == 0 {
        return Ok(());
    }
    // SAFETY: a contiguous tensor in main memory, alive until the slice has been written.
    let bytes = unsafe {
        std::slice::from_raw_parts(
            tensor.data_ptr().cast::<u8>(),
            tensor.numel() * tensor.kind().elt_size_in_bytes(),
        )
    };
    file.write_all(bytes)
}

/// The name that configs give a kind of weights.
pub fn dtype_name(kind: Kind) -> Cow<'static, str> {
    match kind {
        Kind::Float => "float32".into(),
        Kind::BFloat16 => "bfloat16".into(),
        Kind::Half => "float16".into(),
        other => format!("{other:?}").to_lowercase().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_bit_by_bit_with_its_metadata() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/checkpoint.safetensors");
        let numbers = Tensor::from_slice(&[0.1f32, -2.5, 3e-5, 7.0, 1e9, -0.0]).view([2, 3]);
        let mut tensors: Vec<(String, Tensor)> =
            [Kind::Float, Kind::BFloat16, Kind::Half, Kind::Double]
                .iter()
                .map(|kind| (format!("{kind:?}"), numbers.to_kind(*kind)))
                .collect();
        tensors.push(("odd bytes".into(), Tensor::from_slice(&[1u8, 2, 255])));
        tensors.push(("step".into(), Tensor::from(1i64 << 40)));
        tensors.push(("transposed".into(), numbers.transpose(0, 1)));
        tensors.push(("empty".into(), Tensor::zeros([0, 4], (Kind::Float, Device::Cpu))));
        tensors.push(("mask".into(), numbers.gt(0.0)));
        write_tensors(&path, &tensors, &[("step", "12"), ("stage", "dpo")]).unwrap();

        let read = read_tensors(&path).unwrap();
        assert_eq!(read.len(), tensors.len());
        for (name, tensor) in &tensors {
            assert_eq!(
                (read[name].kind(), read[name].size()),
                (tensor.kind(), tensor.size()),
                "{name}"
            );
            assert!(read[name].equal(tensor), "{name}");
        }
        let metadata = read_metadata(&path).unwrap();
        assert_eq!(
            metadata.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
            ["format=pt", "stage=dpo", "step=12"]
        );

        let bytes = std::fs::read(&path).unwrap();
        tensors.reverse();
        write_tensors(&path, &tensors, &[("stage", "dpo"), ("step", "12")]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "the order given does not matter");
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let twice = ["a", "a"].map(|name| (name.to_owned(), Tensor::from(1.0)));
        assert!(
            write_tensors(&path, &twice, &[])
                .unwrap_err()
                .to_string()
                .contains("`a` is given twice")
        );
        assert!(!path.exists());
    }

    #[test]
    fn damaged_files_are_one_clear_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        write_tensors(&path, &[("a".into(), Tensor::from_slice(&[1.0f32; 100]))], &[]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut garbled = whole.clone();
        garbled[12] = 0xff;
        let mut huge = whole.clone();
        huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        for damaged in [
            &[][..],
            &whole[..4],
            &whole[..60],
            &whole[..whole.len() - 1],
            &[&whole[..], b"x"].concat(),
            &garbled,
            &huge,
        ] {
            std::fs::write(&path, damaged).unwrap();
            let message = read_tensors(&path).unwrap_err().to_string();
            assert!(
                message.contains("model.safetensors: not a whole safetensors file: "),
                "{message}"
            );
            assert!(
                message.contains("hint: it is damaged or cut short; download or copy it again"),
                "{message}"
            );
        }
    }
}
