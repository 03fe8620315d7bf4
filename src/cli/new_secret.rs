//! (in the making)

use super::Exit;

/// The arguments of `new-token`.
#[derive(Debug, clap::Args)]
pub struct TokenArgs {}

/// The arguments of `new-secret`.
#[derive(Debug, clap::Args)]
pub struct SecretArgs {}

/// Prints a token.
pub fn run_token(_args: TokenArgs) -> Exit {
    Exit::Failure
}

/// Prints a secret.
pub fn run_secret(_args: SecretArgs) -> Exit {
    Exit::Failure
}
