//! Requests that cannot be met.

use ebpf_reader::Error;
use ebpf_reader::sample::{Locations, Sampler as _};
use ebpf_reader::sampler::ebpf::Options;
use ebpf_reader::sampler::{EbpfSampler, PtraceSampler};

use crate::collect::{ebpf, ptrace};

#[test]
fn impossible_requests_are_refused() {
    let mut sampler = ptrace();
    let refused = sampler.follow(u32::MAX, Locations::default());
    assert!(matches!(
        refused,
        Err(Error::NoSuchProcess { pid: u32::MAX })
    ));
    assert!(matches!(
        PtraceSampler::new(0),
        Err(Error::Frequency {
            frequency_hz: 0,
            ..
        })
    ));
    // Checked before privileges, so that it shows everywhere.
    for frequency in [0, 1 << 40] {
        let refused = EbpfSampler::new(&Options::new(frequency)).expect_err("not a frequency");
        assert!(
            matches!(refused, Error::Frequency { frequency_hz, .. } if frequency_hz == frequency),
            "{refused}"
        );
    }
    let Some(mut sampler) = ebpf() else { return };
    let refused = sampler.follow(u32::MAX, Locations::default());
    assert!(matches!(
        refused,
        Err(Error::NoSuchProcess { pid: u32::MAX })
    ));
}
