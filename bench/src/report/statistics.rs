//! The middle and the range of a few samples, and how they are written.

use super::model::Record;

/// The middle and the range of a record's samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The middle sample, or what lies between the two in the middle.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Summary {
    /// That of a record; `None` without samples.
    pub fn of(record: &Record) -> Option<Self> {
        Self::of_samples(&record.samples)
    }

    /// That of samples in any order; `None` of none.
    pub fn of_samples(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = sorted.len() / 2;
        let lower = (sorted.len() - 1) / 2;
        let median = f64::midpoint(sorted[lower], sorted[upper]);
        Some(Self { median, min, max })
    }

    /// Whether the ranges have a value in common, so that a difference may be chance.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

/// A value in three digits that mean something, with thousands apart.
pub fn digits(value: f64) -> String {
    let size = value.abs();
    if size >= 1e15 || !value.is_finite() {
        return value.to_string();
    }
    if size >= 100.0 {
        let whole = format!("{:.0}", size);
        let mut text = String::new();
        for (place, digit) in whole.chars().enumerate() {
            if place > 0 && (whole.len() - place).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        return if value < 0.0 {
            format!("-{text}")
        } else {
            text
        };
    }
    let decimals = match size {
        10.0.. => 1,
        1.0.. => 2,
        0.1.. => 3,
        0.0 => 0,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        let summary = |samples: &[f64]| Summary::of_samples(samples);
        assert_eq!(summary(&[]), None);
        let odd = summary(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 2.0, 3.0));
        assert_eq!(summary(&[4.0, 1.0]).unwrap().median, 2.5);
    }

    #[test]
    fn ranges_that_touch_overlap() {
        let range = |min, max| Summary {
            median: min,
            min,
            max,
        };
        assert!(range(1.0, 2.0).overlaps(&range(2.0, 3.0)));
        assert!(range(1.0, 4.0).overlaps(&range(2.0, 3.0)));
        assert!(!range(1.0, 2.0).overlaps(&range(2.1, 3.0)));
    }

    #[test]
    fn three_digits_mean_something() {
        let written = [
            (1_234_567.8, "1,234,568"),
            (123.4, "123"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.1234, "0.123"),
            (0.01234, "0.0123"),
            (0.0, "0"),
            (-1234.0, "-1,234"),
        ];
        for (value, text) in written {
            assert_eq!(digits(value), text);
        }
    }
}
