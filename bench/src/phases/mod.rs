//! What is measured, a file each.

pub mod at_rest;
pub mod cold_start;
pub mod drain;
pub mod end_to_end;
pub mod intake;
