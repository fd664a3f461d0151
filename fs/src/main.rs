//! `tuyunfs`: a OneDrive folder, mounted.

use std::process::ExitCode;

fn main() -> ExitCode {
    tuyunfs::cli::main()
}
