//! What came out: the summary's numbers, its tables, and the HTML page.

mod html;
mod statistics;
mod summary;
mod table;

pub use html::{Sample, html};
pub use summary::{Answer, Comparison, Reward, Row, Summary};
pub use table::{compare, table};
