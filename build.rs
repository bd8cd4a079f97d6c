//! Builds the products of src/kernels/onednn.cpp against the libtorch in use, and links the program
//! to it so that it starts without `LD_LIBRARY_PATH`.
//!
//! `DEP_TCH_LIBTORCH_LIB` comes from torch-sys (a direct dependency for this reason) and is the
//! folder of the libraries. It becomes the binary's run path; `--enable-new-dtags` makes it a
//! RUNPATH, so that `LD_LIBRARY_PATH` can still point one binary at another libtorch 2.11.0, for
//! example a CUDA one. The CUDA backend itself is loaded at run time (src/models/device.rs), never
//! linked.

use std::path::PathBuf;

const PRODUCTS: &str = "src/kernels/onednn.cpp";

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
    println!("cargo:rerun-if-changed={PRODUCTS}");
    let lib = std::env::var("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from);
    let lib = lib.unwrap_or_else(|_| {
        fail("torch-sys did not say where libtorch is", "set LIBTORCH, or run `make libtorch`")
    });
    println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{}", lib.display());

    let include = std::env::var_os("LIBTORCH_INCLUDE")
        .map_or_else(|| lib.with_file_name("include"), |root| PathBuf::from(root).join("include"));
    let header = include.join("torch/csrc/autograd/custom_function.h");
    if !header.is_file() {
        fail(
            &format!(
                "the libtorch in {} has no headers: {} is missing",
                lib.display(),
                header.display()
            ),
            "point LIBTORCH at a whole libtorch 2.11.0 (folders `lib` and `include`), or run `make \
             libtorch`",
        );
    }
    let built = cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .warnings(false) // of libtorch's headers
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .file(PRODUCTS)
        .try_compile("w2s_onednn");
    if let Err(error) = built {
        fail(
            &format!(
                "{PRODUCTS} cannot be built against the libtorch in {}: {error}",
                lib.display()
            ),
            "it is made for libtorch 2.11.0 and needs a C++17 compiler; see the messages above, or \
             run `make libtorch`",
        );
    }
}

fn fail(what: &str, hint: &str) -> ! {
    eprintln!("error: {what}\n\nhint: {hint}");
    std::process::exit(1);
}
