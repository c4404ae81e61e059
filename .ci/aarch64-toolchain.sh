# Has cargo cross-compile for aarch64. Sourced by .ci/aarch64 and tests/vm/run, from the repository's folder.
#
# What it needs comes from Debian 12: rustup may lack the target, so the compiler is Debian's own
# (rustc-web) with arm64's standard library. Programs run on arm64's C library, which the dynamic
# loader finds in its usual place; with `-L` to the cross C library two versions would mix.
# shellcheck shell=sh

. .ci/install.sh
install_packages rustc-web libstd-rust-web-dev libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu \
    libc6-dev-arm64-cross qemu-user-static libc6:arm64

# shellcheck disable=SC2034 # for those who source this
AARCH64=aarch64-unknown-linux-gnu
export RUSTC=/usr/bin/rustc
export RUSTDOC=/usr/bin/rustdoc
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/aarch64"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64-static
