//! The plan in words: what `w2s check` prints. Nothing is left at an unseen default. What is said
//! of a table stands with it.

use std::fmt::{self, Write};

use super::plan::Plan;
use super::words::bytes_in_words;

impl Plan {
    /// Stages, every resolved setting, derived sizes and a memory estimate, as text of several
    /// paragraphs.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let recipe = &self.recipe;
        recipe.run.words(out)?;
        recipe.data.as_ref().map_or(Ok(()), |data| data.words(out))?;
        if !recipe.models.is_empty() {
            writeln!(out, "\nmodels")?;
            for (name, model) in &recipe.models {
                model.words(name, self.models.get(name), out)?;
            }
        }
        writeln!(out, "\nstages")?;
        for (index, stage) in self.stages.iter().enumerate() {
            write!(out, "  {} {stage}: ", index + 1)?;
            stage.table(recipe).map_or(Ok(()), |table| table.words(self, out))?;
        }
        self.write_memory(out)?;
        let warnings = self.warnings();
        if warnings.is_empty() {
            return Ok(());
        }
        writeln!(out, "\nwarnings")?;
        warnings.iter().try_for_each(|warning| writeln!(out, "  {warning}"))
    }

    fn write_memory(&self, out: &mut String) -> fmt::Result {
        let stages = self.memory();
        if stages.is_empty() {
            return Ok(());
        }
        writeln!(out, "\nmemory, at most, beside the program itself")?;
        for (stage, memory) in stages {
            let bytes = bytes_in_words(memory.bytes());
            writeln!(out, "  {stage} ({}): {bytes}", memory.model)?;
            for part in &memory.parts {
                let bytes = bytes_in_words(part.bytes);
                writeln!(out, "    {}: {} = {bytes}", part.name, part.arithmetic)?;
            }
        }
        Ok(())
    }
}
