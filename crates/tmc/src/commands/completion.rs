//! `tmc completion`

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;

/// The completion script of a shell.
///
/// # Errors
/// Never in practice: clap writes text.
pub fn run(shell: Shell) -> Result<String> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tmc", &mut script);
    String::from_utf8(script).context("the completion script is no text")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Shell::Bash, "complete -F _tmc")]
    #[case(Shell::Zsh, "#compdef tmc")]
    #[case(Shell::Fish, "complete -c tmc")]
    #[case(Shell::Elvish, "edit:completion:arg-completer[tmc]")]
    #[case(Shell::PowerShell, "Register-ArgumentCompleter")]
    fn every_shell_gets_its_own_script(#[case] shell: Shell, #[case] sign: &str) {
        let script = run(shell).expect("a script");
        assert!(script.contains(sign), "{script}");
        assert!(script.contains("uncordon"), "{script}");
    }
}
