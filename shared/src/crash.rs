//! Points at which a test can kill the process. In debug builds only: a release has none of it.

/// Ends the process at once, like `kill -9`, when `RECHARGE_CRASH_AT` names this point, as `point` or `point:subject`.
#[cfg(debug_assertions)]
pub fn point(name: &str, subject: &str) {
    static WANTED: std::sync::LazyLock<Option<String>> = std::sync::LazyLock::new(wanted);
    let Some(wanted) = &*WANTED else { return };
    let (point, of) = wanted.split_once(':').map_or((wanted.as_str(), None), |(point, of)| (point, Some(of)));
    if point == name && of.is_none_or(|of| of == subject) {
        eprintln!("RECHARGE_CRASH_AT={wanted}: the process ends here");
        std::process::abort();
    }
}

#[cfg(debug_assertions)]
#[expect(clippy::disallowed_methods, reason = "a hook for tests is no configuration")]
fn wanted() -> Option<String> {
    std::env::var("RECHARGE_CRASH_AT").ok()
}

/// Nothing, in a release.
#[cfg(not(debug_assertions))]
pub const fn point(_: &str, _: &str) {}
