//! A figure beside the summary: an SVG of its own, and a part of the page. Which there are is said
//! in `figures.rs`.

use std::fmt::Write;

/// A figure and what is said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Of its file, without the ending.
    pub name: String,
    pub title: String,
    /// What it shows, and the numbers that belong to it, as HTML.
    pub words: String,
    pub svg: String,
}

/// The figures as a part of the page; `escape` makes a text one of HTML.
pub(super) fn figures_html(figures: &[Figure], escape: impl Fn(&str) -> String) -> String {
    figures.iter().fold(String::new(), |mut page, figure| {
        let _ =
            write!(page, "<h2>{}</h2>\n{}{}\n", escape(&figure.title), figure.words, figure.svg);
        page
    })
}
