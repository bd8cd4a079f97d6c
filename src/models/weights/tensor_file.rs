//! One mapped file of tensors, safetensors or torch's own zip: what is in it, and views on its
//! bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, UncheckedAdvice};
use safetensors::tensor::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

use super::pickle::{self, TensorRecord};
use crate::artifacts::stand_in;
use crate::error::{Error, Result};

/// A mapped file and its checked contents. Nobody may truncate the file while it is open; what we
/// write is replaced by rename, never in place.
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
    pub tensors: BTreeMap<String, Stored>,
    /// What was stored beside the tensors.
    pub metadata: BTreeMap<String, String>,
}

/// Where a tensor lies. The bytes `start .. end` of the file hold at least its elements.
pub struct Stored {
    /// `None` if libtorch has none for it.
    pub kind: Option<Kind>,
    /// The kind's name in the file.
    pub dtype: String,
    pub shape: Vec<usize>,
    /// In elements.
    strides: Vec<usize>,
    pub start: usize,
    end: usize,
}

impl Stored {
    /// That it takes in the file.
    pub fn bytes(&self) -> usize {
        self.end - self.start
    }
}

const DAMAGED: &str = "hint: it is damaged or cut short; download or copy it again";

impl TensorFile {
    /// Told by the name: `.safetensors`, or else what `torch.save` writes.
    pub fn open(path: &Path) -> Result<Self> {
        stand_in::refuse(path)?;
        let file = File::open(path).map_err(Error::io(path, "opening"))?;
        // SAFETY: see the type's contract on truncation.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path, "mapping"))?;
        let is_safetensors = path.extension().is_some_and(|extension| extension == "safetensors");
        let (tensors, metadata) = if is_safetensors {
            safetensors(&map).map_err(|error| {
                Error::model(path, format!("not a whole safetensors file: {error}\n\n{DAMAGED}"))
            })?
        } else {
            (torch_zip(&map).map_err(|error| Error::model(path, error))?, BTreeMap::new())
        };
        Ok(Self { path: path.to_owned(), map, tensors, metadata })
    }

    /// A tensor on the mapped bytes where they are aligned, else a copy. Valid as long as the file
    /// is.
    pub fn tensor(&self, stored: &Stored) -> Result<Tensor> {
        let Some(kind) = stored.kind else {
            return Err(Error::model(
                &self.path,
                format!("{} is no kind of tensor that can be read", stored.dtype),
            ));
        };
        let bytes = &self.map[stored.start..stored.end];
        let [shape, strides] = [&stored.shape, &stored.strides]
            .map(|sizes| sizes.iter().map(|&size| size as i64).collect::<Vec<_>>());
        if bytes.is_empty() {
            return Ok(Tensor::f_empty(&shape, (kind, Device::Cpu))?);
        }
        if bytes.as_ptr().align_offset(kind.elt_size_in_bytes()) != 0 {
            let flat = Tensor::f_from_data_size(
                bytes,
                &[(bytes.len() / kind.elt_size_in_bytes()) as i64],
                kind,
            )?;
            return Ok(flat.f_as_strided(&shape, &strides, 0)?);
        }
        // SAFETY: shape, strides and kind were checked to lie within these bytes; callers only copy
        // from the result while `self` lives.
        Ok(unsafe { Tensor::f_from_blob(bytes.as_ptr(), &shape, &strides, kind, Device::Cpu) }?)
    }

    /// Lets go of a tensor's pages, so that loading a model does not hold it twice. They are read
    /// again if asked for.
    pub fn release(&self, stored: &Stored) {
        // SAFETY: the map is of a file and never written, so that its pages come back with the same
        // bytes.
        let advised = unsafe {
            self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, stored.start, stored.bytes())
        };
        if let Err(error) = advised {
            tracing::debug!("{}: releasing pages: {error}", self.path.display());
        }
    }
}

type Contents = (BTreeMap<String, Stored>, BTreeMap<String, String>);

fn safetensors(map: &[u8]) -> Result<Contents, String> {
    let (length, header) = SafeTensors::read_metadata(map).map_err(|error| error.to_string())?;
    let data = size_of::<u64>() + length;
    let stored = |info: &safetensors::tensor::TensorInfo| Stored {
        kind: kind_of(info.dtype),
        dtype: info.dtype.to_string(),
        shape: info.shape.clone(),
        strides: contiguous(&info.shape),
        start: data + info.data_offsets.0,
        end: data + info.data_offsets.1,
    };
    let tensors = header.tensors().into_iter().map(|(name, info)| (name, stored(info))).collect();
    Ok((
        tensors,
        header
            .metadata()
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    ))
}

/// Row-major strides. The header's reader has checked that the sizes multiply to the bytes that are
/// there.
fn contiguous(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for dim in (1..shape.len()).rev() {
        strides[dim - 1] = strides[dim].saturating_mul(shape[dim]);
    }
    strides
}

