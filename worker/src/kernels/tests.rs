//! The kernels' own text on a CPU against their twins, and through NVRTC for the cards that are promised.

use std::path::PathBuf;

use tch::{Device, Kind, Tensor};

use super::launch::{Argument, KERNELS};
use super::{check, launch, source};
use crate::ffi::emulation::Emulation;
use crate::ffi::nvrtc::Nvrtc;
use crate::quantization::{Nf4Weight, floats};

#[test]
fn every_kernel_is_its_twin_bit_for_bit() {
    let cpu = Emulation::compile().unwrap();
    let found = check::compare(&|launch| cpu.launch(launch), Device::Cpu).unwrap();
    for kernel in KERNELS {
        assert!(found.iter().any(|comparison| comparison.what.starts_with(kernel)), "{kernel} is not compared");
    }
    for comparison in &found {
        assert!(comparison.results > 0 && comparison.differing == 0, "{comparison:?}");
    }
}

#[test]
fn a_kernel_that_computes_something_else_is_found() {
    let cpu = Emulation::compile().unwrap();
    // The last scalar before the results is a little off.
    let wrong = |launch: &launch::Launch| {
        let arguments = launch.arguments.iter().map(|argument| match argument {
            Argument::F32(value) => Argument::F32(value * 1.001),
            Argument::Tensor(tensor) => Argument::Tensor(tensor.shallow_clone()),
            Argument::I32(value) => Argument::I32(*value),
            Argument::I64(value) => Argument::I64(*value),
            Argument::U32(value) => Argument::U32(*value),
            Argument::U64(value) => Argument::U64(*value),
        });
        cpu.launch(&launch::Launch { arguments: arguments.collect(), ..*launch })
    };
    let found = check::compare(&wrong, Device::Cpu).unwrap();
    for kernel in KERNELS {
        let of_kernel = |comparison: &&check::Comparison| comparison.what.starts_with(kernel);
        let differing: usize = found.iter().filter(of_kernel).map(|comparison| comparison.differing).sum();
        assert!(differing > 0, "{kernel}");
    }
}

#[test]
fn the_product_for_decoding_is_near_the_dense_one() {
    let cpu = Emulation::compile().unwrap();
    tch::manual_seed(7);
    let weight = Nf4Weight::quantise(&Tensor::randn([9, 320], (Kind::Float, Device::Cpu)));
    let x = Tensor::randn([3, 320], (Kind::Float, Device::Cpu)).to_kind(Kind::Half);
    let y = Tensor::empty([3, 9], (Kind::Half, Device::Cpu));
    cpu.launch(&launch::nf4_multiply(&x, weight.parts(), &y)).unwrap();
    let dense = Tensor::from_slice(&check::dense(&weight)).view([9, 320]);
    let expected = x.to_kind(Kind::Float).matmul(&dense.tr());
    assert!(y.to_kind(Kind::Float).allclose(&expected, 2e-3, 2e-3, false), "{:?}", floats(&y));
}

/// The compiler that `make nvrtc` fetched. Where it is missing the tests say so; with CI set that is a failure.
fn nvrtc() -> Option<Nvrtc> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.nvrtc/lib/libnvrtc.so.13");
    match Nvrtc::open(&[path]) {
        Ok(nvrtc) => Some(nvrtc),
        Err(error) if std::env::var_os("CI").is_some() => panic!("NVRTC (make nvrtc): {error}"),
        Err(error) => {
            println!("not tried, `make nvrtc` fetches the compiler: {error}");
            None
        }
    }
}

#[test]
fn nvrtc_compiles_every_kernel_for_turing_and_hopper_without_atomics() {
    let Some(nvrtc) = nvrtc() else { return };
    for (major, minor) in [(7, 5), (9, 0)] {
        let compiled = nvrtc.compile("kernels.cu", &source::text(), &source::options(major, minor)).unwrap();
        assert_eq!(compiled.cubin[..4], *b"\x7fELF", "sm_{major}{minor}");
        assert!(compiled.ptx.contains(&format!(".target sm_{major}{minor}")), "{}", &compiled.ptx[..400]);
        for kernel in KERNELS {
            assert!(compiled.ptx.contains(&format!(".entry {kernel}(")), "sm_{major}{minor}: {kernel} is missing");
        }
        assert_eq!(atomics(&compiled.ptx), Vec::<&str>::new());
        // The one contraction is the one that is written.
        let fused = compiled.ptx.lines().filter(|line| line.trim().starts_with("fma.rn.f32")).count();
        let in_multiply = compiled.ptx.split(".entry ").filter(|part| part.contains("fma.rn.f32")).count();
        assert!(fused > 0 && in_multiply == 1, "fma outside nf4_multiply_f16");
        println!("sm_{major}{minor}: {} bytes of machine code, {}", compiled.cubin.len(), nvrtc.path.display());
    }
}

/// Instructions that add in whatever order threads come.
fn atomics(ptx: &str) -> Vec<&str> {
    let is_atomic = |line: &&str| ["atom.", "red."].iter().any(|word| line.trim().starts_with(word));
    ptx.lines().filter(is_atomic).collect()
}

#[test]
fn an_atomic_would_be_found_and_a_broken_text_is_an_error_with_its_line() {
    let Some(nvrtc) = nvrtc() else { return };
    let options = source::options(7, 5);
    let unordered = r#"extern "C" __global__ void sum(float* x, float y) { atomicAdd(x, y); }"#;
    let compiled = nvrtc.compile("unordered.cu", unordered, &options).unwrap();
    assert_eq!(atomics(&compiled.ptx).len(), 1, "{}", compiled.ptx);
    let error = nvrtc.compile("broken.cu", "\n__global__ void f() { nothing(); }", &options).unwrap_err();
    assert!(error.contains("broken.cu(2)") && error.contains("nothing"), "{error}");
}
