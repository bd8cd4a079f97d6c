//! Where tensors live: reads `device`, loads the CUDA backend beside the libtorch in use, chooses
//! the inference precision.
//!
//! One binary serves both: it links the CPU libraries only, and `libtorch_cuda.so` registers itself
//! when it is loaded. That must happen before the first tensor, because libtorch decides once
//! whether CUDA is there.

use std::ffi::CStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tch::{Device, Kind};

use super::memory::MainMemory;
use super::threads::Threads;
use crate::error::{Error, Result};
use crate::kernels::choice::ProductReport;
use crate::recipe::{DeviceName, Dtype};

/// `cpu`, `cuda` or `cuda:N`. Asking for CUDA loads its backend; an [`Error::Failed`] tells why
/// there is none.
pub fn parse(device: &str) -> Result<Device> {
    let index = match DeviceName::parse(device) {
        Some(DeviceName::Cpu) => return Ok(Device::Cpu),
        Some(DeviceName::Cuda(index)) => index,
        None => {
            let hint = "hint: use `cpu`, `cuda` or `cuda:N`, such as `cuda:0`";
            return Err(Error::recipe(format!("device = `{device}` is not a device\n\n{hint}")));
        }
    };
    let hint = "hint: use `cpu`, or see `w2s doctor`";
    let count = cuda_devices()
        .map_err(|reason| Error::failed(format!("device = `{device}`: {reason}\n\n{hint}")))?;
    if index >= count {
        let there = if count == 1 {
            "only `cuda:0` is there".to_owned()
        } else {
            format!("there are `cuda:0` to `cuda:{}`", count - 1)
        };
        return Err(Error::failed(format!("device = `{device}`: {there}\n\n{hint}")));
    }
    Ok(Device::Cuda(index))
}

/// Loads `libtorch_cuda.so` from beside the libtorch in use; once, later calls repeat the first
/// answer. Call it before the first tensor.
pub fn load_cuda_backend() -> Result<()> {
    load_once().clone().map_err(Error::Failed)
}

/// The kind of forward and backward passes in training, where inference runs in `inference`: the
/// small gradients of f16 would need scaling.
pub fn training_kind(inference: Kind) -> Kind {
    match inference {
        Kind::Half => Kind::Float,
        kind => kind,
    }
}

/// The kind of weights and activations at inference. `auto`: bf16 where it is native (CUDA,
/// AVX512-BF16, AMX), f32 elsewhere.
pub fn inference_kind(dtype: Dtype, device: Device) -> Kind {
    match dtype {
        Dtype::Float32 => Kind::Float,
        Dtype::Bfloat16 => Kind::BFloat16,
        Dtype::Float16 => Kind::Half,
        Dtype::Auto if device.is_cuda() || processor_bf16().is_some() => Kind::BFloat16,
        Dtype::Auto => Kind::Float,
    }
}

/// What this machine offers, for `w2s doctor`.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceReport {
    pub libtorch_version: Option<String>,
    /// The `libtorch_cpu.so` in use.
    pub libtorch: Option<PathBuf>,
    /// Number of CUDA devices, or why there are none.
    pub cuda: Result<usize, String>,
    /// Threads of libtorch's CPU operators.
    pub threads: Threads,
    /// The main memory; `None` where the kernel does not tell.
    pub memory: Option<MainMemory>,
    /// The processor's bf16 instructions.
    pub bf16: Option<&'static str>,
}

impl DeviceReport {
    /// Loads the CUDA backend if there is one.
    pub fn collect() -> Self {
        Self {
            cuda: cuda_devices(),
            libtorch_version: libtorch_version(),
            libtorch: libtorch_path(),
            threads: Threads::choose(None),
            memory: MainMemory::now(),
            bf16: processor_bf16(),
        }
    }
}

