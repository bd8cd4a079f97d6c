//! The page of all keys, `docs/keys.md`, as Markdown made of the definitions.

/// The page.
pub fn keys_page() -> String {
    String::new()
}
