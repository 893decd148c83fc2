//! The packages' queries.

use super::{Package, PackageId, change::Terms};
use crate::{money::Fen, points::Points};
use sqlx::{PgExecutor, PgTransaction};

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

/// All packages in display order, after the one at `after` (its sort order and id).
pub async fn list_all(
    db: impl PgExecutor<'_>,
    after: Option<(i32, PackageId)>,
    limit: i64,
) -> sqlx::Result<Vec<Package>> {
    let (sort_order, id) = after.unwrap_or((i32::MIN, PackageId(i64::MIN)));
    sqlx::query_as!(
        Package,
        r#"
        select id as "id: PackageId", name, description, amount as "amount: Fen", currency,
               points as "points: Points", bonus_points as "bonus_points: Points",
               is_active, sort_order, created_at, updated_at
        from payment_packages
        where (sort_order, id) > ($1, $2)
        order by sort_order, id
        limit $3
        "#,
        sort_order,
        id as PackageId,
        limit,
    )
    .fetch_all(db)
    .await
}

/// Locks the package until the transaction ends. Orders of it can be made all the same.
pub async fn lock(tx: &mut PgTransaction<'_>, id: PackageId) -> sqlx::Result<Option<Package>> {
    sqlx::query_as!(
        Package,
        r#"
        select id as "id: PackageId", name, description, amount as "amount: Fen", currency,
               points as "points: Points", bonus_points as "bonus_points: Points",
               is_active, sort_order, created_at, updated_at
        from payment_packages where id = $1 for no key update
        "#,
        id as _,
    )
    .fetch_optional(&mut **tx)
    .await
}

/// Adds a package.
pub async fn insert(db: impl PgExecutor<'_>, terms: &Terms) -> sqlx::Result<Package> {
    sqlx::query_as!(
        Package,
        r#"
        insert into payment_packages (name, description, amount, points, bonus_points, is_active, sort_order)
        values ($1, $2, $3, $4, $5, $6, $7)
        returning id as "id: PackageId", name, description, amount as "amount: Fen", currency,
                  points as "points: Points", bonus_points as "bonus_points: Points",
                  is_active, sort_order, created_at, updated_at
        "#,
        terms.name as _,
        terms.description as _,
        terms.amount as _,
        terms.points as _,
        terms.bonus_points as _,
        terms.is_active,
        terms.sort_order,
    )
    .fetch_one(db)
    .await
}

/// Gives a package other terms.
pub async fn update(db: impl PgExecutor<'_>, id: PackageId, terms: &Terms) -> sqlx::Result<Package> {
    sqlx::query_as!(
        Package,
        r#"
        update payment_packages
        set name = $2, description = $3, amount = $4, points = $5, bonus_points = $6, is_active = $7, sort_order = $8,
            updated_at = now()
        where id = $1
        returning id as "id: PackageId", name, description, amount as "amount: Fen", currency,
                  points as "points: Points", bonus_points as "bonus_points: Points",
                  is_active, sort_order, created_at, updated_at
        "#,
        id as _,
        terms.name as _,
        terms.description as _,
        terms.amount as _,
        terms.points as _,
        terms.bonus_points as _,
        terms.is_active,
        terms.sort_order,
    )
    .fetch_one(db)
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
