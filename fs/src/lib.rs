//! tuyunfs.
