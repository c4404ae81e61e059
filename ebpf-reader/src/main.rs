//! The command line of ebpf-reader.
#![forbid(unsafe_code)]

mod cli;
mod message;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(cli::Status(status)) = error.downcast_ref() {
                return ExitCode::from(*status);
            }
            // The error and its causes in one line, also where a cause has line ends of its own.
            let line = format!("{error:#}").replace(['\n', '\r'], " ");
            message::tell("error", line);
            ExitCode::FAILURE
        }
    }
}
