//! Links the program to libtorch so that it starts without `LD_LIBRARY_PATH`.
//!
//! `DEP_TCH_LIBTORCH_LIB` comes from torch-sys (a direct dependency for this reason) and is the folder of the libraries. It becomes the
//! binary's run path; `--enable-new-dtags` makes it a RUNPATH, so that `LD_LIBRARY_PATH` can still point one binary at another
//! libtorch 2.11.0, for example a CUDA one. The CUDA backend itself is loaded at run time (src/models/device.rs), never linked.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{lib}");
    }
}
