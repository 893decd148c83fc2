//! What installation a test asks for.

use crate::System;
use std::collections::BTreeMap;

/// What a test asks for.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(crate) apis: usize,
    pub(crate) workers: usize,
    pub(crate) broker: bool,
    pub(crate) amqp_url: Option<String>,
    pub(crate) postgres_url: Option<String>,
    pub(crate) simulator_arguments: Vec<String>,
    pub(crate) clock_factor: u32,
    pub(crate) key_mode: &'static str,
    pub(crate) public_key: bool,
    pub(crate) env: BTreeMap<String, String>,
}

impl Default for Builder {
    fn default() -> Self {
        let env = BTreeMap::new();
        Self {
            apis: 1,
            workers: 1,
            broker: true,
            amqp_url: None,
            postgres_url: None,
            simulator_arguments: Vec::new(),
            clock_factor: 1,
            key_mode: "public-key",
            public_key: true,
            env,
        }
    }
}

impl Builder {
    /// So many `api` processes behind one address.
    #[must_use]
    pub const fn apis(mut self, apis: usize) -> Self {
        self.apis = apis;
        self
    }

    /// So many `worker` processes.
    #[must_use]
    pub const fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Without RabbitMQ.
    #[must_use]
    pub const fn embedded(mut self) -> Self {
        self.broker = false;
        self
    }

    /// With this RabbitMQ, instead of the one that the tests share.
    #[must_use]
    pub fn amqp(mut self, url: &str) -> Self {
        self.amqp_url = Some(url.to_owned());
        self
    }

    /// With this PostgreSQL, instead of the one that the tests share.
    #[must_use]
    pub fn postgres(mut self, url: &str) -> Self {
        self.postgres_url = Some(url.to_owned());
        self
    }

    /// The simulator has these arguments besides.
    #[must_use]
    pub fn simulator(mut self, arguments: &[&str]) -> Self {
        self.simulator_arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// The simulator's retries come so many times faster than WeChat Pay's.
    #[must_use]
    pub const fn clock_factor(mut self, factor: u32) -> Self {
        self.clock_factor = factor;
        self
    }

    /// The simulator signs with its platform certificate, and the service has no public key of its.
    #[must_use]
    pub const fn certificates(mut self) -> Self {
        self.key_mode = "certificate";
        self.public_key = false;
        self
    }

    /// The simulator signs with both keys in turn, as while a merchant moves from one to the other.
    #[must_use]
    pub const fn both_keys(mut self) -> Self {
        self.key_mode = "mixed";
        self
    }

    /// The service's processes have this variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Starts everything, and waits until it is ready.
    ///
    /// # Panics
    /// When something does not start.
    pub async fn start(self) -> System {
        System::start(self).await
    }
}
