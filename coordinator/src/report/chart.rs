//! A line chart as SVG, by hand: axes, a few ticks, a polyline a series.

use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 26.0;
const TOP: f64 = 10.0;
const COLOURS: [&str; 4] = ["#3465a4", "#c17d11", "#4e9a06", "#a40000"];

/// A named line.
pub(super) struct Line {
    pub(super) name: &'static str,
    /// Step and value.
    pub(super) points: Vec<(f64, f64)>,
}

/// A chart with a title; empty without points.
pub(super) fn chart(title: &str, lines: &[Line]) -> String {
    let finite = |line: &Line| line.points.iter().copied().filter(|(_, y)| y.is_finite()).collect::<Vec<_>>();
    let all: Vec<(f64, f64)> = lines.iter().flat_map(finite).collect();
    let Some(range_x) = range(all.iter().map(|(x, _)| *x)) else { return String::new() };
    let Some((low, high)) = range(all.iter().map(|(_, y)| *y)) else { return String::new() };
    let low = if low > 0.0 && low < high / 2.0 { 0.0 } else { low };
    let x = |value: f64| LEFT + (value - range_x.0) / (range_x.1 - range_x.0) * (WIDTH - LEFT - 8.0);
    let y = |value: f64| HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP);
    let mut svg =
        format!("<figure><figcaption>{title}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        let (at, step) = (low + share * (high - low), range_x.0 + share * (range_x.1 - range_x.0));
        let (level, place) = (y(at), x(step));
        let right = WIDTH - 8.0;
        put(&mut svg, format_args!("<path class=\"grid\" d=\"M{LEFT} {level:.1}H{right}\"/>"));
        put(
            &mut svg,
            format_args!("<text x=\"{:.1}\" y=\"{:.1}\" class=\"y\">{}</text>", LEFT - 6.0, level + 4.0, short(at)),
        );
        put(&mut svg, format_args!("<text x=\"{place:.1}\" y=\"{:.1}\" class=\"x\">{step:.0}</text>", HEIGHT - 8.0));
    }
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<String> = finite(line).iter().map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py))).collect();
        put(&mut svg, format_args!("<polyline stroke=\"{colour}\" points=\"{}\"/>", points.join(" ")));
    }
    svg.push_str("</svg>");
    if lines.len() > 1 {
        for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            put(&mut svg, format_args!("<span class=\"key\" style=\"color:{colour}\">{}</span> ", line.name));
        }
    }
    svg + "</figure>"
}

fn put(svg: &mut String, what: std::fmt::Arguments<'_>) {
    svg.write_fmt(what).expect("writing to a text cannot fail");
}

/// Smallest and largest, apart from each other.
fn range(values: impl Iterator<Item = f64> + Clone) -> Option<(f64, f64)> {
    let (low, high) = (values.clone().reduce(f64::min)?, values.reduce(f64::max)?);
    Some(if high > low { (low, high) } else { (low - 0.5, high + 0.5) })
}

fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 0.001 => format!("{value:.1e}"),
        size if size < 10.0 => format!("{value:.3}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_a_line_a_series_and_none_without_points() {
        let line = |name, points| Line { name, points };
        let svg =
            chart("loss", &[line("a", vec![(1.0, 2.0), (2.0, 1.0)]), line("b", vec![(1.0, f64::NAN), (2.0, 3.0)])]);
        assert_eq!((svg.matches("<polyline").count(), svg.matches("class=\"key\"").count()), (2, 2));
        assert!(!svg.contains("NaN"), "{svg}");
        assert_eq!(chart("nothing", &[line("a", vec![])]), "");
        assert!(!chart("flat", &[line("a", vec![(1.0, 0.5)])]).contains("NaN"));
    }
}
