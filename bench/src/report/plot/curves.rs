//! Curves: how something grows with the size of another.

use std::collections::BTreeMap;

use anyhow::Result;
use plotters::prelude::*;

use super::colour;
use crate::report::{
    model::Record,
    statistics::{Summary, digits},
};

const SIZE: (u32, u32) = (900, 480);

/// Draws records of one unit, both axes in powers; `None` without any.
pub fn draw(title: &str, records: &[&Record]) -> Result<Option<String>> {
    let mut curves: BTreeMap<String, Vec<(f64, Summary)>> = BTreeMap::new();
    for record in records {
        let (Some(size), Some(summary)) = (record.size, Summary::of(record)) else {
            continue;
        };
        let name = match &record.contender {
            Some(contender) => format!("{}, {contender}", record.title),
            None => record.title.clone(),
        };
        let points = curves.entry(name).or_default();
        points.push((size.max(1) as f64, summary));
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    let all = || curves.values().flatten();
    let sizes = range(all().map(|(size, _)| *size));
    let values = range(
        all()
            .flat_map(|(_, it)| [it.min, it.max])
            .filter(|it| *it > 0.0),
    );
    if curves.is_empty() {
        return Ok(None);
    }
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(34)
        .y_label_area_size(70)
        .build_cartesian_2d(sizes.log_scale(), values.clone().log_scale())?;
    chart
        .configure_mesh()
        .x_label_formatter(&|size| digits(*size))
        .y_label_formatter(&|value| digits(*value))
        .light_line_style(WHITE)
        .draw()?;
    for (number, (name, points)) in curves.iter().enumerate() {
        let colour = colour(number);
        let middle = |(size, it): &(f64, Summary)| (*size, it.median.max(values.start));
        chart
            .draw_series(LineSeries::new(
                points.iter().map(middle),
                colour.stroke_width(2),
            ))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        chart.draw_series(
            points
                .iter()
                .map(|point| Circle::new(middle(point), 3, colour.filled())),
        )?;
        chart.draw_series(points.iter().map(|(size, it)| {
            let ends = [it.min, it.max].map(|value| (*size, value.max(values.start)));
            PathElement::new(ends, colour.stroke_width(1))
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 12))
        .draw()?;
    root.present()?;
    drop(chart);
    drop(root);
    Ok(Some(svg))
}

/// From half of the lowest to twice the highest, so that no point lies on an edge.
fn range(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, 0.0), |(low, high), value| {
        (f64::min(low, value), f64::max(high, value))
    });
    if high > 0.0 {
        low / 2.0..high * 2.0
    } else {
        1.0..10.0
    }
}
