//! `ebpf-reader serve`: from arguments to a server that runs until Ctrl-C.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use ebpf_reader::label_style::LabelStyle;
use ebpf_reader::push::{Config, Protocol};
use ebpf_reader::record::{self, Backend, DEFAULT_FREQUENCY_HZ};
use ebpf_reader::serve::{self, Listen, Notice, Options, Token};

use super::record::stop_on_signals;
use crate::message::tell;

/// What to serve and how.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// Process to follow, with its children; may be given more than once [default: all processes]
    #[arg(short, long = "pid", value_name = "PID", value_delimiter = ',')]
    pids: Vec<u32>,

    /// Follow the processes of a control group, by its path in /sys/fs/cgroup
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,

    /// Also count how long threads were off the CPU, by trace; costs about a sample for each switch
    #[arg(long)]
    off_cpu: bool,

    /// Samples per second and CPU
    #[arg(long = "freq", short = 'F', value_name = "HZ", default_value_t = DEFAULT_FREQUENCY_HZ)]
    frequency_hz: u64,

    /// Sample by stopping the threads with ptrace, which needs no privileges but disturbs the processes
    #[arg(long)]
    ptrace: bool,

    /// Where to listen: ADDRESS:PORT, or unix:/PATH
    #[arg(long, value_name = "ADDRESS", default_value_t)]
    listen: Listen,

    /// File with the token that clients have to send; needed to listen where others can connect
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Minutes of samples that are kept
    #[arg(long, value_name = "MINUTES", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=10_080))]
    keep: u32,

    /// Megabytes that they may take up; the oldest are dropped when there are more
    #[arg(long, value_name = "MB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    memory: u32,

    /// Seconds that are counted, kept and pushed together
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    window: u32,

    /// Names of labels in pprof profiles and in what is pushed: otel, parca or pyroscope
    #[arg(long, value_name = "STYLE", default_value = "otel")]
    label_style: LabelStyle,

    /// Push every window by OTLP: to this URL, or to where the variables OTEL_EXPORTER_OTLP_... say
    ///
    /// Over HTTP /v1development/profiles is appended. Without this option windows are pushed if
    /// OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_PROFILES_ENDPOINT is set. The options --push-... come before the
    /// variables.
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true)]
    push: Option<Option<String>>,

    /// How to push [default: http/protobuf]
    #[arg(long, value_name = "PROTOCOL")]
    push_protocol: Option<PushProtocol>,

    /// Header to send with what is pushed, as NAME=VALUE; may be given more than once
    #[arg(long = "push-header", value_name = "NAME=VALUE")]
    push_headers: Vec<String>,

    /// File with a token to push with, sent as Authorization: Bearer TOKEN
    #[arg(long, value_name = "FILE")]
    push_token_file: Option<PathBuf>,

    /// File with the certificates, in PEM form, that sign the receiver's
    #[arg(long, value_name = "FILE")]
    push_ca: Option<PathBuf>,

    /// Program to start and follow; what it prints goes to standard error
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// How to push.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum PushProtocol {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP.
    #[value(name = "http/protobuf")]
    HttpProtobuf,
}

impl Serve {
    /// Serves until a signal; an error is what makes the exit status fail.
    pub(crate) fn run(self) -> Result<()> {
        let options = self.options()?;
        let stop = stop_on_signals()?;
        serve::run(&options, &stop, &mut |notice| match notice {
            Notice::Listening(address) => tell("note", format_args!("listening at {address}")),
            Notice::Pushing(endpoint) => tell("note", format_args!("pushing to {endpoint}")),
            Notice::Push(state) => tell("note", state),
            Notice::TargetsExited => tell("note", "all processes have ended; Ctrl-C ends serving"),
            Notice::Warning(warning) => tell("warning", warning.one_line()),
            _ => {}
        })?;
        Ok(())
    }

    fn options(&self) -> Result<Options> {
        let mut recording = record::Options::new()
            .command(self.command.iter().cloned())
            .frequency_hz(self.frequency_hz);
        recording.pids.clone_from(&self.pids);
        recording.cgroup.clone_from(&self.cgroup);
        recording.off_cpu = self.off_cpu;
        recording.everything =
            self.pids.is_empty() && self.command.is_empty() && self.cgroup.is_none();
        if self.ptrace {
            recording = recording.backend(Backend::Ptrace);
        }
        let mut options = Options::new();
        options.recording = recording;
        options.listen = self.listen.clone();
        options.token = self.token_file.as_deref().map(Token::read).transpose()?;
        options.keep = Duration::from_secs(u64::from(self.keep) * 60);
        options.memory = usize::try_from(self.memory)? << 20;
        options.window = Duration::from_secs(self.window.into());
        options.label_style = self.label_style;
        options.push = self.push_config()?;
        Ok(options)
    }

    /// `None` if nothing is to be pushed.
    fn push_config(&self) -> Result<Option<Config>> {
        if self.push.is_none() {
            let alone = self.push_protocol.is_some()
                || !self.push_headers.is_empty()
                || self.push_token_file.is_some()
                || self.push_ca.is_some();
            if !Config::is_in_env() {
                if alone {
                    bail!("nothing is pushed: say where to with --push=URL");
                }
                return Ok(None);
            }
        }
        let mut config = Config::from_env()?;
        if let Some(Some(url)) = &self.push {
            config = config.endpoint(url);
        }
        if let Some(protocol) = self.push_protocol {
            config = config.protocol(match protocol {
                PushProtocol::Grpc => Protocol::Grpc,
                PushProtocol::HttpProtobuf => Protocol::HttpProtobuf,
            });
        }
        for header in &self.push_headers {
            let Some((name, value)) = header.split_once('=') else {
                bail!("--push-header must be NAME=VALUE");
            };
            config = config.header(name.trim(), value.trim())?;
        }
        if let Some(path) = &self.push_token_file {
            config = config.bearer_token(&read_token(path)?)?;
        }
        if let Some(path) = &self.push_ca {
            config = config.ca_file(path);
        }
        Ok(Some(config))
    }
}

fn read_token(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
