//! Bars: each contender's median as a part of the limit's, with its range.

use anyhow::Result;
use plotters::prelude::*;

use super::colour;
use crate::report::{
    markdown::{LIMIT, distinct},
    model::Record,
    statistics::Summary,
};

/// Width of a picture, and of its part for names.
const WIDTH: u32 = 900;
const NAMES: i32 = 300;
/// Height of a bar, and of what is between two groups of them.
const BAR: i32 = 12;
const GAP: i32 = 10;
/// Above the bars: title and legend.
const TOP: i32 = 56;
/// Beyond this part of the limit a bar is cut off and says how long it is.
const LONGEST: f64 = 3.0;

/// Draws records of one group; `None` where there is no limit to draw them beside.
pub fn draw(title: &str, records: &[&Record]) -> Result<Option<String>> {
    let contender = |record: &Record| record.contender.clone().unwrap_or_default();
    let mut others: Vec<String> = Vec::new();
    for name in records.iter().map(|record| contender(record)) {
        if name != LIMIT && !others.contains(&name) {
            others.push(name);
        }
    }
    let mut rows = Vec::new();
    for what in distinct(records.iter().copied(), |record| &record.what) {
        let of_what: Vec<_> = records.iter().filter(|it| it.what == what).collect();
        let limit = of_what.iter().find(|it| contender(it) == LIMIT);
        let limit = limit.and_then(|it| Summary::of(it));
        let Some(limit) = limit.filter(|limit| limit.median > 0.0) else {
            continue;
        };
        let parts: Vec<_> = others
            .iter()
            .map(|name| {
                let found = of_what.iter().find(|it| contender(it) == *name);
                let found = found.and_then(|it| Summary::of(it));
                found.map(|it| [it.min, it.median, it.max].map(|value| value / limit.median))
            })
            .collect();
        rows.push((of_what[0].title.clone(), parts));
    }
    if rows.is_empty() || others.is_empty() {
        return Ok(None);
    }
    let mut svg = String::new();
    paint(&mut svg, title, &others, &rows)?;
    Ok(Some(svg))
}

/// A line's name, and of each contender the lowest, the middle and the highest part.
type Row = (String, Vec<Option<[f64; 3]>>);

fn paint(svg: &mut String, title: &str, others: &[String], rows: &[Row]) -> Result<()> {
    let each = BAR * i32::try_from(others.len())? + GAP;
    let bottom = TOP + each * i32::try_from(rows.len())?;
    let size = (WIDTH, u32::try_from(bottom + 24)?);
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let text = ("sans-serif", 12).into_font().color(&BLACK);
    let heading = ("sans-serif", 16).into_font().color(&BLACK);
    root.draw_text(
        &format!("{title}: as a part of {LIMIT} (the line)"),
        &heading,
        (8, 8),
    )?;
    for (number, name) in others.iter().enumerate() {
        let left = 8 + 180 * i32::try_from(number)?;
        let square = [(left, 34), (left + 10, 44)];
        root.draw(&Rectangle::new(square, colour(number).filled()))?;
        root.draw_text(name, &text, (left + 16, 33))?;
    }
    let longest = rows.iter().flat_map(|(_, parts)| parts.iter().flatten());
    let longest = longest.map(|[_, _, high]| *high).fold(1.0, f64::max);
    let scale = f64::from(WIDTH as i32 - NAMES - 70) / longest.clamp(1.25, LONGEST);
    let at = |part: f64| NAMES + (part.min(LONGEST) * scale) as i32;
    let mut top = TOP;
    for (name, parts) in rows {
        root.draw_text(
            name,
            &text,
            (8, top + BAR * i32::try_from(others.len())? / 2 - 7),
        )?;
        for (number, part) in parts.iter().enumerate() {
            let y = top + BAR * i32::try_from(number)?;
            let Some([low, middle, high]) = *part else {
                root.draw_text("n/a", &text, (NAMES + 4, y - 1))?;
                continue;
            };
            let bar = [(NAMES, y + 1), (at(middle), y + BAR - 1)];
            root.draw(&Rectangle::new(bar, colour(number).filled()))?;
            let between = y + BAR / 2;
            root.draw(&PathElement::new(
                [(at(low), between), (at(high), between)],
                BLACK.stroke_width(1),
            ))?;
            let said = format!("×{middle:.2}");
            root.draw_text(&said, &text, (at(high.max(middle)) + 4, y - 1))?;
        }
        top += each;
    }
    root.draw(&PathElement::new(
        [(at(1.0), TOP - 4), (at(1.0), bottom)],
        BLACK.mix(0.5).stroke_width(1),
    ))?;
    root.present()?;
    Ok(())
}
