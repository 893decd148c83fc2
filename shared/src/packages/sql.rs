//! The packages' queries.

use super::{Package, PackageId};
use crate::{money::Fen, points::Points};
use sqlx::PgExecutor;

/// The active packages in display order, after the one at `after` (its sort order and id).
pub async fn list_active(
    db: impl PgExecutor<'_>,
    after: Option<(i32, PackageId)>,
    limit: i64,
) -> sqlx::Result<Vec<Package>> {
    let (sort_order, id) = after.map_or((None, None), |(sort_order, id)| (Some(sort_order), Some(id)));
    sqlx::query_as!(
        Package,
        r#"
        select id as "id: PackageId", name, description, amount as "amount: Fen", currency,
               points as "points: Points", bonus_points as "bonus_points: Points",
               is_active, sort_order, created_at, updated_at
        from payment_packages
        where is_active and ($1::integer is null or (sort_order, id) > ($1, $2))
        order by sort_order, id
        limit $3
        "#,
        sort_order,
        id as Option<PackageId>,
        limit,
    )
    .fetch_all(db)
    .await
}

/// One package that can be bought now.
pub async fn find_active(db: impl PgExecutor<'_>, id: PackageId) -> sqlx::Result<Option<Package>> {
    sqlx::query_as!(
        Package,
        r#"
        select id as "id: PackageId", name, description, amount as "amount: Fen", currency,
               points as "points: Points", bonus_points as "bonus_points: Points",
               is_active, sort_order, created_at, updated_at
        from payment_packages where id = $1 and is_active
        "#,
        id as _,
    )
    .fetch_optional(db)
    .await
}

/// Adds four sample packages when there are none. Answers how many were added.
pub async fn seed(db: impl PgExecutor<'_>) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        r#"
        with room as (
            -- Two seeds at once: the second waits here, and then finds the first one's rows.
            select pg_advisory_xact_lock(hashtext('payment_packages seed'))
        )
        insert into payment_packages (name, description, amount, points, bonus_points, sort_order)
        select sample.* from room, (values
            ('体验包', '100 积分，先试试看', 100::bigint, 100::bigint, 0::bigint, 10),
            ('标准包', '1000 积分，另送 50 积分', 1000, 1000, 50, 20),
            ('超值包', '5000 积分，另送 500 积分', 5000, 5000, 500, 30),
            ('尊享包', '10000 积分，另送 1500 积分', 10000, 10000, 1500, 40)
        ) as sample (name, description, amount, points, bonus_points, sort_order)
        where not exists (select from payment_packages)
        "#
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
