//! Making and changing packages: what an admin decides, and the transaction that also tells the audit log.

use super::{Description, Package, PackageId, PackageName, sql};
use crate::{
    audit::{self, Deed},
    db,
    money::Fen,
    points::Points,
    users::UserId,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::PgPool;

/// All that an admin decides about a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Terms {
    /// What the buyer sees.
    pub name: PackageName,
    /// What the buyer can read about it.
    pub description: Description,
    /// The price, one of [`super::AMOUNTS`].
    pub amount: Fen,
    /// The points that are paid for, one of [`super::POINTS`].
    pub points: Points,
    /// The points that come on top, one of [`super::BONUS_POINTS`].
    pub bonus_points: Points,
    /// Whether it can be bought.
    pub is_active: bool,
    /// Smaller comes first.
    pub sort_order: i32,
}

impl Terms {
    fn of(package: &Package) -> Self {
        Self {
            name: PackageName(package.name.clone()),
            description: Description(package.description.clone()),
            amount: package.amount,
            points: package.points,
            bonus_points: package.bonus_points,
            is_active: package.is_active,
            sort_order: package.sort_order,
        }
    }
}

/// What of a package becomes another; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// What the buyer sees.
    pub name: Option<PackageName>,
    /// What the buyer can read about it.
    pub description: Option<Description>,
    /// The price.
    pub amount: Option<Fen>,
    /// The points that are paid for.
    pub points: Option<Points>,
    /// The points that come on top.
    pub bonus_points: Option<Points>,
    /// Whether it can be bought.
    pub is_active: Option<bool>,
    /// Smaller comes first.
    pub sort_order: Option<i32>,
}

impl Change {
    /// The terms after the change.
    fn of(self, now: &Terms) -> Terms {
        Terms {
            name: self.name.unwrap_or_else(|| now.name.clone()),
            description: self.description.unwrap_or_else(|| now.description.clone()),
            amount: self.amount.unwrap_or(now.amount),
            points: self.points.unwrap_or(now.points),
            bonus_points: self.bonus_points.unwrap_or(now.bonus_points),
            is_active: self.is_active.unwrap_or(now.is_active),
            sort_order: self.sort_order.unwrap_or(now.sort_order),
        }
    }
}

/// What is different, field by field: `{"amount": {"from": 100, "to": 200}}`.
fn differences(before: &Terms, after: &Terms) -> Map<String, Value> {
    let (Value::Object(before), Value::Object(after)) = (json!(before), json!(after)) else { return Map::new() };
    let changed = after.into_iter().filter(|(field, to)| before[field] != *to);
    changed.map(|(field, to)| (field.clone(), json!({"from": before[&field], "to": to}))).collect()
}

/// Adds a package.
pub async fn create(db: &PgPool, actor: &UserId, terms: &Terms) -> sqlx::Result<Package> {
    let mut tx = db::begin(db).await?;
    let package = sql::insert(&mut *tx, terms).await?;
    let subject = package.id.get().to_string();
    let deed = Deed { actor, action: "package.create", subject, reason: None, detail: json!(terms) };
    audit::sql::record(&mut tx, &deed).await?;
    tx.commit().await?;
    Ok(package)
}

/// Changes a package; `None` when there is none. A change that changes nothing leaves no trace.
pub async fn change(db: &PgPool, actor: &UserId, id: PackageId, change: Change) -> sqlx::Result<Option<Package>> {
    let mut tx = db::begin(db).await?;
    let Some(package) = sql::lock(&mut tx, id).await? else { return Ok(None) };
    let before = Terms::of(&package);
    let after = change.of(&before);
    let differences = differences(&before, &after);
    if differences.is_empty() {
        return Ok(Some(package));
    }
    let package = sql::update(&mut *tx, id, &after).await?;
    let subject = id.get().to_string();
    let deed = Deed { actor, action: "package.change", subject, reason: None, detail: differences.into() };
    audit::sql::record(&mut tx, &deed).await?;
    tx.commit().await?;
    Ok(Some(package))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms {
            name: "标准包".parse().expect("a name"),
            description: Description::default(),
            amount: Fen::ONE,
            points: 100.try_into().expect("points"),
            bonus_points: 0.try_into().expect("points"),
            is_active: true,
            sort_order: 10,
        }
    }

    #[test]
    fn only_what_differs_is_told() {
        let change = Change { is_active: Some(false), sort_order: Some(10), ..Change::default() };
        let after = change.of(&terms());
        assert_eq!(after, Terms { is_active: false, ..terms() });
        assert_eq!(Value::from(differences(&terms(), &after)), json!({"isActive": {"from": true, "to": false}}));
        assert!(differences(&terms(), &Change::default().of(&terms())).is_empty());
    }

    #[test]
    fn names_and_descriptions_have_a_length_in_characters() {
        for good in ["a", "超", &"包".repeat(64), " a "] {
            assert!(good.parse::<PackageName>().is_ok(), "{good}");
        }
        for bad in ["", " ", "a\nb", "a\0", &"包".repeat(65)] {
            assert!(bad.parse::<PackageName>().is_err(), "{bad}");
        }
        for good in ["", "two\nlines\tand a tab", &"述".repeat(500)] {
            assert!(good.parse::<Description>().is_ok(), "{good}");
        }
        for bad in ["a\0", "\u{1b}[1m", &"述".repeat(501)] {
            assert!(bad.parse::<Description>().is_err(), "{bad}");
        }
    }
}
