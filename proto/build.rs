//! Compiles the wire messages with protox: no protoc to install.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["membership", "step", "evaluation", "transfer"].map(|name| format!("polya/v1/{name}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["."])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
