//! Links the worker with libtorch so that the binary finds it again without environment variables.
fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let root = std::env::var("LIBTORCH").expect("LIBTORCH is set by .cargo/config.toml");
    let root = std::fs::canonicalize(&root).expect("LIBTORCH names a folder: run `make libtorch`");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", root.join("lib").display());
}
