//! A stretch of a run as a drawing: credits and payments per second above, below them what broke, a lane for each target.

use super::{
    plan::{APIS, Kind, Target, WORKERS},
    report::Report,
};
use std::fmt::Write;

/// Pixels, as long as the drawing is not scaled.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 70.0;
const CHART_TOP: f64 = 12.0;
const CHART_HEIGHT: f64 = 150.0;
const LANE_HEIGHT: f64 = 24.0;
const KILL_HEIGHT: f64 = 18.0;
const FAULT_HEIGHT: f64 = 10.0;
/// Less than this cannot be seen, or pointed at.
const LEAST_WIDTH: f64 = 2.0;
/// Columns of the chart at most.
const MOST_COLUMNS: f64 = 330.0;
/// What a column, or the time between two marks of the axis, may stand for, in seconds.
const STEPS_SECONDS: [f64; 14] =
    [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 3_600.0, 7_200.0];

/// The stretch from one second to another.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from: f64,
    to: f64,
}

impl Stretch {
    fn x(self, at: f64) -> f64 {
        LEFT + (at.clamp(self.from, self.to) - self.from) / (self.to - self.from) * WIDTH
    }

    fn seconds(self) -> f64 {
        self.to - self.from
    }

    /// Multiples of `step` in it.
    fn marks(self, step: f64) -> impl Iterator<Item = f64> {
        let first = (self.from / step).ceil();
        (0..).map(move |nth| (first + f64::from(nth)) * step).take_while(move |at| *at <= self.to)
    }
}

/// How many seconds a run has, until it was settled.
pub fn seconds(report: &Report) -> f64 {
    let settled = report.length + report.settle.unwrap_or_default();
    as_f64(report.credits_per_second.len()).max(settled.as_secs_f64()).ceil().max(1.0)
}

/// The colour's class of a kind of fault.
pub const fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Kill => "kill",
        Kind::Stop => "stop",
        Kind::Cut => "cut",
        Kind::Stall => "stall",
        Kind::Freeze => "freeze",
        Kind::Skew(_) => "skew",
        Kind::Upgrade => "upgrade",
    }
}

