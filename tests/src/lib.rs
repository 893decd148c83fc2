//! The whole service from outside: real processes, a real PostgreSQL, a real RabbitMQ, and the simulator for WeChat Pay.
//!
//! Each [`System`] has a database, a queue prefix, ports and processes of its own, so all tests run at once.

mod broker;
mod builder;
mod callback;
mod caller;
pub mod chaos;
mod events;
mod orders;
mod postgres;
mod process;
mod proxy;
mod refunds;
mod servers;
mod system;
mod wait;
mod wechat;

pub use broker::{Broker, messages, publish};
pub use builder::Builder;
pub use callback::Callback;
pub use caller::Caller;
pub use events::{Event, EventStream};
pub use postgres::Postgres;
pub use process::{Process, binary};
pub use proxy::Proxy;
pub use servers::{Ran, database_url, drop_database, ops, run_ops, simulator_keys};
pub use system::{JWT_SECRET, SOON, System};
pub use wait::eventually;
