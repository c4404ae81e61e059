//! The command line of ebpf-reader.
#![forbid(unsafe_code)]

mod cli;
mod message;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // A hostile file must not be able to end more than the look-up of its own names.
    if ebpf_reader::symbolize::worker::serve_if_asked() {
        return ExitCode::SUCCESS;
    }
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
