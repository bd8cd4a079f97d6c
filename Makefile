# Two commands do everything on a fresh machine: `make demo` and `make test`. Needed: rust, python3 with pip, gcc, make.
# A LIBTORCH set by the user wins over .libtorch/.

SHELL := /bin/bash
W2S := $(or $(CARGO_TARGET_DIR),target)/release/w2s

.PHONY: libtorch build demo test lint judge judge-heavy

libtorch:
	@python3 scripts/libtorch.py

build: libtorch
	cargo build --release --locked

# Synthetic preferences, a tuned guide pair and the steered table on the built-in corpus; continues where it was stopped.
demo: build
	$(W2S) run recipes/demo.toml

lint: libtorch
	cargo fmt --check
	cargo clippy --release --locked --all-targets -- -D warnings

# Release profile throughout: one build of the dependencies, and the tests that run the program need it fast.
test: lint build
	cargo test --release --locked

# The tests that need Python, in a virtual environment that is made in .judge/ for them: what llama.cpp, TensorBoard and the safetensors package
# make of our files; heavy: PyTorch, transformers and PEFT too. A W2S_PYTHON set by the user wins. Fails if one of them did not run.
judge: libtorch
	@python3 scripts/judge.py light

judge-heavy: libtorch
	@python3 scripts/judge.py heavy
