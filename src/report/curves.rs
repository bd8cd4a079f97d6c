//! Diagrams of quantities over steps, as one SVG: of each curve the mean of its runs and their
//! spread.

use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use crate::error::{Error, Result};

/// One line with its spread: the same quantity measured in several runs.
pub struct Curve {
    pub label: String,
    /// The points (x, y) of each run (seed), in order of x.
    pub runs: Vec<Vec<(f64, f64)>>,
}

/// One diagram.
pub struct Panel {
    pub title: String,
    /// What the horizontal axis shows.
    pub x: String,
    /// What the vertical axis shows.
    pub y: String,
    pub curves: Vec<Curve>,
}

/// What the runs of a curve have at one x.
struct Spread {
    x: f64,
    mean: f64,
    min: f64,
    max: f64,
}

/// Colours that colour-blind readers tell apart (Okabe and Ito 2008), without their yellow, which
/// is too faint on white.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0x56, 0xB4, 0xE9),
    RGBColor(0x00, 0x00, 0x00),
];
const GRID: RGBColor = RGBColor(0xE4, 0xE4, 0xE4);
const AXIS: RGBColor = RGBColor(0x80, 0x80, 0x80);

/// Units of the drawing per CSS pixel: plotters rounds places to whole units.
const UNITS: i32 = 4;
// In CSS pixels: a panel without its legend, one row of a legend, the line shown in it, and sizes
// of text.
const PANEL: (i32, i32) = (480, 320);
const LEGEND_ROW: i32 = 20;
const SWATCH: i32 = 20;
const TEXT: i32 = 12;
const TITLE: i32 = 14;
const GAP: i32 = 8;

type Drawn = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// The panels side by side as one SVG, each with its legend below; without panels the empty string.
///
/// A line is the mean at each x over the runs that have it, and the band around it reaches from
/// their least to their greatest value; a curve with one x is a marker and a bar. Values that are
/// not finite (or beyond ±1e100) are skipped. A curve without points is named in the legend only.
/// Colours go by place in the panel; the eighth curve and those after it repeat them with thinner
/// lines. The same panels give the same bytes. The SVG may stand inside an HTML page: it takes the
/// page's width, up to 480 px for each panel, and has no ids.
pub fn curves_svg(panels: &[Panel]) -> Result<String> {
    if panels.is_empty() {
        return Ok(String::new());
    }
    let legends: Vec<Vec<(i32, i32)>> =
        panels.iter().map(|panel| legend_places(&panel.curves)).collect();
    let rows = legends.iter().flatten().map(|(_, row)| row + 1).max().unwrap_or(0);
    let (width, height) = (PANEL.0 * panels.len() as i32, PANEL.1 + rows * LEGEND_ROW + GAP);
    let size = ((width * UNITS) as u32, (height * UNITS) as u32);
    let mut svg = String::new();
    let mut draw = || -> Drawn {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        for ((panel, places), area) in
            panels.iter().zip(&legends).zip(root.split_evenly((1, panels.len())))
        {
            let (chart, legend) = area.split_vertically(PANEL.1 * UNITS);
            draw_panel(panel, &chart)?;
            draw_legend(&panel.curves, places, &legend)?;
        }
        root.present()
    };
    draw().map_err(|error| Error::failed(format!("the curves could not be drawn: {error}")))?;
    // Without a size of its own the SVG is as wide as the page; round corners keep noisy lines from
    // growing spikes.
    Ok(svg.replacen(
        &format!("width=\"{}\" height=\"{}\"", size.0, size.1),
        &format!("style=\"max-width:{width}px;stroke-linejoin:round\""),
        1,
    ))
}

/// At each x the mean of the last `window` points up to it (fewer at the start); points that are
/// not finite are left out first.
pub fn smoothed(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> = points.iter().copied().filter(can_be_drawn).collect();
    let trailing_mean = |i: usize| {
        let last = &points[(i + 1).saturating_sub(window.max(1))..=i];
        last.iter().map(|(_, y)| y).sum::<f64>() / last.len() as f64
    };
    points.iter().enumerate().map(|(i, &(x, _))| (x, trailing_mean(i))).collect()
}

