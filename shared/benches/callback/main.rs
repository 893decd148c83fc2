//! What a callback costs in pure computing, µs for each: at the door and again in the worker `verify`; in the worker `parse`
//! and `decrypt`, all three as `open`; and `decide`. On the simulator's callbacks, one that is always the same and 256 in
//! turn, as a set brings them.
//!
//! `make microbench`. How fast the service is with its database and its broker is another question.

mod stock;

use divan::{Bencher, black_box};
use shared::{payments::decide_set, wechat::notification::notify_type};
use std::sync::LazyLock;
use stock::{Envelope, Stock};

/// Callbacks that take turns.
const SETS: [usize; 2] = [1, 256];
static STOCK: LazyLock<Stock> = LazyLock::new(|| Stock::make(SETS[1]));

fn main() {
    LazyLock::force(&STOCK);
    divan::main();
}

/// Calls `work` with the callbacks' places in turn.
fn in_turn<T>(bencher: Bencher<'_, '_>, set: usize, work: impl Fn(usize) -> T + Sync) {
    let mut next = (0..set).cycle();
    bencher.with_inputs(move || next.next().expect("it has no end")).bench_local_values(work);
}

/// The signature, by a key that was parsed once.
#[divan::bench(args = SETS)]
fn verify(bencher: Bencher<'_, '_>, set: usize) {
    in_turn(bencher, set, |nth| {
        let callback = &STOCK.callbacks[nth];
        STOCK.keys.verify(&callback.headers.wechatpay_serial, &callback.signed(), &callback.body)
    });
}

/// The event's family, as the door reads it.
#[divan::bench(args = SETS)]
fn parse_head(bencher: Bencher<'_, '_>, set: usize) {
    in_turn(bencher, set, |nth| notify_type(&STOCK.callbacks[nth].body));
}

/// The envelope with its resource.
#[divan::bench(args = SETS)]
fn parse_envelope(bencher: Bencher<'_, '_>, set: usize) {
    in_turn(bencher, set, |nth| serde_json::from_slice::<Envelope<'_>>(&STOCK.callbacks[nth].body));
}

/// The payment that the plaintext tells of, checked for whom it is.
#[divan::bench(args = SETS)]
fn parse_payment(bencher: Bencher<'_, '_>, set: usize) {
    in_turn(bencher, set, |nth| STOCK.payment(&STOCK.callbacks[nth].plaintext));
}

/// The resource, read before.
#[divan::bench(args = SETS)]
fn decrypt(bencher: Bencher<'_, '_>, set: usize) {
    let envelopes: Vec<Envelope<'_>> = STOCK.callbacks[..set].iter().map(stock::Callback::envelope).collect();
    in_turn(bencher, set, |nth| STOCK.merchant.api_key.open(&envelopes[nth].resource));
}

/// All that a worker does with a stored callback before it asks the database.
#[divan::bench(args = SETS)]
fn open(bencher: Bencher<'_, '_>, set: usize) {
    in_turn(bencher, set, |nth| {
        let callback = &STOCK.callbacks[nth];
        STOCK.opener.open(&callback.headers, &callback.body)
    });
}

/// What one payment means, among so many orders that are locked.
#[divan::bench(args = SETS, sample_size = 16)]
fn decide(bencher: Bencher<'_, '_>, set: usize) {
    let mut next = (0..set).cycle();
    bencher
        .with_inputs(|| (STOCK.orders(set), next.next().expect("it has no end")))
        .bench_local_refs(|(orders, nth)| decide_set(black_box(orders), &[&STOCK.callbacks[*nth].payment]));
}