impl fmt::Display for DeviceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.libtorch_version.as_deref().unwrap_or("of unknown version");
        match &self.libtorch {
            Some(path) => writeln!(f, "libtorch   {version} ({})", path.display())?,
            None => writeln!(f, "libtorch   {version}")?,
        }
        match &self.cuda {
            Ok(1) => writeln!(f, "cuda       yes, 1 device")?,
            Ok(count) => writeln!(f, "cuda       yes, {count} devices")?,
            Err(reason) => writeln!(f, "cuda       no: {reason}")?,
        }
        writeln!(f, "threads    {}", self.threads)?;
        match &self.memory {
            Some(memory) => writeln!(f, "memory     {memory}")?,
            None => writeln!(f, "memory     unknown")?,
        }
        match self.bf16 {
            Some(flag) => writeln!(f, "processor  bf16 ({flag}); dtype = \"auto\" is bfloat16")?,
            None => writeln!(f, "processor  no bf16; dtype = \"auto\" is float32")?,
        }
        write!(f, "products   {ProductReport}")
    }
}

fn cuda_devices() -> Result<usize, String> {
    load_once().clone()?;
    match tch::Cuda::device_count() {
        count if count > 0 => Ok(count as usize),
        // SAFETY: loading the driver's library runs its initialisers only, as libtorch_cuda.so has
        // done just before.
        _ if unsafe { libloading::Library::new("libcuda.so.1") }.is_err() => {
            Err("no NVIDIA driver (`libcuda.so.1` was not found)".to_owned())
        }
        _ => Err("the NVIDIA driver shows no usable GPU (is it too old, or is \
                  `CUDA_VISIBLE_DEVICES` set?)"
            .to_owned()),
    }
}

fn load_once() -> &'static Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(|| {
        let cpu = libtorch_path().ok_or("the libtorch in use could not be found")?;
        load_beside(&cpu)
    })
}

fn load_beside(libtorch_cpu: &Path) -> Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    let path = libtorch_cpu.with_file_name("libtorch_cuda.so");
    if !path.exists() {
        let folder = libtorch_cpu.parent().unwrap_or(Path::new(".")).display();
        return Err(format!(
            "this libtorch is built for the CPU only (no `libtorch_cuda.so` in {folder})"
        ));
    }
    // SAFETY: the library comes from the same installation as the libtorch that is linked; its
    // initialisers register kernels.
    match unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
        // Its kernels stay registered for good, so it must never be unloaded.
        Ok(library) => {
            std::mem::forget(library);
            Ok(())
        }
        Err(error) => {
            // The loader's own words (which library is missing) are the source.
            let reason = std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), ToString::to_string);
            Err(format!("`libtorch_cuda.so` could not be loaded: {reason}"))
        }
    }
}

/// From the memory map: what is loaded, whatever run path or `LD_LIBRARY_PATH` said.
fn libtorch_path() -> Option<PathBuf> {
    path_in_maps(&fs::read_to_string("/proc/self/maps").ok()?)
}

fn path_in_maps(maps: &str) -> Option<PathBuf> {
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    line.find('/').map(|start| PathBuf::from(&line[start..]))
}

/// The version of the libtorch in use, which `LD_LIBRARY_PATH` may have changed since the build.
fn libtorch_version() -> Option<String> {
    type AbiVersion = unsafe extern "C" fn() -> u64;
    const SYMBOL: &CStr = c"aoti_torch_abi_version";
    let this = libloading::os::unix::Library::this();
    // SAFETY: libtorch's stable C interface (aoti_torch/c/shim.h) declares the function so.
    let version = unsafe { this.get::<AbiVersion>(SYMBOL).ok().map(|function| function()) }?;
    // One byte each from the top: major, minor, patch.
    let [major, minor, patch, ..] = version.to_be_bytes();
    Some(format!("{major}.{minor}.{patch}"))
}

