//! A run as one HTML file that needs nothing else: the report's table, and a time line of credits and faults.

use super::{
    plan::{APIS, Kind, Target, WORKERS},
    report::Report,
};
use std::fmt::Write;

const WIDTH: f64 = 1_000.0;
const CHART_HEIGHT: f64 = 160.0;
const LANE_HEIGHT: f64 = 22.0;
const LEFT: f64 = 150.0;

/// The page.
pub fn page(report: &Report) -> String {
    let verdict = if report.findings.is_empty() { "the books balance" } else { "something is off" };
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Chaos {seed}: {verdict}</title>\n<style>{STYLE}</style>\n\
         <h1>Chaos, seed {seed}: {verdict}</h1>\n{svg}\n<p>{legend}</p>\n<pre>{table}</pre>\n</html>\n",
        seed = report.seed,
        svg = time_line(report),
        legend = legend(),
        table = escape(&report.to_string()),
    )
}

const STYLE: &str = "body{font:15px system-ui,sans-serif;margin:2em auto;max-width:1180px;padding:0 1em;color:#222;background:#fff}\
    svg{width:100%;height:auto}text{font-size:12px;fill:#555}pre{background:#f6f6f6;padding:1em;overflow:auto}\
    b{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em}";

fn color(kind: Kind) -> &'static str {
    match kind {
        Kind::Kill => "#d62728",
        Kind::Stop => "#ff7f0e",
        Kind::Cut => "#9467bd",
        Kind::Stall => "#8c564b",
        Kind::Freeze => "#17becf",
        Kind::Skew(_) => "#bcbd22",
        Kind::Upgrade => "#1f77b4",
    }
}

fn legend() -> String {
    let kinds = [Kind::Kill, Kind::Stop, Kind::Cut, Kind::Stall, Kind::Freeze, Kind::Skew(0), Kind::Upgrade];
    kinds.iter().fold(String::from("Credits per second, and what broke:"), |mut text, kind| {
        let _ = write!(text, "<b style=\"background:{}\"></b>{}", color(*kind), kind.name());
        text
    })
}

fn lanes() -> Vec<(String, Target)> {
    let apis = (0..APIS).map(|nth| (format!("api {nth}"), Target::Api(nth)));
    let workers = (0..WORKERS).map(|nth| (format!("worker {nth}"), Target::Worker(nth)));
    let others = [Target::Postgres, Target::RabbitMq, Target::PostgresPath, Target::RabbitMqPath, Target::CallbackPath];
    apis.chain(workers).chain(others.into_iter().map(|target| (target.name().to_owned(), target))).collect()
}

fn time_line(report: &Report) -> String {
    let lanes = lanes();
    #[expect(clippy::cast_precision_loss, reason = "pixels")]
    let as_f64 = |number: usize| number as f64;
    let seconds = as_f64(report.credits_per_second.len()).max(report.length.as_secs_f64()).max(1.0);
    let most = as_f64(report.credits_per_second.iter().copied().max().unwrap_or(0).max(1));
    let (x, bottom) = (|at: f64| LEFT + at / seconds * WIDTH, CHART_HEIGHT + 20.0);
    let height = bottom + as_f64(lanes.len()) * LANE_HEIGHT + 40.0;
    let mut svg = format!("<svg viewBox=\"0 0 {:.0} {height:.0}\" role=\"img\">\n", LEFT + WIDTH + 10.0);
    let _ =
        writeln!(svg, "<text x=\"0\" y=\"30\">credits per second</text><text x=\"0\" y=\"46\">at most {most}</text>");
    for (second, credits) in report.credits_per_second.iter().enumerate().filter(|(_, credits)| **credits > 0) {
        let tall = as_f64(*credits) / most * CHART_HEIGHT;
        let (left, top, wide) = (x(as_f64(second)), bottom - tall, (WIDTH / seconds).max(0.2));
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.2}\" y=\"{top:.1}\" width=\"{wide:.2}\" height=\"{tall:.1}\" fill=\"#2ca02c\"><title>second {second}: {credits}</title></rect>",
        );
    }
    for (row, (name, target)) in lanes.iter().enumerate() {
        let top = bottom + 8.0 + as_f64(row) * LANE_HEIGHT;
        let _ = writeln!(svg, "<text x=\"0\" y=\"{:.0}\">{name}</text>", top + 13.0);
        for struck in report.struck.iter().filter(|struck| struck.strike.target == *target) {
            let (from, to) = (struck.began.as_secs_f64(), struck.ended.as_secs_f64());
            let (left, wide) = (x(from), ((to - from) / seconds * WIDTH).max(2.0));
            let _ = writeln!(
                svg,
                "<rect x=\"{left:.2}\" y=\"{top:.0}\" width=\"{wide:.2}\" height=\"16\" fill=\"{}\"><title>{}, {from:.1} to {to:.1} s</title></rect>",
                color(struck.strike.kind),
                escape(&struck.strike.to_string()),
            );
        }
    }
    let end = x(report.length.as_secs_f64());
    let _ = writeln!(
        svg,
        "<line x1=\"{end:.1}\" y1=\"10\" x2=\"{end:.1}\" y2=\"{:.0}\" stroke=\"#999\" stroke-dasharray=\"4\"/>\
         <text x=\"{LEFT}\" y=\"{:.0}\">0 s</text><text x=\"{end:.1}\" y=\"{:.0}\" text-anchor=\"end\">{} s: everything is put right</text>\n</svg>",
        height - 25.0,
        height - 8.0,
        height - 8.0,
        report.length.as_secs(),
    );
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
