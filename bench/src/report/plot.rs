//! A report's pictures, as SVG: bars beside the limit for contenders, curves for what grows.

mod bars;
mod curves;

use anyhow::Result;

use super::{markdown::distinct, model::Report};

/// A picture.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The group that it belongs to.
    pub group: String,
    /// Its file's name.
    pub file: String,
    /// The SVG.
    pub svg: String,
}

/// Draws what there is to draw.
///
/// # Errors
/// When something cannot be drawn.
pub fn draw(report: &Report) -> Result<Vec<Picture>> {
    let mut pictures = Vec::new();
    for group in distinct(&report.records, |record| &record.group) {
        let of_group = report.records.iter().filter(|it| it.group == group);
        let (curves, bars): (Vec<_>, Vec<_>) = of_group.partition(|record| record.size.is_some());
        let mut add = |file: String, svg: Option<String>| {
            pictures.extend(svg.map(|svg| Picture {
                group: group.to_owned(),
                file,
                svg,
            }));
        };
        add(format!("{group}.svg"), bars::draw(group, &bars)?);
        for unit in distinct(curves.iter().copied(), |record| &record.unit) {
            let of_unit: Vec<_> = curves
                .iter()
                .copied()
                .filter(|it| it.unit == unit)
                .collect();
            let name = format!("{group} {unit}");
            let file = name.replace(|letter: char| !letter.is_alphanumeric(), "-");
            add(
                format!("{file}.svg"),
                curves::draw(&format!("{group}, {unit}"), &of_unit)?,
            );
        }
    }
    Ok(pictures)
}

/// Colours of series that are told apart by who sees few of them, too.
const COLOURS: [(u8, u8, u8); 7] = [
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (213, 94, 0),
    (86, 180, 233),
    (120, 120, 120),
];

/// The colour of the series with this number.
fn colour(number: usize) -> plotters::style::RGBColor {
    let (red, green, blue) = COLOURS[number % COLOURS.len()];
    plotters::style::RGBColor(red, green, blue)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{
        machine::Machine,
        model::{Better, Record},
    };

    fn record(contender: Option<&str>, size: Option<u64>, samples: &[f64]) -> Record {
        Record {
            group: "growth".to_owned(),
            what: "load".to_owned(),
            title: "a load <of rules>".to_owned(),
            unit: "ns".to_owned(),
            better: Better::Lower,
            contender: contender.map(str::to_owned),
            size,
            samples: samples.to_vec(),
        }
    }

    fn drawn(records: Vec<Record>) -> Vec<Picture> {
        let report = Report {
            date: String::new(),
            quick: false,
            rounds: 1,
            machine: Machine::default(),
            versions: [].into(),
            notes: Vec::new(),
            records,
        };
        draw(&report).unwrap()
    }

    #[test]
    fn contenders_become_bars_and_sizes_curves() {
        let pictures = drawn(vec![
            record(Some("nothing"), None, &[2.0]),
            record(Some("steer"), None, &[1.0, 3.0]),
            record(None, Some(10), &[1.0]),
            record(None, Some(1_000_000), &[5.0, 6.0]),
        ]);
        let files: Vec<_> = pictures.iter().map(|it| it.file.as_str()).collect();
        assert_eq!(files, ["growth.svg", "growth-ns.svg"]);
        for picture in &pictures {
            assert!(picture.svg.starts_with("<svg"), "{}", picture.svg);
            assert!(picture.svg.trim_end().ends_with("</svg>"));
            assert!(picture.svg.contains("a load &lt;of rules&gt;"));
        }
    }

    #[test]
    fn nothing_to_draw_is_no_picture() {
        assert!(drawn(Vec::new()).is_empty());
        assert!(drawn(vec![record(None, None, &[1.0])]).is_empty());
        // Of a limit of nothing there is no part.
        assert_eq!(drawn(vec![record(Some("nothing"), None, &[0.0])]).len(), 0);
        // One size, no time at all: a point all the same.
        assert_eq!(drawn(vec![record(None, Some(10), &[0.0])]).len(), 1);
    }
}