fn processor_bf16() -> Option<&'static str> {
    static FLAG: OnceLock<Option<&'static str>> = OnceLock::new();
    *FLAG.get_or_init(|| bf16_flag(&fs::read_to_string("/proc/cpuinfo").ok()?))
}

fn bf16_flag(cpuinfo: &str) -> Option<&'static str> {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"))?;
    ["amx_bf16", "avx512_bf16"]
        .into_iter()
        .find(|wanted| flags.split_whitespace().any(|flag| flag == *wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_nonsense_is_a_recipe_error() {
        assert_eq!(parse("cpu").unwrap(), Device::Cpu);
        for wrong in ["gpu", "", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "CPU"] {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong}");
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("device = `{wrong}` is not a device\n\nhint: ")),
                "{error}"
            );
        }
    }

    #[test]
    fn cuda_that_is_not_there_fails_with_the_reason() {
        match DeviceReport::collect().cuda {
            Ok(count) => {
                assert_eq!(parse("cuda").unwrap(), Device::Cuda(0));
                let message = parse(&format!("cuda:{count}")).unwrap_err().to_string();
                assert!(message.contains("is there") || message.contains("there are"), "{message}");
            }
            Err(reason) => {
                let error = parse("cuda:1").unwrap_err();
                assert_eq!(error.exit_code(), 1);
                assert_eq!(
                    error.to_string(),
                    format!("device = `cuda:1`: {reason}\n\nhint: use `cpu`, or see `w2s doctor`")
                );
            }
        }
    }

    #[test]
    fn a_missing_or_broken_backend_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let cpu = folder.path().join("libtorch_cpu.so");
        let missing = load_beside(&cpu).unwrap_err();
        assert!(
            missing.contains("built for the CPU only")
                && missing.contains(&folder.path().display().to_string()),
            "{missing}"
        );
        fs::write(folder.path().join("libtorch_cuda.so"), "not a library").unwrap();
        let broken = load_beside(&cpu).unwrap_err();
        assert!(
            broken.starts_with("`libtorch_cuda.so` could not be loaded: ")
                && broken.contains("too short"),
            "{broken}"
        );
    }

    #[test]
    fn the_libtorch_in_use_is_found() {
        let report = DeviceReport::collect();
        assert!(report.libtorch.as_ref().is_some_and(|path| path.exists()), "{report}");
        assert_eq!(
            report.libtorch_version.as_deref(),
            Some("2.11.0"),
            "tch 0.24 is made for this one"
        );
        assert!(report.threads.count >= 1);
        let maps = "7f00-7f01 r-xp 00000000 08:01 42  /usr/lib/libc.so.6\n7f02-7f03 r-xp 0 08:01 \
                    43   /opt/my torch/lib/libtorch_cpu.so\n";
        assert_eq!(path_in_maps(maps), Some(PathBuf::from("/opt/my torch/lib/libtorch_cpu.so")));
        assert_eq!(path_in_maps("7f00-7f01 r-xp 0 08:01 42 /lib/libtorch_cpu.so.old\n"), None);
    }

    #[test]
    fn auto_follows_the_processor() {
        assert_eq!(bf16_flag("flags\t\t: fpu avx512f avx512_bf16 sse\n"), Some("avx512_bf16"));
        assert_eq!(bf16_flag("flags\t\t: fpu avx512f avx512_bf16x\n"), None);
        assert_eq!(bf16_flag("model name\t: avx512_bf16\nflags\t\t: fpu\n"), None);
        let auto = if processor_bf16().is_some() { Kind::BFloat16 } else { Kind::Float };
        assert_eq!(inference_kind(Dtype::Auto, Device::Cpu), auto);
        assert_eq!(inference_kind(Dtype::Auto, Device::Cuda(0)), Kind::BFloat16);
        assert_eq!(inference_kind(Dtype::Float32, Device::Cuda(0)), Kind::Float);
        assert_eq!(inference_kind(Dtype::Float16, Device::Cpu), Kind::Half);
    }
}
