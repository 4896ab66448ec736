//! A derivation graph as a picture: what is given on top, the answer at the bottom.

use layout::backends::svg::SVGWriter;
use layout::core::base::Orientation;
use layout::core::color::Color;
use layout::core::geometry::Point;
use layout::core::style::StyleAttr;
use layout::std_shapes::shapes::{Arrow, Element, ShapeKind};
use layout::topo::layout::VisualGraph;

use super::{Kind, Node, Nodes};

/// Of letters and boxes, in pixels.
const FONT: usize = 15;
const LETTER: f64 = 8.5;

/// The SVG document: rounded boxes are given values, circles constants, boxes results (red where the calculation is wrong).
pub fn draw(nodes: &Nodes) -> String {
    if nodes.0.is_empty() {
        return SVGWriter::new().finalize(); // the layout wants at least one node
    }
    let mut graph = VisualGraph::new(Orientation::TopToBottom);
    let mut handles = Vec::with_capacity(nodes.0.len());
    for node in &nodes.0 {
        handles.push(graph.add_node(element(node)));
        for from in &node.from {
            graph.add_edge(Arrow::simple(""), handles[*from], handles[handles.len() - 1]);
        }
    }
    let mut writer = SVGWriter::new();
    graph.do_it(false, false, false, &mut writer);
    writer.finalize()
}

fn element(node: &Node) -> Element {
    let label = match node.kind {
        Kind::Computed { .. } => format!("{} = {}", node.expression, node.value),
        _ => node.value.clone(),
    };
    let (fill, rounding) = match node.kind {
        Kind::Given => (0xd6e9_f8ff, 12),
        Kind::Constant => (0xeeee_eeff, 12),
        Kind::Computed { holds: true } => (0xe3f4_dcff, 0),
        Kind::Computed { holds: false } => (0xf8d0_d0ff, 0),
    };
    let width = (label.chars().count() as f64 * LETTER + 24.0).max(48.0);
    let style = StyleAttr::new(Color::new(0x5555_55ff), 1, Some(Color::new(fill)), rounding, FONT);
    Element::create(ShapeKind::new_box(&label), style, Orientation::TopToBottom, Point::new(width, 34.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthesize::{STEPS, synthesize};

    #[test]
    fn each_calculation_is_in_the_picture() {
        let trajectory = synthesize(5, 3, STEPS);
        let nodes = Nodes::of(&trajectory);
        let picture = draw(&nodes);
        assert!(picture.starts_with("<?xml") && picture.trim_end().ends_with("</svg>"));
        for node in &nodes.0 {
            assert!(picture.contains(&node.value), "{}", node.value);
        }
        assert!(draw(&Nodes::default()).contains("</svg>"));
    }
}
