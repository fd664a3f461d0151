//! The whole way: PHP writes into the mounted folder, and visitors get it through jump and edge.

mod changes;
mod failover;
mod whole_way;
