//! Jump through its public face: a really started one, in this process or as a process, with
//! leases in memory and in a real Redis.

mod command;
mod contract;
mod jump;
mod limits;
mod node;
mod operator;
mod probes;
mod shared_redis;
mod signed;