fn can_be_drawn(&(x, y): &(f64, f64)) -> bool {
    x.abs() <= 1e100 && y.abs() <= 1e100
}

/// The runs of a curve joined, in order of x.
fn spreads(curve: &Curve) -> Vec<Spread> {
    let mut points: Vec<(f64, f64)> =
        curve.runs.iter().flatten().copied().filter(can_be_drawn).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let spread = |same: &[(f64, f64)]| {
        let values = || same.iter().map(|&(_, y)| y);
        Spread {
            x: same[0].0,
            mean: values().sum::<f64>() / same.len() as f64,
            min: values().fold(f64::INFINITY, f64::min),
            max: values().fold(f64::NEG_INFINITY, f64::max),
        }
    };
    points.chunk_by(|a, b| a.0 == b.0).map(spread).collect()
}

/// Colour and width of the line of the `i`-th curve.
fn line_style(i: usize) -> ShapeStyle {
    PALETTE[i % PALETTE.len()].stroke_width(((2 * UNITS as u32) >> (i / PALETTE.len())).max(1))
}

/// Black text of that many CSS pixels; plotters' sizes are 1.24 times the SVG's.
fn text(pixels: i32) -> TextStyle<'static> {
    ("sans-serif", f64::from(pixels * UNITS) * 1.24).into_font().color(&BLACK)
}

/// An upper estimate in CSS pixels, as no font is at hand.
fn text_width(text: &str) -> i32 {
    (0.62 * f64::from(TEXT) * text.chars().count() as f64).ceil() as i32
}

fn draw_panel(panel: &Panel, area: &Area) -> Drawn {
    let curves: Vec<Vec<Spread>> = panel.curves.iter().map(spreads).collect();
    let x_axis = Axis::over(curves.iter().flatten().map(|at| at.x), 0.0);
    let y_axis = Axis::over(curves.iter().flatten().flat_map(|at| [at.min, at.max]), 0.04);
    let widest =
        y_axis.ticks.iter().map(|&tick| text_width(&y_axis.label(tick))).max().unwrap_or(0);

    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, text(TITLE))
        .margin(GAP * UNITS)
        .margin_right(3 * GAP * UNITS)
        .x_label_area_size((2 * TEXT + 2 * GAP) * UNITS)
        .y_label_area_size((widest + TEXT + 3 * GAP) * UNITS)
        .build_cartesian_2d(x_axis, y_axis)?;
    chart
        .configure_mesh()
        .bold_line_style(GRID.stroke_width(UNITS as u32))
        .light_line_style(TRANSPARENT)
        .axis_style(AXIS.stroke_width(UNITS as u32))
        .set_all_tick_mark_size(GAP / 2 * UNITS)
        .label_style(text(TEXT))
        .axis_desc_style(text(TEXT))
        .x_desc(&panel.x)
        .y_desc(&panel.y)
        .draw()?;

    // All bands first, so that none hides a line.
    for (i, curve) in
        curves.iter().enumerate().filter(|(_, curve)| curve.iter().any(|at| at.min < at.max))
    {
        let colour = line_style(i).color.mix(0.2);
        let border: Vec<(f64, f64)> = curve
            .iter()
            .map(|at| (at.x, at.max))
            .chain(curve.iter().rev().map(|at| (at.x, at.min)))
            .collect();
        match curve.len() {
            1 => chart
                .plotting_area()
                .draw(&PathElement::new(border, colour.stroke_width(6 * UNITS as u32)))?,
            _ => chart.plotting_area().draw(&Polygon::new(border, colour))?,
        }
    }
    for (i, curve) in curves.iter().enumerate() {
        let style = line_style(i);
        let line: Vec<(f64, f64)> = curve.iter().map(|at| (at.x, at.mean)).collect();
        match line.as_slice() {
            [] => {}
            [point] => {
                chart.plotting_area().draw(&Circle::new(*point, 4 * UNITS, style.filled()))?
            }
            _ => chart.plotting_area().draw(&PathElement::new(line, style))?,
        }
    }
    Ok(())
}

