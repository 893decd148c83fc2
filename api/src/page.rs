//! Keyset paging: a page begins where the last one ended, so its cost does not grow with its depth.

use crate::fields::{Fields, FromFields};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};

const DEFAULT_LIMIT: i64 = 20;
const MAX_LIMIT: i64 = 100;

/// Which page is asked for. `K` is the key of the last row of the page before.
#[derive(Debug)]
pub struct PageQuery<K> {
    limit: i64,
    /// Where the page before ended.
    pub after: Option<K>,
}

impl<K: DeserializeOwned> FromFields for PageQuery<K> {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let limit = fields.or("limit", "an integer from 1 to 100", DEFAULT_LIMIT, |value| {
            value.as_str()?.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit))
        });
        let after = fields.or("cursor", "a nextCursor of an earlier answer", None, |value| {
            let json = URL_SAFE_NO_PAD.decode(value.as_str()?).ok()?;
            serde_json::from_slice(&json).ok().map(Some)
        });
        Some(Self { limit: limit?, after: after? })
    }
}

impl<K> PageQuery<K> {
    /// How many rows to ask for: one more than are shown, to know whether there are more.
    pub const fn rows(&self) -> i64 {
        self.limit + 1
    }
}

/// One page of a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// The page of `rows`, which were asked for with [`PageQuery::rows`]; `key` is what a row sorts by.
    pub fn of<R: Into<T>, K: Serialize>(query: &PageQuery<K>, mut rows: Vec<R>, key: impl FnOnce(&R) -> K) -> Self {
        let shown = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let more = rows.len() > shown;
        rows.truncate(shown);
        let next_cursor = rows.last().filter(|_| more).map(|last| {
            let json = serde_json::to_vec(&key(last)).expect("a key is JSON");
            URL_SAFE_NO_PAD.encode(json)
        });
        Self { items: rows.into_iter().map(Into::into).collect(), next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, Value, json};

    fn query(value: &Value) -> Result<PageQuery<i64>, Vec<String>> {
        let values: Map<_, _> = value.as_object().expect("an object").clone();
        Fields::read(values).map_err(|errors| errors.into_iter().map(|error| error.field).collect())
    }

    #[test]
    fn a_walk_returns_each_row_once() {
        let all: Vec<i64> = (1..=45).collect();
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let query = match &cursor {
                None => query(&json!({})),
                Some(cursor) => query(&json!({"cursor": cursor})),
            };
            let query = query.expect("a query");
            let after = query.after.unwrap_or(0);
            let rows: Vec<i64> = all.iter().copied().filter(|row| *row > after).take(21).collect();
            let page: Page<i64> = Page::of(&query, rows, |row| *row);
            assert!(page.items.len() <= 20);
            seen.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn a_limit_or_cursor_that_was_made_up_is_named() {
        for limit in ["0", "101", "-1", "x", "", "1.5", "99999999999999999999"] {
            assert_eq!(query(&json!({"limit": limit})).map(drop), Err(vec!["limit".into()]), "{limit}");
        }
        for cursor in ["x", "!", "bm9uc2Vuc2U", "bnVsbA", "eyJhIjoxfQ"] {
            assert_eq!(query(&json!({"cursor": cursor})).map(drop), Err(vec!["cursor".into()]), "{cursor}");
        }
        assert_eq!(query(&json!({"page": "2"})).map(drop), Err(vec!["page".into()]));
    }
}
