# `cargo run --release -- demo` and `make test` are the two commands. Both work on a machine with
# Rust and Debian; the tests want root (they boot a systemd of their own and run a Postgres).

.PHONY: test check demo setup package

test: setup
	cargo test --no-fail-fast

demo:
	cargo run --release -- demo

check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps

setup:
	bash tests/setup.sh
	bash tests/sdk/setup.sh

# A Debian package, below target/debian; needs cargo-deb.
package:
	cargo build --release
	target/release/outcomed man >target/release/outcomed.1
	target/release/outcomed completions bash >target/release/outcomed.bash
	cargo deb --no-build
