//! `tuyun-jump`: sends each visitor to a living edge, else to the origin.

use std::process::ExitCode;

use tuyun_jump::{PROGRAM, Settings, run};

fn main() -> ExitCode {
    PROGRAM.main(Settings::check, async |settings, stop| {
        Ok(run(settings, stop.token()).await?)
    })
}
