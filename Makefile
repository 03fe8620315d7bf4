# `make test` and `make demo` are the two commands. Both work on a machine with Rust and Debian;
# the tests want root (they boot a systemd of their own and run a Postgres).

.PHONY: test check demo setup

test: setup
	cargo test --no-fail-fast

demo:
	cargo run -- demo

check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps

setup:
	bash tests/setup.sh
	bash tests/sdk/setup.sh
