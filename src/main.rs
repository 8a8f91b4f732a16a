//! The `touchline` binary.

use std::process::ExitCode;

#[cfg(feature = "mutations")]
compile_error!("no program is built with `mutations`: they are faults for the simulator to find");

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    touchline::cli::main()
}
