//! The goals, and whether they hold.

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// So much, or less.
    AtMost(f64),
    /// Less than that.
    Below(f64),
    /// So many times its ceiling, or more.
    TimesCeiling(f64),
    /// So many times its ceiling, or less.
    AtMostTimesCeiling(f64),
}

impl Goal {
    /// Whether it is reached; `None` when there is nothing to compare with.
    pub fn holds(self, value: f64, ceiling: Option<f64>) -> Option<bool> {
        match self {
            Self::AtMost(limit) => Some(value <= limit),
            Self::Below(limit) => Some(value < limit),
            Self::TimesCeiling(times) => ceiling.map(|ceiling| value >= times * ceiling),
            Self::AtMostTimesCeiling(times) => ceiling.map(|ceiling| value <= times * ceiling),
        }
    }

    /// In words, with the verdict.
    pub fn text(self, value: f64, ceiling: Option<f64>) -> String {
        let goal = match self {
            Self::AtMost(limit) => format!("≤ {limit}"),
            Self::Below(limit) => format!("< {limit}"),
            Self::TimesCeiling(times) => format!("≥ {times} × ceiling"),
            Self::AtMostTimesCeiling(times) => format!("≤ {times} × ceiling"),
        };
        match self.holds(value, ceiling) {
            Some(true) => format!("{goal}: holds"),
            Some(false) => format!("{goal}: DOES NOT HOLD"),
            None => format!("{goal}: not measured"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_says_whether_it_holds() {
        assert_eq!(Goal::Below(25.0).text(24.9, None), "< 25: holds");
        assert_eq!(Goal::Below(25.0).text(25.0, None), "< 25: DOES NOT HOLD");
        assert_eq!(Goal::AtMost(0.0).text(0.0, None), "≤ 0: holds");
        assert_eq!(Goal::TimesCeiling(2.5).text(2_500.0, Some(1_000.0)), "≥ 2.5 × ceiling: holds");
        assert_eq!(Goal::TimesCeiling(2.5).text(2_499.0, Some(1_000.0)), "≥ 2.5 × ceiling: DOES NOT HOLD");
        assert_eq!(Goal::AtMostTimesCeiling(2.0).text(3.0, Some(1.6)), "≤ 2 × ceiling: holds");
        assert_eq!(Goal::TimesCeiling(2.0).text(1.0, None), "≥ 2 × ceiling: not measured");
    }
}
