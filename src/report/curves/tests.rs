//! Tests of `curves.rs`.

use std::f64::consts::SQRT_2;

use roxmltree::{Document, Node};

use super::*;

type Runs = Vec<Vec<(f64, f64)>>;

fn panel(curves: Vec<(&str, Runs)>) -> Panel {
    let curves =
        curves.into_iter().map(|(label, runs)| Curve { label: label.into(), runs }).collect();
    Panel { title: "title".into(), x: "steps".into(), y: "reward".into(), is_log_2: false, curves }
}

/// The elements of that tag and colour of the palette, without those of the legend.
fn drawn<'a>(svg: &'a Document, tag: &'a str, colour: usize) -> impl Iterator<Item = Node<'a, 'a>> {
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
    let pair =
        |text: &str| text.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()));
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
fn lines_are_means_and_bands_reach_one_standard_deviation_to_each_side() {
    let seeds = vec![vec![(0.0, 1.0), (10.0, 4.0), (30.0, 9.0)], vec![(0.0, 3.0), (10.0, 6.0)]];
    let alone =
        |points: [f64; 3]| vec![vec![(0.0, points[0]), (10.0, points[1]), (30.0, points[2])]];
    let curves = vec![
        ("seeds", seeds),
        ("mean", alone([2.0, 5.0, 9.0])),
        ("low", alone([2.0 - SQRT_2, 5.0 - SQRT_2, 9.0])),
        ("high", alone([2.0 + SQRT_2, 5.0 + SQRT_2, 9.0])),
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
    let rise = 7.0 + SQRT_2;
    assert!((rise * (middle.1 - low.1) - 3.0 * (high.1 - low.1)).abs() <= 9.0, "{:?}", line(2));
}

#[test]
fn points_stand_at_their_ticks() {
    let svg = curves_svg(&[panel(vec![("a", vec![vec![(0.0, 0.0), (200.0, 2.0), (600.0, 6.0)]])])])
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
    // The bar is √2 long, twice the deviation of 1 and 2; the markers are at -1 and at 1.5.
    let bar = places(&drawn(&drawings[2], "polyline", 1).next().unwrap());
    let markers: Vec<f64> = [0, 1]
        .map(|colour| {
            only(drawn(&drawings[2], "circle", colour)).attribute("cy").unwrap().parse().unwrap()
        })
        .into();
    assert!(
        (2.5 * (bar[1].1 - bar[0].1) - SQRT_2 * (markers[0] - markers[1])).abs() <= 4.0,
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
        assert!(end(i) < PANEL.0 && (pair[0].1 < pair[1].1 || end(i) < pair[1].0), "{places:?}");
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

#[test]
fn equal_factors_are_equal_distances_where_asked() {
    let runs = vec![vec![(1.0, 0.0), (4.0, 1.0), (16.0, 0.0)]];
    let svg = curves_svg(&[Panel { is_log_2: true, ..panel(vec![("a", runs)]) }]).unwrap();
    let svg = Document::parse(&svg).unwrap();
    let line = places(&only(drawn(&svg, "polyline", 0)));
    let distances: Vec<f64> = line.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!((distances[0] - distances[1]).abs() <= 1.0, "{line:?}");
    let texts = texts(&svg);
    assert!(["1", "2", "4", "8", "16"].iter().all(|mark| texts.contains(&(*mark).to_owned())));
}
