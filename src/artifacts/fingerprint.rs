//! SHA-256 of settings and of files, as lowercase hex. What is put into one is the stages' choice;
//! hashes of files are remembered in `hashes.rs`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

const BUFFER: usize = 1 << 20;

/// Hash of `parts` as one compact JSON array with sorted keys, so that the order of keys does not
/// matter and all else does.
pub fn fingerprint(parts: &[Value]) -> String {
    let mut text = String::new();
    canonical(&Value::Array(parts.to_vec()), &mut text);
    hex(&Sha256::digest(text.as_bytes()))
}

/// Hash of a file's bytes, read in pieces.
pub fn hash_file(path: &Path) -> Result<String> {
    hash_reader(File::open(path).map_err(Error::io(path, "reading"))?)
        .map_err(Error::io(path, "reading"))
}

fn hash_reader(mut reader: impl Read) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hex(&digest.finalize())),
            Ok(count) => digest.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                canonical(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| name.as_str());
            text.push('{');
            for (index, (name, item)) in fields.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                canonical(item, text);
            }
            text.push('}');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn agrees_with_another_sha256_over_canonical_json() {
        // hashlib.sha256(b'[{"a":[true,null,1.5],"b":"\\"x"},"f"]').hexdigest()
        let expected = "9d60faff1adb7edc9b6a79569f9e8ed42bb2955479c7f2a2a0e141f6bddfcef8";
        assert_eq!(
            fingerprint(&[json!({"b": "\"x", "a": [true, null, 1.5]}), json!("f")]),
            expected
        );
        assert_eq!(
            fingerprint(&[json!({"a": [true, null, 1.5], "b": "\"x"}), json!("f")]),
            expected
        );
    }

    #[test]
    fn any_change_changes_it() {
        let base = fingerprint(&[json!({"beta": 0.1, "seeds": [1, 2]})]);
        for other in [
            json!({"beta": 0.2, "seeds": [1, 2]}),
            json!({"beta": 0.1, "seeds": [2, 1]}),
            json!({"beta": 0.1}),
        ] {
            assert_ne!(fingerprint(&[other]), base);
        }
        // The borders between parts count.
        assert_ne!(fingerprint(&[json!("a"), json!("b")]), fingerprint(&[json!("ab")]));
    }

    #[test]
    fn files_are_hashed_across_the_buffer_border() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("big");
        let bytes: Vec<u8> = (0..BUFFER + 12_345).map(|index| (index % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(hash_file(&path).unwrap(), hex(&Sha256::digest(&bytes)));
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            hash_file(&path).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(
            hash_file(&folder.path().join("absent"))
                .unwrap_err()
                .to_string()
                .contains("absent: reading: ")
        );
    }
}
