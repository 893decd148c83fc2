//! Orders that wait for their payment, put in by the thousand.

use crate::callback::AMOUNT_FEN;
use sqlx::PgPool;
use std::ops::Range;

/// Points and bonus points of every order.
pub const POINTS: (i64, i64) = (100, 5);
/// Rows of one statement.
const CHUNK: u64 = 50_000;

/// The numbers of one benchmark's orders and payments.
#[derive(Clone, Debug)]
pub struct Numbers {
    /// What all its order numbers begin with.
    pub prefix: String,
}

impl Numbers {
    /// The order's number: they sort as they count.
    pub fn order_no(&self, n: u64) -> String {
        format!("{}{n:010}", self.prefix)
    }

    /// Which order a number is of.
    pub fn index(&self, order_no: &str) -> Option<u64> {
        order_no.strip_prefix(&self.prefix)?.parse().ok()
    }
}

/// WeChat Pay's number of the payment of the `n`-th order, 28 digits as real ones have.
pub fn transaction_id(n: u64) -> String {
    format!("4200000000{n:018}")
}

/// Makes pending orders, spread over `users` accounts. Nobody asks WeChat Pay about them: `next_check_at` is null.
pub async fn insert(db: &PgPool, numbers: &Numbers, range: Range<u64>, users: u64) -> anyhow::Result<()> {
    let mut from = range.start;
    while from < range.end {
        let to = range.end.min(from + CHUNK);
        sqlx::query(
            "insert into payment_orders (order_no, user_id, package_id, package_name, amount, points, bonus_points,
                 payment_method, code_url, expired_at, next_check_at)
             select $1 || lpad(n::text, 10, '0'), 'bench' || n % $4, p.id, 'bench', $5, $6, $7,
                 'wechat_native', 'weixin://wxpay/bizpayurl?pr=' || lpad(to_hex(n), 9, '0'),
                 date_trunc('second', now()) + interval '2 hours', null
             from generate_series($2::bigint, $3::bigint - 1) as n, (select min(id) as id from payment_packages) as p",
        )
        .bind(&numbers.prefix)
        .bind(i64::try_from(from)?)
        .bind(i64::try_from(to)?)
        .bind(i64::try_from(users)?)
        .bind(AMOUNT_FEN)
        .bind(POINTS.0)
        .bind(POINTS.1)
        .execute(db)
        .await?;
        from = to;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_names_its_order() {
        let numbers = Numbers { prefix: "bench0a1b".into() };
        assert_eq!(numbers.order_no(17), "bench0a1b0000000017");
        assert_eq!(numbers.index("bench0a1b0000000017"), Some(17));
        assert_eq!(numbers.index("other0a1b0000000017"), None);
        assert_eq!(transaction_id(3).len(), 28);
        assert!(numbers.order_no(9) < numbers.order_no(10));
    }
}
