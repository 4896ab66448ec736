//! `worker-under-test` finds libtorch as the worker itself does.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let root = std::env::var("LIBTORCH").expect("LIBTORCH is set by .cargo/config.toml");
    let root = std::fs::canonicalize(&root).expect("LIBTORCH names a folder: run `make libtorch`");
    println!("cargo:rustc-link-arg-bin=worker-under-test=-Wl,-rpath,{}", root.join("lib").display());
}
