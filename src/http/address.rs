//! Addresses that a server sends on to, and who may be told a secret: the host alone that it is
//! for.
//!
//! What is asked and followed is left to whoever asks.

/// Whether a word is an address that can be asked.
pub fn is_address(word: &str) -> bool {
    word.starts_with("http://") || word.starts_with("https://")
}

/// The address that the header `location` of an answer from `url` means, as RFC 3986 reads it but
/// for dots in its path, which the server resolves as well.
pub fn join(url: &str, location: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let path = &path[..path.find(['?', '#']).unwrap_or(path.len())];
    let has_scheme = location.split_once("://").is_some_and(|(scheme, _)| {
        scheme.chars().all(|character| character.is_ascii_alphanumeric())
    });
    if has_scheme {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{host}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{host}{path}{location}")
    } else {
        let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
        format!("{scheme}://{host}{folder}{location}")
    }
}

/// Whether `url` leads to the same host and port as `home`, by no weaker scheme: an encrypted
/// address of the host that is named without encryption is the same.
pub fn is_of(home: &str, url: &str) -> bool {
    let (Some(home), Some(url)) = (Place::of(home), Place::of(url)) else { return false };
    let same_or_safer = home == url
        || (home.scheme == "http" && url.scheme == "https" && (home.port, url.port) == (80, 443));
    same_or_safer && home.host == url.host
}

#[derive(PartialEq)]
struct Place {
    scheme: String,
    host: String,
    port: u16,
}

impl Place {
    /// `None` where the address is none that is asked.
    fn of(url: &str) -> Option<Self> {
        let uri: ureq::http::Uri = url.parse().ok()?;
        let scheme = uri.scheme_str()?.to_lowercase();
        let usual = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let host = uri.host()?.to_lowercase();
        Some(Self { scheme, host, port: uri.port_u16().unwrap_or(usual) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_read_as_browsers_read_them() {
        let url = "https://hub.co/owner/name/resolve/main/a.json?x=1";
        for (location, expected) in [
            ("https://cdn.co/x?sig=a://b", "https://cdn.co/x?sig=a://b"),
            ("//cdn.co/x", "https://cdn.co/x"),
            ("/other/name/a.json", "https://hub.co/other/name/a.json"),
            ("b.json", "https://hub.co/owner/name/resolve/main/b.json"),
            ("?y=2", "https://hub.co/owner/name/resolve/main/a.json?y=2"),
            ("/login?next=https://hub.co/", "https://hub.co/login?next=https://hub.co/"),
        ] {
            assert_eq!(join(url, location), expected);
        }
        assert_eq!(join("http://127.0.0.1:80", "x"), "http://127.0.0.1:80/x");
    }

    #[test]
    fn only_the_hub_is_the_hub() {
        let hub = "https://hub.co";
        for (url, expected) in [
            ("https://hub.co/a", true),
            ("https://HUB.co:443/a", true),
            ("http://hub.co/a", false),
            ("https://hub.co:8443/a", false),
            ("https://hub.co.evil/a", false),
            ("https://evil/hub.co", false),
            ("https://hub.co@evil/a", false),
            ("https://cdn.hub.co/a", false),
            ("ftp://hub.co/a", false),
            ("", false),
        ] {
            assert_eq!(is_of(hub, url), expected, "{url}");
        }
        assert!(is_of("http://hub.co", "https://hub.co/a"), "safer than asked for");
        assert!(!is_of("http://127.0.0.1:80", "http://127.0.0.1:81/a"));
        assert!(!is_of("http://127.0.0.1:80", "http://localhost:80/a"));
    }
}
