//! The `touchline` binary.

use allocator_api2::alloc::System;
use allocator_api2::vec::Vec;
use std::hint::black_box;
use std::process::ExitCode;

#[cfg(feature = "mutations")]
compile_error!("no program is built with `mutations`: they are faults for the simulator to find");

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Twice as much free memory may the C library keep, from which the Kafka client takes what it reads
/// into.
const FREED: usize = 4 << 20;

/// Frees one block of [`FREED`] bytes. The C library takes the largest mapped block that was freed for
/// usual, and gives free memory back to the system above twice that (`mallopt(3)`). It begins with
/// 128 KiB: whatever the client has read would be mapped and cleared anew.
fn keep_freed_memory() {
    drop(black_box(Vec::<u8, System>::with_capacity_in(FREED, System)));
}

fn main() -> ExitCode {
    keep_freed_memory();
    touchline::cli::main()
}
