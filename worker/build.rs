//! Compiles the C++ shims and links the worker with libtorch so that the binary finds it again without environment
//! variables.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=src/ffi");
    let root = std::env::var("LIBTORCH").expect("LIBTORCH is set by .cargo/config.toml");
    let root = std::fs::canonicalize(&root).expect("LIBTORCH names a folder: run `make libtorch`");
    let mut shims: Vec<PathBuf> = std::fs::read_dir("src/ffi")
        .expect("src/ffi is part of this crate")
        .map(|entry| entry.expect("src/ffi can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cpp"))
        .collect();
    shims.sort();
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include("src/ffi/gloo_stub")
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .files(&shims)
        .compile("polya_shims");
    println!("cargo:rustc-link-search=native={}", root.join("lib").display());
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", root.join("lib").display());
}
