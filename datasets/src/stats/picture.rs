//! The histograms as a picture: a column a part, a row a source.

use plotters::prelude::*;

use super::{PARTS, Statistics};

/// Of one histogram, in pixels.
const WIDTH: u32 = 300;
const HEIGHT: u32 = 190;

/// The SVG document. An error says what the drawing library refused.
pub fn draw(statistics: &Statistics) -> Result<String, String> {
    let rows = statistics.sources.len().max(1);
    let mut text = String::new();
    {
        let size = (WIDTH * PARTS.len() as u32, HEIGHT * rows as u32);
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE).map_err(|error| error.to_string())?;
        let areas = root.split_evenly((rows, PARTS.len()));
        for (row, (name, source)) in statistics.sources.iter().enumerate() {
            for (column, part) in PARTS.into_iter().enumerate() {
                let Some(distribution) = source.lengths.get(part) else { continue };
                let colour = Palette99::pick(column).to_rgba();
                let end = distribution.bin_width * distribution.bins.len() as u32;
                let most = distribution.bins.iter().copied().max().unwrap_or(0).max(1);
                let title = format!("{name}: {part}, {}", statistics.unit);
                let mut chart = ChartBuilder::on(&areas[row * PARTS.len() + column])
                    .caption(title, ("sans-serif", 14))
                    .margin(8)
                    .x_label_area_size(24)
                    .y_label_area_size(44)
                    .build_cartesian_2d(0..end, 0..most)
                    .map_err(|error| error.to_string())?;
                chart
                    .configure_mesh()
                    .disable_x_mesh()
                    .x_labels(5)
                    .y_labels(4)
                    .light_line_style(TRANSPARENT)
                    .draw()
                    .map_err(|error| error.to_string())?;
                let bar = |(index, rows): (usize, &u64)| {
                    let from = index as u32 * distribution.bin_width;
                    Rectangle::new([(from, 0), (from + distribution.bin_width, *rows)], colour.filled())
                };
                let bars = distribution.bins.iter().enumerate().map(bar);
                chart.draw_series(bars).map_err(|error| error.to_string())?;
            }
        }
        root.present().map_err(|error| error.to_string())?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::{Collector, bytes};
    use super::*;
    use crate::synthesize::{STEPS, synthesize};

    #[test]
    fn each_part_has_its_histogram() {
        let mut collector = Collector::default();
        for index in 0..100 {
            let trajectory = synthesize(1, index, STEPS);
            collector.add(&trajectory, bytes(&trajectory));
        }
        let picture = draw(&collector.finish("bytes")).unwrap();
        for part in PARTS {
            assert!(picture.contains(&format!("{part}, bytes")));
        }
        assert!(picture.matches("<rect").count() > PARTS.len());
    }
}
