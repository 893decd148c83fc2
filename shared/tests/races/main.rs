//! Transactions that meet. The test holds a row, so that the first stands in its middle and the second behind it; then it
//! lets go. Who stands where PostgreSQL itself says, so nothing here depends on time.

mod log;
mod meeting;
mod money;
mod payments;
mod queries;
mod refunds;
