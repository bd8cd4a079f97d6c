# Two commands do everything on a fresh machine: `make demo` and `make test`. Needed: rust, python3 with pip, gcc, make.
# A LIBTORCH set by the user wins over .libtorch/.

SHELL := /bin/bash
W2S := $(or $(CARGO_TARGET_DIR),target)/release/w2s

.PHONY: libtorch build demo test lint

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
