//! Jump through its public face: a really started one, in this process or as a process, with
//! leases in memory and in a real Redis.

mod choice;
mod command;
mod contract;
mod failures;
mod hotlink;
mod jump;
mod limits;
mod node;
mod operator;
mod page;
mod probes;
mod redis_kinds;
mod restart;
mod shared_redis;
mod signed;
mod transport;
