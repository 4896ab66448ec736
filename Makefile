# Every target works in a bare checkout with Rust, a C++ compiler and Python with pip; `make help` lists them.
# LIBTORCH=/path takes a libtorch 2.11.0 of yours, ARGS="…" adds to the demo's command line.

.PHONY: help demo test test-faults mutations build check interop manifests bench bench-control fuzz libtorch nvrtc tools deny
.NOTPARALLEL:
.DEFAULT_GOAL := help

PYTHON ?= python3
CARGO_DENY_VERSION := 0.20.2
BINARIES := target/release

export PATH := $(PATH):$(HOME)/.cargo/bin
# The binaries are always built against the link .libtorch, which scripts/libtorch points at what was asked for.
unexport LIBTORCH LIBTORCH_USE_PYTORCH LIBTORCH_STATIC LIBTORCH_INCLUDE LIBTORCH_LIB LIBTORCH_BYPASS_VERSION_CHECK
# The binaries are looked for in this clone.
unexport CARGO_TARGET_DIR CARGO_BUILD_TARGET_DIR

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 21

demo: build ## fine-tune the built-in model with two local workers and print the scores before and after
	$(BINARIES)/coordinator --workers 2 $(ARGS)

test: build nvrtc ## all tests
	cargo test --release --workspace --locked

test-faults: build ## the long forms of the fault tests: 100,000 histories, all lies, 1,000 storms, every way to die at every point
	FAULTS_FULL=1 cargo test --release --workspace --locked --no-fail-fast --test random_events --test lies --test rewind \
	  --test known_bugs --test kill_matrix --test world_sizes --test coordinator_killed --test churn --test slow_worker \
	  --test zombie --test storms -- --nocapture --test-threads=1

mutations: build ## each rule of the protocol broken once in a scratch copy: which test notices (ten minutes)
	$(PYTHON) scripts/mutations

build: libtorch ## the release binaries, in target/release
	cargo build --release --workspace --bins --locked

check: libtorch deny ## formatting, lints, licences and banned dependencies
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets --locked -- -D warnings
	cargo deny --locked check bans licenses sources

interop: build ## pyarrow, polars, DuckDB, TensorBoard, PEFT and bitsandbytes agree with what a run writes and computes (a throwaway venv, 900 MB)
	$(PYTHON) scripts/interop/run

manifests: ## render k8s/base with kubectl and validate it strictly (a throwaway venv)
	$(PYTHON) scripts/manifests

bench: build ## seconds and memory of a short run with one worker and with two
	$(PYTHON) scripts/bench

# Members that share the cores with the coordinator do not push it aside at each message: those of a fleet have cores of their own.
bench-control: build ## what the control plane can do with 2, 64, 512 and 2,000 simulated workers (minutes)
	$(if $(shell command -v chrt),chrt --batch 0) cargo bench --locked -p polya-tests --bench control_plane -- 2 64 512 2000

fuzz: libtorch ## every parser of datasets on FUZZ mutated inputs (5,000,000)
	POLYA_FUZZ=$(or $(FUZZ),5000000) cargo test --release --workspace --locked --test any_bytes -- --nocapture

libtorch: tools ## libtorch 2.11.0, fetched once into a cache of yours and checked by hash
	@LIBTORCH='$(LIBTORCH)' $(PYTHON) scripts/libtorch

nvrtc: tools ## the compiler of the CUDA kernels, for their tests (90 MB, no GPU needed)
	@$(PYTHON) scripts/libtorch --nvrtc

tools:
	@command -v cargo >/dev/null || { echo "make: cargo is not installed, and this is built with Rust: see https://rustup.rs" >&2; exit 2; }
	@command -v "$${CXX:-c++}" >/dev/null || { echo "make: there is no C++ compiler ($${CXX:-c++}): install one (Debian: apt install g++)" >&2; exit 2; }
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not installed, and libtorch is fetched with its pip (Debian: apt install python3-pip)" >&2; exit 2; }

deny: tools
	@cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny --version $(CARGO_DENY_VERSION) --locked
