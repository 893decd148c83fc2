//! A run as one HTML file that needs nothing else: the verdict, the time line, and the figures.

use super::{
    plan::{Kind, Target},
    report::{Report, SETTLE_GOAL, grouped, seconds},
    time_line::{self, as_f64, class, clock},
};
use std::fmt::Write;

/// Seconds of one of the longer drawings, where the run as a whole is too long to see each fault.
const PART_SECONDS: f64 = 300.0;

/// The page.
pub fn page(report: &Report) -> String {
    let verdict = if report.findings.is_empty() { "The books balance" } else { "Something is off" };
    let sections = [
        head(report, verdict),
        findings(report),
        time_lines(report),
        faults(report),
        latencies(report),
        figures(report),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>Chaos, seed {}: {verdict}</title>\n<style>\n{STYLE}</style></head>\n<body>\n{}</body>\n</html>\n",
        report.seed,
        sections.concat()
    )
}

const STYLE: &str = include_str!("page.css");

fn head(report: &Report, verdict: &str) -> String {
    let class = if report.findings.is_empty() { "good" } else { "bad" };
    let settled = report.settle.map_or("never".to_owned(), |settle| format!("{:.1} s", settle.as_secs_f64()));
    let in_time = report.settle.is_some_and(|settle| settle <= SETTLE_GOAL);
    let tile = |value: &str, name: &str, is_good: Option<bool>| {
        let class = is_good.map_or("", |is_good| if is_good { " class=\"good\"" } else { " class=\"bad\"" });
        format!("<li{class}><b>{value}</b> {name}</li>\n")
    };
    let count = |number: usize| grouped(number.try_into().expect("a count"));
    let tiles = [
        tile(&count(report.lost), "lost", Some(report.lost == 0)),
        tile(&count(report.doubled), "doubled", Some(report.doubled == 0)),
        tile(&settled, &format!("to settle, of {} s allowed", SETTLE_GOAL.as_secs()), Some(in_time)),
        tile(&count(report.payments), "payments", None),
        tile(&count(report.kills()), "kills", None),
        tile(&count(report.struck.len() - report.kills()), "other faults", None),
    ];
    format!(
        "<h1 class=\"{class}\">{verdict}</h1>\n<p>Chaos: {}; {}.</p>\n<ul class=\"tiles\">\n{}</ul>\n",
        report.heading(),
        escape(&report.subject.to_string()),
        tiles.concat()
    )
}

fn findings(report: &Report) -> String {
    if report.findings.is_empty() {
        return String::new();
    }
    let lines: Vec<_> = report.findings.iter().map(|finding| format!("<li>{}</li>\n", escape(finding))).collect();
    format!("<h2>What is off</h2>\n<ul class=\"bad\">\n{}</ul>\n", lines.concat())
}

fn time_lines(report: &Report) -> String {
    let all = time_line::seconds(report);
    let sign = |class: &str, name: &str| format!("<span><i class=\"{class}\"></i>{name}</span>\n");
    let kinds: String = Kind::ALL.iter().map(|kind| sign(class(*kind), kind.name())).collect();
    let mut text = format!(
        "<h2>Time line</h2>\n<p class=\"legend\">{}{}{kinds}{}</p>\n<figure>{}</figure>\n",
        sign("credits", "credits here"),
        sign("payments", "payments at WeChat Pay"),
        sign("end", "everything is put right"),
        time_line::draw(report, 0.0, all)
    );
    if all > PART_SECONDS * 2.0 {
        text.push_str("<details><summary>Five minutes at a time</summary>\n");
        let mut from = 0.0;
        while from < all {
            let to = from + PART_SECONDS;
            let drawing = time_line::draw(report, from, to);
            let _ = writeln!(text, "<h3>{} to {}</h3>\n<figure>{drawing}</figure>", clock(from), clock(to));
            from = to;
        }
        text.push_str("</details>\n");
    }
    text
}

/// What each kind of fault is.
const fn about(kind: Kind) -> &'static str {
    match kind {
        Kind::Kill => "ended without a word",
        Kind::Stop => "stopped, and continued",
        Kind::Cut => "connections closed and refused",
        Kind::Stall => "connections hang, and go on",
        Kind::Freeze => "standing connections dead without a word",
        Kind::Skew(_) => "a clock off by minutes",
        Kind::Upgrade => "ended in good order, another binary started",
    }
}

fn faults(report: &Report) -> String {
    let mut text = String::from("<h2>What broke</h2>\n<div class=\"wide\"><table>\n<tr><th></th>");
    for target in Target::NAMES {
        let _ = write!(text, "<th scope=\"col\">{target}</th>");
    }
    text.push_str("<th scope=\"col\">all</th></tr>\n");
    for kind in Kind::ALL {
        let counts = Target::NAMES.map(|target| report.faults(kind.name(), target));
        let _ = write!(
            text,
            "<tr><th scope=\"row\"><i class=\"{}\"></i>{}<small>{}</small></th>",
            class(kind),
            kind.name(),
            about(kind)
        );
        for count in counts {
            let _ = write!(text, "<td>{}</td>", if count == 0 { "–".to_owned() } else { count.to_string() });
        }
        let _ = writeln!(text, "<td><b>{}</b></td></tr>", counts.iter().sum::<usize>());
    }
    text.push_str("</table></div>\n");
    text
}

