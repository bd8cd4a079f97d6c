//! Diagrams of quantities over steps, as one SVG: of each curve the mean of its runs and their
//! spread. What the curves are of is left to `ppo.rs`.

use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use super::statistics::{mean, standard_deviation};
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
    /// Whether equal factors are equal distances along the horizontal axis, each mark twice the one
    /// before; all x are above 0 then.
    pub is_log_2: bool,
    pub curves: Vec<Curve>,
}

/// What the runs of a curve have at one x.
struct Spread {
    x: f64,
    mean: f64,
    /// One standard deviation below and above the mean.
    low: f64,
    high: f64,
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
/// A line is the mean at each x over the runs that have it, and the band around it reaches one
/// standard deviation to each side; a curve with one x is a marker and a bar. Values that are
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
        let values: Vec<f64> = same.iter().map(|&(_, y)| y).collect();
        let (mean, deviation) = (mean(&values), standard_deviation(&values));
        Spread { x: same[0].0, mean, low: mean - deviation, high: mean + deviation }
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
    let mut curves: Vec<Vec<Spread>> = panel.curves.iter().map(spreads).collect();
    if panel.is_log_2 {
        curves.iter_mut().flatten().for_each(|at| at.x = at.x.log2());
    }
    let x_axis = Axis::over(curves.iter().flatten().map(|at| at.x), 0.0);
    let x_axis = if panel.is_log_2 { x_axis.of_powers_of_2() } else { x_axis };
    let y_axis = Axis::over(curves.iter().flatten().flat_map(|at| [at.low, at.high]), 0.04);
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
        curves.iter().enumerate().filter(|(_, curve)| curve.iter().any(|at| at.low < at.high))
    {
        let colour = line_style(i).color.mix(0.2);
        let border: Vec<(f64, f64)> = curve
            .iter()
            .map(|at| (at.x, at.high))
            .chain(curve.iter().rev().map(|at| (at.x, at.low)))
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
mod tests;
