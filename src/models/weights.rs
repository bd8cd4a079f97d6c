//! safetensors files: read memory-mapped and tensor by tensor, written atomically in a stable order.
//!
//! The safetensors crate checks header, shapes and offsets; nothing in a file is trusted beyond that, and nothing is executed.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::Path;

use memmap2::Mmap;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};
use tch::{Kind, Tensor};

use crate::artifacts::atomic;
use crate::error::{Error, Result};

/// A memory-mapped safetensors file whose header is valid.
pub struct WeightFile {
    map: Mmap,
    metadata: Metadata,
    data_start: usize,
    path: std::path::PathBuf,
}

impl WeightFile {
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path, "opening the weights"))?;
        // SAFETY: the map is only read; a file that another process truncates meanwhile ends this one, as with every mapped file.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path, "mapping the weights"))?;
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|error| {
            Error::model(
                path,
                format!("not a valid safetensors file: {error}\n\nhint: the file is damaged or incomplete; download or copy it again"),
            )
        })?;
        let data_start = header + 8;
        let (have, need) = (map.len() - data_start.min(map.len()), metadata.data_len());
        if have != need {
            return Err(Error::model(
                path,
                format!(
                    "holds {have} bytes of tensors where its header promises {need}\n\nhint: the file is incomplete; download or copy it again"
                ),
            ));
        }
        Ok(Self { map, metadata, data_start, path: path.to_owned() })
    }

    /// Names in order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.metadata.tensors().into_keys().collect();
        names.sort();
        names
    }

    /// Shape of a tensor; `None` where the file has none of that name.
    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        Some(self.metadata.info(name)?.shape.iter().map(|&size| size as i64).collect())
    }

    /// A copy of one tensor in the kind that the file holds it in.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let missing = || Error::model(&self.path, format!("no tensor `{name}`"));
        let info = self.metadata.info(name).ok_or_else(missing)?;
        let kind = kind_of(info.dtype)
            .ok_or_else(|| Error::model(&self.path, format!("tensor `{name}` is {:?}; supported: {}", info.dtype, supported())))?;
        let (start, end) = info.data_offsets;
        let bytes = &self.map[self.data_start + start..self.data_start + end];
        let shape: Vec<i64> = info.shape.iter().map(|&size| size as i64).collect();
        Ok(Tensor::f_from_data_size(bytes, &shape, kind)?)
    }

    /// The strings stored beside the tensors.
    pub fn strings(&self) -> BTreeMap<String, String> {
        self.metadata.metadata().clone().unwrap_or_default().into_iter().collect()
    }
}

const KINDS: [(Dtype, Kind); 9] = [
    (Dtype::F32, Kind::Float),
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::F64, Kind::Double),
    (Dtype::I64, Kind::Int64),
    (Dtype::I32, Kind::Int),
    (Dtype::I8, Kind::Int8),
    (Dtype::U8, Kind::Uint8),
    (Dtype::BOOL, Kind::Bool),
];

fn kind_of(dtype: Dtype) -> Option<Kind> {
    KINDS.iter().find(|(known, _)| *known == dtype).map(|(_, kind)| *kind)
}

fn supported() -> String {
    KINDS.map(|(dtype, _)| format!("{dtype:?}")).join(", ")
}

/// Every tensor of a small file, by name.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let file = WeightFile::open(path)?;
    file.names().into_iter().map(|name| Ok((name.clone(), file.tensor(&name)?))).collect()
}

/// The strings stored beside the tensors of a file.
pub fn read_metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    Ok(WeightFile::open(path)?.strings())
}

/// Writes tensors in the order of their names, one at a time, with `strings` beside them. Atomic.
pub fn write_tensors(path: &Path, tensors: &[(String, Tensor)], strings: &[(&str, &str)]) -> Result<()> {
    let mut sorted: Vec<&(String, Tensor)> = tensors.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut infos = Vec::with_capacity(sorted.len());
    let mut offset = 0;
    for (name, tensor) in &sorted {
        let dtype = KINDS.iter().find(|(_, kind)| *kind == tensor.kind()).map(|(dtype, _)| *dtype);
        let dtype = dtype.ok_or_else(|| Error::failed(format!("tensor `{name}` of kind {:?} cannot be saved", tensor.kind())))?;
        let bytes = tensor.numel() * tensor.kind().elt_size_in_bytes();
        let shape = tensor.size().into_iter().map(|size| size as usize).collect();
        infos.push((name.clone(), TensorInfo { dtype, shape, data_offsets: (offset, offset + bytes) }));
        offset += bytes;
    }
    let strings: HashMap<String, String> = strings.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let refused = |error: String| Error::model(path, error);
    let metadata = Metadata::new(Some(strings), infos).map_err(|error| refused(error.to_string()))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| refused(error.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    atomic::write_with(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for (_, tensor) in &sorted {
            let tensor = tensor.detach().to_device(tch::Device::Cpu).contiguous();
            let length = tensor.numel() * tensor.kind().elt_size_in_bytes();
            if length > 0 {
                // SAFETY: a contiguous CPU tensor owns `length` initialised bytes at its data pointer and lives to the end of this block.
                file.write_all(unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<u8>(), length) })?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_survive_the_round_trip_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/x.safetensors");
        let tensors = [
            ("b".to_owned(), Tensor::from_slice(&[1.5f32, f32::NAN, -0.0]).view([3, 1])),
            ("a".to_owned(), Tensor::from_slice(&[1i64, -2]).to_kind(Kind::BFloat16)),
            ("t".to_owned(), Tensor::from_slice(&[1i64, 2, 3, 4]).view([2, 2]).transpose(0, 1)),
            ("empty".to_owned(), Tensor::zeros([0, 4], (Kind::Float, tch::Device::Cpu))),
        ];
        write_tensors(&path, &tensors, &[("format", "pt")]).unwrap();
        let first = std::fs::read(&path).unwrap();
        write_tensors(&path, &tensors, &[("format", "pt")]).unwrap();
        assert_eq!(first, std::fs::read(&path).unwrap(), "the same tensors give the same file");
        let read = read_tensors(&path).unwrap();
        assert_eq!(read.keys().collect::<Vec<_>>(), ["a", "b", "empty", "t"]);
        assert_eq!(Vec::<i64>::try_from(read["t"].flatten(0, -1)).unwrap(), [1, 3, 2, 4]);
        assert_eq!(read["a"].kind(), Kind::BFloat16);
        assert_eq!(read["b"].size(), [3, 1]);
        let bits: Vec<u32> = Vec::<f32>::try_from(read["b"].flatten(0, -1)).unwrap().iter().map(|x| x.to_bits()).collect();
        assert_eq!(bits, [1.5f32.to_bits(), f32::NAN.to_bits(), (-0.0f32).to_bits()]);
        assert_eq!(read_metadata(&path).unwrap()["format"], "pt");
    }

    #[test]
    fn damaged_files_are_one_clear_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        write_tensors(&path, &[("a".into(), Tensor::from_slice(&[1.0f32, 2.0]))], &[]).unwrap();
        let good = std::fs::read(&path).unwrap();
        let mut huge_header = good.clone();
        huge_header[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        let mut garbage = good.clone();
        garbage[8..14].copy_from_slice(b"}}{{::");
        let mut longer = good.clone();
        longer.push(0);
        for bad in [&good[..good.len() - 1], &good[..4], &[], &huge_header, &garbage, &longer] {
            std::fs::write(&path, bad).unwrap();
            let error = WeightFile::open(&path).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("x.safetensors") && !error.contains("panicked"), "{error}");
        }
    }
}
