//! `tuyun-edge`: a caching HTTP node close to the reader.

use std::process::ExitCode;

use tuyun_edge::{PROGRAM, check, run};

fn main() -> ExitCode {
    PROGRAM.main(check, async |settings, stop| {
        Ok(run(settings, stop.token()).await?)
    })
}
