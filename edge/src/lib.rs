//! tuyun_edge.
