//! Keyset paging: a page begins where the last one ended, so its cost does not grow with its depth.
//!
//! A cursor is the key of a page's last row, behind a digest of the key, the list and what the list was narrowed to. It is
//! of use for that list alone: another one refuses it, instead of answering a page out of place. The digest is no
//! secret, because a cursor opens nothing: whose rows a caller may see is decided anew for each page.

use crate::fields::{Fields, FromFields};
use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

const DEFAULT_LIMIT: i64 = 20;
const MAX_LIMIT: i64 = 100;
/// Of the digest's bytes, those that a cursor carries.
const DIGEST_BYTES: usize = 12;

/// Which page is asked for. `K` is the key of the last row of the page before.
#[derive(Debug)]
pub struct PageQuery<K> {
    limit: i64,
    /// Where the page before ended.
    pub after: Option<K>,
    list: List,
}

impl<K: DeserializeOwned> PageQuery<K> {
    /// Takes `limit` and `cursor`. The list has a name that no other has, and a filter; `None` for the filter when that is
    /// at fault itself, for then the cursor cannot be told right from wrong.
    pub fn read(fields: &mut Fields, name: &str, filter: Option<&impl Serialize>) -> Option<Self> {
        let limit = fields.or("limit", "an integer from 1 to 100", DEFAULT_LIMIT, |value| {
            value.as_str()?.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit))
        });
        let list = filter.map(|filter| List::of(name, filter));
        let after =
            fields.or("cursor", "a nextCursor of an earlier answer to the same filters", None, |value| match &list {
                Some(list) => list.key(value.as_str()?).map(Some),
                None => Some(None),
            });
        Some(Self { limit: limit?, after: after?, list: list? })
    }
}

impl<K> PageQuery<K> {
    /// How many rows to ask for: one more than are shown, to know whether there are more.
    pub const fn rows(&self) -> i64 {
        self.limit + 1
    }
}

/// A list without a filter.
pub trait Unfiltered {
    /// Its name, which no other list has.
    const LIST: &'static str;
    /// What its rows sort by.
    type Key: DeserializeOwned;
}

/// Which page of the list `L` is asked for.
#[derive(Debug)]
pub struct PageOf<L: Unfiltered>(pub PageQuery<L::Key>);

impl<L: Unfiltered> FromFields for PageOf<L> {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        PageQuery::read(fields, L::LIST, Some(&())).map(Self)
    }
}

/// What a cursor belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct List(Vec<u8>);

impl List {
    fn of(name: &str, filter: &impl Serialize) -> Self {
        Self(serde_json::to_vec(&(name, filter)).expect("a name and a filter are JSON"))
    }

    fn cursor(&self, key: &impl Serialize) -> String {
        let key = serde_json::to_vec(key).expect("a key is JSON");
        URL_SAFE_NO_PAD.encode([&self.digest(&key)[..], &key].concat())
    }

    fn key<K: DeserializeOwned>(&self, cursor: &str) -> Option<K> {
        let cursor = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (digest, key) = cursor.split_first_chunk::<DIGEST_BYTES>()?;
        if *digest == self.digest(key) { serde_json::from_slice(key).ok() } else { None }
    }

    fn digest(&self, key: &[u8]) -> [u8; DIGEST_BYTES] {
        let mut context = Context::new(&SHA256);
        context.update(&self.0);
        // JSON holds no such byte: the list and the key cannot run into each other.
        context.update(&[0]);
        context.update(key);
        *context.finish().as_ref().first_chunk().expect("SHA-256 has 32 bytes")
    }
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// At most `limit` rows.
    items: Vec<T>,
    /// The `cursor` of the next page; null on the last one.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// The page of `rows`, which were asked for with [`PageQuery::rows`]; `key` is what a row sorts by.
    pub fn of<R: Into<T>, K: Serialize>(query: &PageQuery<K>, mut rows: Vec<R>, key: impl FnOnce(&R) -> K) -> Self {
        let shown = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let more = rows.len() > shown;
        rows.truncate(shown);
        let next_cursor = rows.last().filter(|_| more).map(|last| query.list.cursor(&key(last)));
        Self { items: rows.into_iter().map(Into::into).collect(), next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, Value, json};

    #[derive(Debug)]
    struct Numbers;

    impl Unfiltered for Numbers {
        const LIST: &'static str = "numbers";
        type Key = i64;
    }

    fn query(value: &Value) -> Result<PageQuery<i64>, Vec<String>> {
        let values: Map<_, _> = value.as_object().expect("an object").clone();
        let query = Fields::read::<PageOf<Numbers>>(values).map(|query| query.0);
        query.map_err(|errors| errors.into_iter().map(|error| error.field).collect())
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
        let bare = URL_SAFE_NO_PAD.encode("7");
        for cursor in ["", "x", "!", "bm9uc2Vuc2U", "bnVsbA", "eyJhIjoxfQ", &bare] {
            assert_eq!(query(&json!({"cursor": cursor})).map(drop), Err(vec!["cursor".into()]), "{cursor}");
        }
        assert_eq!(query(&json!({"page": "2"})).map(drop), Err(vec!["page".into()]));
    }

    #[test]
    fn a_cursor_belongs_to_its_list_and_its_filter() {
        let of = |name: &str, filter: Value| List::of(name, &filter);
        let mine = of("orders", json!({"status": "paid"}));
        let cursor = mine.cursor(&7);
        assert_eq!(mine.key(&cursor), Some(7));
        for other in [of("orders", json!({"status": null})), of("refunds", json!({"status": "paid"}))] {
            assert_eq!(other.key::<i64>(&cursor), None, "{other:?}");
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(&cursor).expect("base64");
        *bytes.last_mut().expect("a key") = b'8';
        assert_eq!(mine.key::<i64>(&URL_SAFE_NO_PAD.encode(&bytes)), None, "another key under the same digest");
    }

    #[test]
    fn a_filter_at_fault_leaves_the_cursor_in_peace() {
        #[derive(Debug)]
        struct Broken;
        impl FromFields for Broken {
            fn from_fields(fields: &mut Fields) -> Option<Self> {
                let filter = fields.or("status", "a status", 0, |_| None);
                PageQuery::<i64>::read(fields, "orders", filter.as_ref()).map(|_| Self)
            }
        }
        let values = json!({"status": "x", "cursor": "x", "limit": "0"});
        let errors = Fields::read::<Broken>(values.as_object().expect("an object").clone()).expect_err("faults");
        assert_eq!(errors.into_iter().map(|error| error.field).collect::<Vec<_>>(), ["status", "limit"]);
    }
}