/// What `torch.save` has written since 1.6: an uncompressed zip archive with a pickle and a record
/// for each storage.
fn torch_zip(map: &[u8]) -> Result<BTreeMap<String, Stored>, String> {
    const HINT: &str = "hint: open the model in transformers and save it again as safetensors";
    let mut archive = zip::ZipArchive::new(Cursor::new(map)).map_err(|error| {
        if map.starts_with(&[0x80, 2]) {
            return format!(
                "is a file of torch before version 1.6, which is not supported\n\n{HINT}"
            );
        }
        format!("not a whole zip archive of torch.save: {error}\n\n{DAMAGED}")
    })?;
    let damaged = |error: String| format!("not a file of torch.save: {error}\n\n{DAMAGED}");
    let mut records = BTreeMap::new();
    for index in 0..archive.len() {
        let record = archive.by_index_raw(index).map_err(|error| damaged(error.to_string()))?;
        let name = record.name().map_err(|error| damaged(error.to_string()))?.into_owned();
        if record.compression() != zip::CompressionMethod::Stored || record.encrypted() {
            return Err(damaged(format!("its record `{name}` is compressed or encrypted")));
        }
        let start = record.data_start().and_then(|start| usize::try_from(start).ok());
        let range = start.and_then(|start| {
            Some((start, start.checked_add(usize::try_from(record.size()).ok()?)?))
        });
        let range = range
            .filter(|&(_, end)| end <= map.len())
            .ok_or_else(|| damaged(format!("its record `{name}` is cut short")))?;
        records.insert(name, range);
    }
    let folder = records
        .keys()
        .find_map(|name| name.strip_suffix("/data.pkl"))
        .ok_or_else(|| damaged("it has no `data.pkl`".to_owned()))?;
    if records
        .get(&format!("{folder}/byteorder"))
        .is_some_and(|&(start, end)| &map[start..end] != b"little")
    {
        return Err(format!("is a file of a big-endian machine, which is not supported\n\n{HINT}"));
    }
    let (start, end) = records[&format!("{folder}/data.pkl")];
    let tensors = pickle::state_dict(&map[start..end])
        .map_err(|error| format!("not the weights of a model: {error}\n\n{HINT}"))?;
    let locate = |(name, tensor): (String, TensorRecord)| {
        let range = records.get(&format!("{folder}/data/{}", tensor.storage));
        let stored = range.and_then(|&range| within(&tensor, range));
        stored
            .map(|stored| (name.clone(), stored))
            .ok_or_else(|| damaged(format!("tensor `{name}` is not within its storage")))
    };
    tensors.into_iter().map(locate).collect()
}

/// The tensor's place in the file if all its elements lie within the storage's bytes `start ..
/// end`.
fn within(tensor: &TensorRecord, (start, end): (usize, usize)) -> Option<Stored> {
    let size = tensor.kind.elt_size_in_bytes();
    let first = start.checked_add(tensor.offset.checked_mul(size)?)?;
    let is_empty = tensor.shape.contains(&0);
    let mut last = 0usize;
    let mut elements = 1usize;
    for (&extent, &stride) in tensor.shape.iter().zip(&tensor.strides) {
        // A stride of 0 would let a few bytes pretend to be a tensor of any size.
        if extent > 1 && stride == 0 {
            return None;
        }
        elements = elements.checked_mul(extent)?;
        last = last.checked_add(extent.saturating_sub(1).checked_mul(stride)?)?;
    }
    let bytes = if is_empty { 0 } else { last.checked_add(1)?.checked_mul(size)? };
    let stop = first.checked_add(bytes)?;
    let fits = stop <= end && elements.checked_mul(size)? <= end - start;
    let (shape, strides) = (tensor.shape.clone(), tensor.strides.clone());
    fits.then(|| Stored {
        kind: Some(tensor.kind),
        dtype: format!("{:?}", tensor.kind),
        shape,
        strides,
        start: first,
        end: stop,
    })
}

const KINDS: [(Dtype, Kind); 10] = [
    (Dtype::BOOL, Kind::Bool),
    (Dtype::U8, Kind::Uint8),
    (Dtype::I8, Kind::Int8),
    (Dtype::I16, Kind::Int16),
    (Dtype::I32, Kind::Int),
    (Dtype::I64, Kind::Int64),
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::F32, Kind::Float),
    (Dtype::F64, Kind::Double),
];

fn kind_of(dtype: Dtype) -> Option<Kind> {
    KINDS.iter().find(|(known, _)| *known == dtype).map(|(_, kind)| *kind)
}

pub fn dtype_of(kind: Kind) -> Option<Dtype> {
    KINDS.iter().find(|(_, known)| *known == kind).map(|(dtype, _)| *dtype)
}
