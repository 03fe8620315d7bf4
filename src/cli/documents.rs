//! `completions` and `man`: what packages ship beside the binary.

use std::io::{self, Write};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, Exit};

/// The arguments of `completions`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct CompletionArgs {
    /// The shell to print it for
    shell: Shell,
}

/// The arguments of `man`.
#[derive(Debug, clap::Args)]
pub struct ManArgs {}

/// Prints a completion script.
pub fn run_completions(args: CompletionArgs) -> Exit {
    // Into memory first: the generator panics when a pipe is closed early.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "outcomed", &mut script);
    io::stdout().write_all(&script).map_or(Exit::Failure, |()| Exit::Success)
}

/// Prints the manual page: one page for the program and every subcommand.
pub fn run_man(_args: ManArgs) -> Exit {
    let printed = manual().and_then(|page| io::stdout().write_all(&page));
    printed.map_or(Exit::Failure, |()| Exit::Success)
}

fn manual() -> io::Result<Vec<u8>> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut page = Vec::new();
    // Not `render`: it would refer to a page of its own for each subcommand.
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for subcommand in command.get_subcommands() {
        section(subcommand, &mut page)?;
    }
    Ok(page)
}

fn section(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    writeln!(page, ".SH \"{}\"", name.to_uppercase())?;
    let man = Man::new(command.clone());
    man.render_description_section(page)?;
    man.render_synopsis_section(page)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(page)?;
    }
    for subcommand in command.get_subcommands() {
        section(subcommand, page)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_covers_every_subcommand() {
        let page = String::from_utf8(manual().unwrap()).unwrap();
        assert!(page.contains(".TH outcomed 1"));
        for command in Cli::command().get_subcommands() {
            let title = format!(".SH \"OUTCOMED {}\"", command.get_name().to_uppercase());
            assert!(page.contains(&title), "{title}");
        }
    }
}
