//! `w2s doctor URL`: what a server can do, as a table, and the lines of a recipe that fit. What is
//! asked is left to `policy`.

use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::policy::remote::probe;
use crate::recipe::Api;

#[derive(Debug, Args)]
pub(super) struct ServedFlags {
    /// With an address: what the server calls the model [default: the only one it serves]
    #[arg(long, value_name = "NAME")]
    served_model: Option<String>,
    /// With an address: the dialect to speak instead of the one that is found
    #[arg(long, value_name = "DIALECT")]
    dialect: Option<String>,
    /// With an address: the environment variable that holds the key
    #[arg(long, value_name = "VARIABLE")]
    key: Option<String>,
}

impl ServedFlags {
    /// What was found out about the server at `url`.
    pub fn report(&self, url: &str) -> Result<String> {
        let mut api = json!({ "url": url });
        let given = [("model", &self.served_model), ("dialect", &self.dialect), ("key", &self.key)];
        for (name, value) in given {
            if let Some(value) = value {
                api[name] = Value::from(value.as_str());
            }
        }
        let api: Api = serde_json::from_value(api)
            .map_err(|error| Error::recipe(format!("`--dialect`: {error}")))?;
        let report = probe("the server", &api)?;
        let width = report.findings.iter().map(|finding| finding.of.len()).max().unwrap_or(0);
        let mut text = format!("{url}\n");
        for finding in &report.findings {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "  {:width$}  {}", finding.of, finding.found);
        }
        let _ = write!(text, "\n[models.served]\n{}", report.lines.join("\n"));
        Ok(text)
    }
}
