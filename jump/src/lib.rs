//! tuyun_jump.
