//! `kindling`: the service and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    kindling::cli::main()
}
