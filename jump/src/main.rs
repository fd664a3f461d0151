//! `tuyun-jump`: sends each visitor to a living edge, else to the origin.

use std::process::ExitCode;

use tuyun_jump::{PROGRAM, Settings, commands, run};

fn main() -> ExitCode {
    PROGRAM.main_with(&commands::ALL, Settings::check, async |settings, stop| {
        Ok(run(settings, stop.token()).await?)
    })
}
