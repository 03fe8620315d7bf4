# `cargo run --release -- demo` and `make test` are the two commands. Both work on a machine with
# Rust and Debian; the tests want root (they boot a systemd of their own and run a Postgres).

.PHONY: test check demo setup package mutants simulate

test: setup
	cargo test --no-fail-fast

demo:
	cargo run --release -- demo

check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps

# A thousand simulated histories; SIM_SEEDS=100000 for more. tests/simulation.rs says how to replay.
simulate:
	SIM_SEEDS=$${SIM_SEEDS:-1000} cargo test --profile simulation --test simulation

# Changes all pure code, one place at a time, and expects a test to notice each. Needs cargo-mutants
# and a day or more: MUTANTS='-f src/delivery/guard.rs' for less. `.cargo/mutants.toml` says which
# changes no test could notice. The pure files are listed in tests/tidy.rs, as a module and its folder.
PURE = $(shell sed -n '/^const PURE/,/^];/s/^    "\(.*\)\.rs",$$/\1/p' tests/tidy.rs)
MUTANTS ?= $(foreach module,$(PURE),-f '$(module).rs' -f '$(module)/**/*.rs')
mutants:
	cargo mutants $(MUTANTS) -- --lib --test delivery_over_http --test polling --test replay

setup:
	bash tests/setup.sh
	bash tests/sdk/setup.sh

# A Debian package, below target/debian; needs cargo-deb.
package:
	cargo build --release
	target/release/outcomed man >target/release/outcomed.1
	target/release/outcomed completions bash >target/release/outcomed.bash
	cargo deb --no-build
