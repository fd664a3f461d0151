//! Local changes on their way to the drive.
//!
//! What is pending is the difference between the tree and its baseline. [`plan`] reads it and
//! says what to send next; [`journal`] makes every change durable before it is acknowledged;
//! [`drain`] sends, and brings the drive's replies back into the tree.

pub mod damage;
pub mod drain;
pub mod feed;
pub mod journal;
pub mod late;
pub mod ledger;
pub mod plan;
mod settle;
pub mod unwritten;
