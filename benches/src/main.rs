//! What a sample costs: keeps all CPUs busy, has them sampled by `ebpf-reader record`, and divides what that used.
//!
//! ```text
//! cargo build --release -p ebpf-reader
//! cargo run --release -p otel-profiling-benches -- --duration 60
//! ```
//!
//! Everything counts: starting, sampling, looking up names, writing the file. In the kernel by the statistics of its
//! programs, in user space by the CPU time of the reader and of the process that looks up names.

#![forbid(unsafe_code)]

mod busy;
mod kernel;
mod reader;

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::Parser;

use self::busy::Busy;
use self::kernel::Statistics;

#[derive(Debug, Parser)]
#[command(about = "Measure what a sample of ebpf-reader costs")]
struct Arguments {
    /// Seconds to record.
    #[arg(long, default_value_t = 60)]
    duration: u64,

    /// Samples a second and CPU.
    #[arg(long, default_value_t = 997)]
    freq: u64,

    /// How the reader finds user stacks: auto, fp or dwarf.
    #[arg(long, default_value = "auto")]
    unwind: String,

    /// The reader; without it, the one in the folder of this program.
    #[arg(long)]
    reader: Option<PathBuf>,

    /// A process to record, instead of one that this program starts.
    #[arg(long, short)]
    pid: Option<u32>,
}

fn main() -> anyhow::Result<()> {
    if env::args().nth(1).as_deref() == Some(busy::ARGUMENT) {
        busy::run();
    }
    let arguments = Arguments::parse();
    let own = env::current_exe()?;
    let reader = arguments
        .reader
        .unwrap_or_else(|| own.with_file_name("ebpf-reader"));
    ensure!(
        reader.exists(),
        "{} does not exist: build it with `cargo build --release -p ebpf-reader`",
        reader.display()
    );
    let busy = match arguments.pid {
        Some(_) => None,
        None => Some(Busy::start(&own)?),
    };
    let Some(pid) = arguments.pid.or(busy.as_ref().map(Busy::pid)) else {
        return Ok(());
    };

    let file = env::temp_dir().join(format!("record-cost-{pid}.pb.gz"));
    let mut command = Command::new(&reader);
    command
        .args(["record", "--json", "--pid", &pid.to_string()])
        .args(["--freq", &arguments.freq.to_string()])
        .args(["--duration", &arguments.duration.to_string()])
        .args(["--unwind", &arguments.unwind])
        .arg("--output")
        .arg(&file);
    let _statistics = Statistics::count()?;
    let used = reader::run(command);
    // A leftover would only be untidy.
    let _ = std::fs::remove_file(file);
    let used = used.with_context(|| format!("{} did not record", reader.display()))?;

    ensure!(used.samples > 0, "there were no samples");
    let each = |ns: u64| ns as f64 / used.samples as f64 / 1e3;
    println!(
        "{} samples in {} s, {} lost; at most {:.1} MB resident",
        used.samples,
        arguments.duration,
        used.lost,
        used.resident as f64 / 1e6
    );
    println!("kernel      {:6.2} µs a sample", each(used.kernel_ns));
    println!("user space  {:6.2} µs a sample", each(used.user_ns));
    println!(
        "in all      {:6.2} µs a sample",
        each(used.kernel_ns + used.user_ns)
    );
    Ok(())
}
