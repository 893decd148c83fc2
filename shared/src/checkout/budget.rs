//! How fast WeChat Pay may be asked, over all processes: a token bucket in PostgreSQL, so that ten workers ask no more
//! than one. When WeChat Pay says `FREQUENCY_LIMITED` the rate is halved; it grows back within two minutes.

use sqlx::PgExecutor;

/// A merchant's budget of queries.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Whose.
    pub mch_id: String,
    /// Queries in a second (`WECHAT_PAY_QUERIES_PER_SECOND`); as many may come at once.
    pub per_second: u32,
}

impl Budget {
    /// Takes up to `wanted` queries; answers how many were granted.
    pub async fn take(&self, db: impl PgExecutor<'_>, wanted: u32) -> sqlx::Result<u32> {
        let wanted = i32::try_from(wanted).unwrap_or(i32::MAX);
        let rate = f64::from(self.per_second);
        let granted =
            sqlx::query_scalar!(r#"select take_wechat_budget($1, $2, $3) as "granted!""#, self.mch_id, wanted, rate)
                .fetch_one(db)
                .await?;
        Ok(u32::try_from(granted).unwrap_or(0))
    }

    /// WeChat Pay finds us too fast: halves the rate, down to a sixty-fourth, and takes what was left of this second.
    pub async fn slow_down(&self, db: impl PgExecutor<'_>) -> sqlx::Result<()> {
        sqlx::query!(
            r#"
            update wechat_budgets set throttle = greatest(throttle / 2, 1.0 / 64), tokens = 0, refilled_at = clock_timestamp()
            where mch_id = $1
            "#,
            self.mch_id,
        )
        .execute(db)
        .await?;
        Ok(())
    }
}
