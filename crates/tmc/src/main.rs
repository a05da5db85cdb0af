//! `tmc` (and `kubectl-tmc`, the same program under another name).

use std::process::ExitCode;

use tmc::cli::{Cli, Command, Usage};
use tmc::commands;

fn main() -> ExitCode {
    let cli = Cli::from_command_line(std::env::args_os());
    let filter = tracing_subscriber::EnvFilter::try_from_env("TMC_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default_log(&cli.command)));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&cli)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<Usage>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// What is logged unless `TMC_LOG` says otherwise: servers warn, commands only speak.
fn default_log(command: &Command) -> &'static str {
    match command {
        Command::Start(_) | Command::Controllers(_) | Command::Syncer(_) => "warn",
        _ => "error",
    }
}

async fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let text = match &cli.command {
        Command::Quickstart(args) => return commands::quickstart::run(args).await,
        Command::Start(args) => {
            commands::start::run(args).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Controllers(args) => {
            commands::controllers::run(args).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Syncer(args) => {
            commands::syncer::run(args).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Cluster(command) => commands::cluster::run(&cli.global, command).await?,
        Command::Workspace(command) => commands::workspace::run(&cli.global, command).await?,
        Command::Bind(command) => commands::bind::run(&cli.global, command).await?,
        Command::Get(command) => commands::get::run(&cli.global, command).await?,
        Command::Cordon(args) => commands::cordon::cordon(&cli.global, args).await?,
        Command::Uncordon(args) => commands::cordon::uncordon(&cli.global, args).await?,
        Command::Drain(args) => commands::cordon::drain(&cli.global, args).await?,
        Command::Sync(args) => commands::sync::run(&cli.global, args).await?,
        Command::Explain(args) => commands::explain::run(&cli.global, args).await?,
        Command::Doctor => {
            let (text, well) = commands::doctor::run(&cli.global).await?;
            print(&text)?;
            return Ok(if well {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        Command::Completion { shell } => commands::completion::run(*shell)?,
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the result. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    if text.is_empty() {
        return Ok(());
    }
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match write!(std::io::stdout().lock(), "{text}{end}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