/// Minutes and seconds, and hours where there are any.
pub fn clock(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole seconds of a run")]
    let all = seconds.max(0.0) as u64;
    let (hours, minutes, seconds) = (all / 3_600, all / 60 % 60, all % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// The drawing from one second to another.
pub fn draw(report: &Report, from: f64, to: f64) -> String {
    let stretch = Stretch { from, to };
    let lanes = lanes();
    let bottom = CHART_TOP + CHART_HEIGHT;
    let end_of_lanes = bottom + 14.0 + as_f64(lanes.len()) * LANE_HEIGHT;
    let (width, height) = (LEFT + WIDTH + RIGHT, end_of_lanes + 26.0);
    let label = format!("Credits per second, and what broke, from {} to {}", clock(from), clock(to));
    let mut svg = format!("<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{label}\">\n");
    time_axis(&mut svg, stretch, end_of_lanes);
    chart(&mut svg, report, stretch);
    for (nth, (name, target)) in lanes.iter().enumerate() {
        lane(&mut svg, report, stretch, name, *target, bottom + 14.0 + as_f64(nth) * LANE_HEIGHT);
    }
    let end = report.length.as_secs_f64();
    if from <= end && end < to {
        let x = stretch.x(end);
        let _ = writeln!(
            svg,
            "<line class=\"end\" x1=\"{x:.1}\" y1=\"{CHART_TOP}\" x2=\"{x:.1}\" y2=\"{end_of_lanes:.0}\"><title>{}: everything is put right</title></line>",
            clock(end)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn lanes() -> Vec<(String, Target)> {
    let apis = (0..APIS).map(|nth| (format!("api {nth}"), Target::Api(nth)));
    let workers = (0..WORKERS).map(|nth| (format!("worker {nth}"), Target::Worker(nth)));
    let others = [Target::Postgres, Target::RabbitMq, Target::PostgresPath, Target::RabbitMqPath, Target::CallbackPath];
    apis.chain(workers).chain(others.into_iter().map(|target| (target.name().to_owned(), target))).collect()
}

fn time_axis(svg: &mut String, stretch: Stretch, end_of_lanes: f64) {
    let step = STEPS_SECONDS.into_iter().find(|step| stretch.seconds() / step <= 12.0).unwrap_or(7_200.0);
    for at in stretch.marks(step) {
        let x = stretch.x(at);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{CHART_TOP}\" x2=\"{x:.1}\" y2=\"{end_of_lanes:.0}\"/>\
             <text class=\"middle\" x=\"{x:.1}\" y=\"{:.0}\">{}</text>",
            end_of_lanes + 18.0,
            clock(at)
        );
    }
}

/// Columns of credits, and a line of payments. Each stands for the mean of its seconds.
fn chart(svg: &mut String, report: &Report, stretch: Stretch) {
    let step = STEPS_SECONDS.into_iter().find(|step| stretch.seconds() / step <= MOST_COLUMNS).unwrap_or(7_200.0);
    let bottom = CHART_TOP + CHART_HEIGHT;
    let columns: Vec<(Stretch, f64, f64)> = stretch
        .marks(step)
        .filter(|at| *at < stretch.to)
        .map(|at| {
            let column = Stretch { from: at, to: (at + step).min(stretch.to) };
            (column, mean(&report.credits_per_second, column), mean(&report.payments_per_second, column))
        })
        .collect();
    let most = columns.iter().map(|(_, credits, payments)| credits.max(*payments)).fold(1.0, f64::max);
    let unit = value_step(most);
    let top = (most / unit).ceil() * unit;
    let y = |value: f64| bottom - value / top * CHART_HEIGHT;
    for value in (Stretch { from: 0.0, to: top }).marks(unit) {
        let at = y(value);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.0}\" y2=\"{at:.1}\"/>\
             <text class=\"end\" x=\"{:.0}\" y=\"{:.1}\">{value}</text>",
            LEFT + WIDTH,
            LEFT - 8.0,
            at + 4.0
        );
    }
    let _ = writeln!(svg, "<text x=\"0\" y=\"{:.0}\">credits a second</text>", CHART_TOP + 10.0);
    let mut line = String::new();
    for (column, credits, payments) in &columns {
        let (left, right) = (stretch.x(column.from), stretch.x(column.to));
        let (wide, tall) = ((right - left - 0.5).max(0.5), credits / top * CHART_HEIGHT);
        let _ = writeln!(
            svg,
            "<g><title>{} to {}: {credits:.1} credits a second, {payments:.1} payments</title>\
             <rect class=\"hit\" x=\"{left:.1}\" y=\"{CHART_TOP}\" width=\"{wide:.1}\" height=\"{CHART_HEIGHT}\"/>\
             <rect class=\"credits\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{tall:.1}\"/></g>",
            clock(column.from),
            clock(column.to),
            y(*credits)
        );
        let _ = write!(line, "{left:.1},{at:.1} {right:.1},{at:.1} ", at = y(*payments));
    }
    let _ = writeln!(svg, "<polyline class=\"payments\" points=\"{}\"/>", line.trim_end());
}

fn lane(svg: &mut String, report: &Report, stretch: Stretch, name: &str, target: Target, top: f64) {
    let middle = top + LANE_HEIGHT / 2.0;
    let _ = writeln!(
        svg,
        "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{middle:.0}\" x2=\"{:.0}\" y2=\"{middle:.0}\"/>\
         <text x=\"0\" y=\"{:.0}\">{name}</text>",
        LEFT + WIDTH,
        middle + 4.0
    );
    let its_own = report.struck.iter().filter(|struck| struck.strike.target == target);
    let within =
        its_own.filter(|struck| struck.began.as_secs_f64() < stretch.to && struck.ended.as_secs_f64() >= stretch.from);
    let mut kills = 0;
    for struck in within {
        let (from, to) = (struck.began.as_secs_f64(), struck.ended.as_secs_f64());
        let is_kill = struck.strike.kind == Kind::Kill;
        kills += usize::from(is_kill);
        let tall = if is_kill { KILL_HEIGHT } else { FAULT_HEIGHT };
        let _ = writeln!(
            svg,
            "<rect class=\"{}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall}\"><title>{}, from {} for {:.1} s</title></rect>",
            class(struck.strike.kind),
            stretch.x(from),
            middle - tall / 2.0,
            (stretch.x(to) - stretch.x(from)).max(LEAST_WIDTH),
            struck.strike,
            clock(from),
            to - from
        );
    }
    if kills > 0 {
        let _ = writeln!(svg, "<text x=\"{:.0}\" y=\"{:.0}\">{kills} kills</text>", LEFT + WIDTH + 8.0, middle + 4.0);
    }
}

/// The mean of the whole seconds that begin in `column`.
fn mean(per_second: &[usize], column: Stretch) -> f64 {
    let inside = |(second, _): &(usize, &usize)| (column.from..column.to).contains(&as_f64(*second));
    let sum: usize = per_second.iter().enumerate().filter(inside).map(|(_, count)| count).sum();
    as_f64(sum) / column.seconds()
}

/// 1, 2 or 5 times a power of ten, so that `most` has five marks or fewer.
fn value_step(most: f64) -> f64 {
    let mut power = 1.0;
    loop {
        for step in [1.0, 2.0, 5.0] {
            if most / (step * power) <= 5.0 {
                return step * power;
            }
        }
        power *= 10.0;
    }
}

#[expect(clippy::cast_precision_loss, reason = "pixels")]
pub fn as_f64(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_steps_are_round() {
        let stretch = Stretch { from: 90.0, to: 200.0 };
        assert_eq!(stretch.marks(60.0).collect::<Vec<_>>(), [120.0, 180.0]);
        let steps = [0.4, 5.0, 5.1, 18.0, 60.0, 1_000.0].map(|most| value_step(most).to_string());
        assert_eq!(steps, ["1", "1", "2", "5", "20", "200"]);
        assert_eq!([0.0, 59.9, 61.0, 3_600.0].map(clock), ["0:00", "0:59", "1:01", "1:00:00"]);
    }

    #[test]
    fn a_column_is_the_mean_of_its_seconds() {
        let column = |from, to| mean(&[4, 8, 0, 6], Stretch { from, to }).to_string();
        assert_eq!([column(0.0, 2.0), column(2.0, 4.0), column(4.0, 6.0)], ["6", "3", "0"]);
    }
}