fn latencies(report: &Report) -> String {
    let classes = report.latency_classes();
    let all = report.latencies_ms.len().max(1);
    let most = classes.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let mut text = String::from(
        "<h2>From payment to credit</h2>\n\
         <p>From the payer's confirmation to the commit here, with all that was lost and broken on the way.</p>\n<table class=\"bars\">\n\
         <tr><th scope=\"col\">within</th><th scope=\"col\">payments</th><th scope=\"col\">by then</th><th></th></tr>\n",
    );
    let mut by_then = 0;
    for (bound, count) in classes {
        by_then += count;
        let name = bound.map_or("longer".to_owned(), seconds);
        let (share, wide) = (as_f64(by_then) / as_f64(all) * 100.0, as_f64(count) / as_f64(most) * 100.0);
        let _ = writeln!(
            text,
            "<tr><th scope=\"row\">{name}</th><td>{}</td><td>{share:.2} %</td>\
             <td><i class=\"bar\" style=\"width:{wide:.1}%\"></i></td></tr>",
            grouped(count.try_into().expect("a count"))
        );
    }
    text.push_str("</table>\n");
    text
}

fn figures(report: &Report) -> String {
    let mut text = String::from("<h2>Figures</h2>\n<div class=\"wide\"><table class=\"words\">\n");
    for (name, value) in report.rows() {
        let _ = writeln!(text, "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", escape(&value));
    }
    let _ = writeln!(text, "<tr><th scope=\"row\">time to settle</th><td>{}</td></tr>", report.settling());
    let minutes = report.length.as_secs_f64() / 60.0;
    let _ = writeln!(
        text,
        "</table></div>\n<p>The same plan again: <code>CHAOS_SEED={} CHAOS_MINUTES={minutes} CHAOS_PACE={} make chaos</code></p>",
        report.seed, report.pace
    );
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::{Subject, dice::Dice, faults::Struck, ledger::Callbacks, plan::Plan};
    use std::{collections::BTreeMap, time::Duration};

    fn report(seconds: u64) -> Report {
        let (length, pace) = (Duration::from_secs(seconds), 18.0);
        let plan = Plan::new(7, length, pace);
        let struck = plan.strikes.iter().map(|strike| Struck {
            strike: *strike,
            began: strike.at,
            ended: strike.at + strike.length,
        });
        let mut dice = Dice::new(7, 9);
        let mut per_second = || (0..seconds).map(|_| dice.index(36)).collect::<Vec<_>>();
        let (payments_per_second, credits_per_second) = (per_second(), per_second());
        let payments = credits_per_second.iter().sum();
        let mut latencies_ms: Vec<i64> = (0..payments).map(|_| 1_i64 << dice.within(5, 16)).collect();
        latencies_ms.sort_unstable();
        Report {
            subject: Subject { commit: "0123456789ab".into(), build: "checked".into(), cores: 2 },
            seed: 7,
            length,
            pace,
            purchases: plan.purchases.len(),
            orders: payments + 400,
            payments,
            refunds: (812, 74),
            struck: struck.collect(),
            callbacks: Callbacks { delivered: 70_123, lost: 5_012, refused: 3_456, doubled: 4_567, lies: 6_789 },
            settle: Some(Duration::from_millis(12_345)),
            latencies_ms,
            payments_per_second,
            credits_per_second,
            given_up: BTreeMap::from([("orders", 3)]),
            lost: 0,
            doubled: 0,
            findings: Vec::new(),
        }
    }

    #[test]
    fn the_verdict_comes_first_and_what_is_off_is_named() {
        let good = page(&report(150));
        let place = |page: &str, text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is missing"));
        assert!(place(&good, "The books balance</h1>") < place(&good, "Time line"));
        assert!(!good.contains("What is off") && !good.contains("at a time"));
        let off = Report { lost: 2, findings: vec!["payments without a credit: 2 (<O1>)".into()], ..report(150) };
        let off = page(&off);
        assert!(place(&off, "Something is off</h1>") < place(&off, "payments without a credit: 2 (&lt;O1&gt;)"));
        assert!(off.contains("<li class=\"bad\"><b>2</b> lost</li>"));
    }

    #[test]
    fn an_hour_fits_and_nothing_comes_from_elsewhere() {
        let hour = report(3_600);
        let page = page(&hour);
        assert!(hour.struck.iter().all(|struck| page.contains(&struck.strike.to_string())));
        assert!(page.contains("55:00 to 1:00:00"));
        for foreign in ["<script", "http:", "https:", "src=", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.len() < 2_000_000, "{} bytes", page.len());
    }
}
