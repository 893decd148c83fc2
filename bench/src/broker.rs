//! The broker, as far as a benchmark has to do with it: taking its queues away.

use lapin::{
    Connection, ConnectionProperties,
    options::{ExchangeDeleteOptions, QueueDeleteOptions},
};

/// Connects.
pub async fn connect(url: &str) -> anyhow::Result<Connection> {
    Ok(Connection::connect(url, ConnectionProperties::default()).await?)
}

/// Deletes the service's queues under this prefix.
pub async fn delete_queues(url: &str, prefix: &str) -> anyhow::Result<()> {
    let connection = connect(url).await?;
    let channel = connection.create_channel().await?;
    for line in ["notify", "refund"] {
        for queue in
            ["", ".dead", ".retry.5s", ".retry.30s", ".retry.2m", ".retry.10m", ".retry.30m", ".retry.2h", ".retry.6h"]
        {
            let name = format!("{prefix}.{line}{queue}");
            channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await?;
        }
    }
    // There when a loop of the ceilings has broken off.
    channel.queue_delete(format!("{prefix}.ceiling").as_str().into(), QueueDeleteOptions::default()).await?;
    let events = format!("{prefix}.events");
    channel.exchange_delete(events.as_str().into(), ExchangeDeleteOptions::default()).await?;
    connection.close(200, "done".into()).await?;
    Ok(())
}