/// Where each curve's entry in the legend starts in CSS pixels, and its row.
fn legend_places(curves: &[Curve]) -> Vec<(i32, i32)> {
    let start = 3 * GAP;
    let (mut x, mut row) = (start, 0);
    let place = |curve: &Curve| {
        let width = SWATCH + GAP + text_width(&curve.label) + 2 * GAP;
        if x > start && x + width > PANEL.0 {
            (x, row) = (start, row + 1);
        }
        x += width;
        (x - width, row)
    };
    curves.iter().map(place).collect()
}

fn draw_legend(curves: &[Curve], places: &[(i32, i32)], area: &Area) -> Drawn {
    for (i, (curve, (x, row))) in curves.iter().zip(places).enumerate() {
        let (x, y) = (x * UNITS, (row * LEGEND_ROW + LEGEND_ROW / 2) * UNITS);
        area.draw(&PathElement::new([(x, y), (x + SWATCH * UNITS, y)], line_style(i)))?;
        let left_middle = text(TEXT).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw_text(&curve.label, &left_middle, (x + (SWATCH + GAP) * UNITS, y))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use roxmltree::{Document, Node};

    use super::*;

    type Runs = Vec<Vec<(f64, f64)>>;

    fn panel(curves: Vec<(&str, Runs)>) -> Panel {
        let curves =
            curves.into_iter().map(|(label, runs)| Curve { label: label.into(), runs }).collect();
        Panel { title: "title".into(), x: "steps".into(), y: "reward".into(), curves }
    }

    /// The elements of that tag and colour of the palette, without those of the legend.
    fn drawn<'a>(
        svg: &'a Document,
        tag: &'a str,
        colour: usize,
    ) -> impl Iterator<Item = Node<'a, 'a>> {
        let RGBColor(r, g, b) = PALETTE[colour];
        let hex = format!("#{r:02X}{g:02X}{b:02X}");
        svg.descendants().filter(move |node| {
            let in_chart = places(node).iter().all(|(_, y)| *y < f64::from(PANEL.1 * UNITS));
            node.has_tag_name(tag)
                && in_chart
                && [node.attribute("stroke"), node.attribute("fill")].contains(&Some(hex.as_str()))
        })
    }

    /// The points of a polyline or polygon.
    fn places(node: &Node) -> Vec<(f64, f64)> {
        let pair = |text: &str| {
            text.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
        };
        node.attribute("points").unwrap_or("").split_whitespace().filter_map(pair).collect()
    }

    fn only<'a>(mut nodes: impl Iterator<Item = Node<'a, 'a>>) -> Node<'a, 'a> {
        let node = nodes.next().expect("none is drawn");
        assert!(nodes.next().is_none(), "more than one is drawn");
        node
    }

    fn texts(svg: &Document) -> Vec<String> {
        svg.descendants()
            .filter(|node| node.has_tag_name("text"))
            .map(|node| node.text().unwrap_or("").trim().to_owned())
            .collect()
    }

    #[test]
    fn lines_are_means_and_bands_reach_from_least_to_greatest() {
        let seeds = vec![vec![(0.0, 1.0), (10.0, 4.0), (30.0, 9.0)], vec![(0.0, 3.0), (10.0, 6.0)]];
        let alone =
            |points: [f64; 3]| vec![vec![(0.0, points[0]), (10.0, points[1]), (30.0, points[2])]];
        let curves = vec![
            ("seeds", seeds),
            ("mean", alone([2.0, 5.0, 9.0])),
            ("min", alone([1.0, 4.0, 9.0])),
            ("max", alone([3.0, 6.0, 9.0])),
        ];
        let svg = curves_svg(&[panel(curves)]).unwrap();
        let svg = Document::parse(&svg).unwrap();
        let line = |colour| places(&only(drawn(&svg, "polyline", colour)));
        assert_eq!(line(0), line(1));
        let band = places(&only(drawn(&svg, "polygon", 0)));
        let border: Vec<_> = line(3).into_iter().chain(line(2).into_iter().rev()).collect();
        assert_eq!(band, border);
        assert_eq!(
            (1..4).map(|colour| drawn(&svg, "polygon", colour).count()).sum::<usize>(),
            0,
            "one run has no spread"
        );

        let [low, middle, high] = line(2)[..] else { panic!("{:?}", line(2)) };
        assert!(low.0 < middle.0 && middle.0 < high.0 && low.1 > middle.1 && middle.1 > high.1);
        // To scale, up to the rounding to whole units.
        assert!((3.0 * (middle.0 - low.0) - (high.0 - low.0)).abs() <= 2.0, "{:?}", line(2));
        assert!((8.0 * (middle.1 - low.1) - 3.0 * (high.1 - low.1)).abs() <= 8.0, "{:?}", line(2));
    }

    #[test]
    fn points_stand_at_their_ticks() {
        let svg =
            curves_svg(&[panel(vec![("a", vec![vec![(0.0, 0.0), (200.0, 2.0), (600.0, 6.0)]])])])
                .unwrap();
        let svg = Document::parse(&svg).unwrap();
        let [_, (x, y), _] = places(&only(drawn(&svg, "polyline", 0)))[..] else { panic!() };
        let at = |tick: &str, axis: &str| {
            let text = svg
                .descendants()
                .find(|node| node.has_tag_name("text") && node.text().unwrap().trim() == tick)
                .unwrap();
            text.attribute(axis).unwrap().parse::<f64>().unwrap()
        };
        assert_eq!((x, y), (at("200", "x"), at("2", "y")));
    }

    #[test]
    fn values_that_are_not_finite_are_skipped() {
        let clean = vec![vec![(0.0, 1.0), (2.0, 3.0)], vec![(0.0, 2.0)]];
        let mut soiled = clean.clone();
        soiled[0].insert(1, (1.0, f64::NAN));
        soiled[0].push((3.0, f64::INFINITY));
        soiled[1].push((f64::NEG_INFINITY, 1.0));
        soiled[1].push((1.0, 1e200));
        assert_eq!(
            curves_svg(&[panel(vec![("a", soiled)])]).unwrap(),
            curves_svg(&[panel(vec![("a", clean)])]).unwrap()
        );
    }

    #[test]
    fn little_data_is_drawn_too() {
        assert_eq!(curves_svg(&[]).unwrap(), "");
        let constant = vec![vec![(0.0, 0.1), (1.0, 0.1)]; 3];
        let panels = [
            panel(vec![]),
            panel(vec![("none", vec![]), ("empty", vec![vec![]]), ("constant", constant)]),
            panel(vec![
                ("one", vec![vec![(5.0, -1.0)]]),
                ("seeds", vec![vec![(5.0, 1.0)], vec![(5.0, 2.0)]]),
            ]),
            panel(vec![("far", vec![vec![(1e15, 1e90), (1e15 + 2.0, 1e90)]])]),
        ];
        let drawings: Vec<String> =
            panels.iter().map(|panel| curves_svg(std::slice::from_ref(panel)).unwrap()).collect();
        let drawings: Vec<Document> =
            drawings.iter().map(|svg| Document::parse(svg).unwrap()).collect();
        for (svg, panel) in drawings.iter().zip(&panels) {
            assert!(panel.curves.iter().all(|curve| texts(svg).contains(&curve.label)));
            for (x, y) in svg.descendants().flat_map(|node| places(&node)) {
                assert!(
                    (0.0..f64::from(PANEL.0 * UNITS)).contains(&x)
                        && (0.0..f64::from(2 * PANEL.1 * UNITS)).contains(&y),
                    "{x} {y}"
                );
            }
        }
        let count = |drawing: usize, tag, colour| drawn(&drawings[drawing], tag, colour).count();
        assert_eq!([0, 1, 2].map(|colour| count(1, "polyline", colour)), [0, 0, 1]);
        assert_eq!([0, 1].map(|colour| count(2, "circle", colour)), [1, 1]);
        // The bar is from 1 to 2, the markers are at -1 and at 1.5.
        let bar = places(&drawn(&drawings[2], "polyline", 1).next().unwrap());
        let markers: Vec<f64> = [0, 1]
            .map(|colour| {
                only(drawn(&drawings[2], "circle", colour))
                    .attribute("cy")
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .into();
        assert!(
            (2.5 * (bar[1].1 - bar[0].1) - (markers[0] - markers[1])).abs() <= 3.0,
            "{bar:?} {markers:?}"
        );
    }

    #[test]
    fn the_svg_fits_a_page() {
        let odd = "<L> & \"∞\"";
        let mut panels = [
            panel(vec![(odd, vec![vec![(0.0, 1.0), (1.0, 2.0)]; 2])]),
            panel(vec![("b", vec![vec![(0.0, 1.0), (1.0, 2.0)]])]),
        ];
        panels[0].title = odd.into();
        panels[0].x = odd.into();
        panels[0].y = odd.into();
        let svg = curves_svg(&panels).unwrap();
        assert_eq!(svg, curves_svg(&panels).unwrap());
        let svg = Document::parse(&svg).unwrap();
        assert_eq!(texts(&svg).iter().filter(|text| *text == odd).count(), 4);
        assert!(svg.descendants().all(|node| node.attribute("id").is_none()));
        let root = svg.root_element();
        let (width, height) = (2 * PANEL.0, PANEL.1 + LEGEND_ROW + GAP);
        assert_eq!(
            root.attribute("viewBox"),
            Some(format!("0 0 {} {}", width * UNITS, height * UNITS).as_str())
        );
        assert!(root.attribute("style").unwrap().contains(&format!("max-width:{width}px")));
        assert!(root.attribute("width").is_none() && root.attribute("height").is_none());
        let x = |node: Node| places(&node)[0].0;
        let lines: Vec<f64> = drawn(&svg, "polyline", 0).map(x).collect();
        let apart = f64::from(PANEL.0 * UNITS);
        assert!(
            matches!(lines[..], [left, right] if (right - left - apart).abs() < 1.0),
            "side by side: {lines:?}"
        );
    }

    #[test]
    fn many_curves_keep_their_places_and_styles_apart() {
        let labels: Vec<String> = (0..10).map(|i| format!("chunks of {i} tokens")).collect();
        let curves: Vec<Curve> =
            labels.iter().map(|label| Curve { label: label.clone(), runs: vec![] }).collect();
        let places = legend_places(&curves);
        let end = |i: usize| places[i].0 + SWATCH + GAP + text_width(&labels[i]);
        for (i, pair) in places.windows(2).enumerate() {
            assert!(
                end(i) < PANEL.0 && (pair[0].1 < pair[1].1 || end(i) < pair[1].0),
                "{places:?}"
            );
        }
        let styles: Vec<_> =
            (0..10).map(line_style).map(|style| (style.color, style.stroke_width)).collect();
        assert!((0..10).all(|i| !styles[..i].contains(&styles[i])));
    }

    #[test]
    fn smoothing_by_hand() {
        let points = [(0.0, 2.0), (1.0, 4.0), (2.0, f64::NAN), (3.0, 9.0), (4.0, -1.0)];
        assert_eq!(smoothed(&points, 2), [(0.0, 2.0), (1.0, 3.0), (3.0, 6.5), (4.0, 4.0)]);
        assert_eq!(smoothed(&points, 3)[2..], [(3.0, 5.0), (4.0, 4.0)]);
        assert_eq!(smoothed(&points, 0), smoothed(&points, 1));
        assert_eq!(smoothed(&points[..2], 1), points[..2]);
        assert!(smoothed(&[], 5).is_empty());
    }
}
