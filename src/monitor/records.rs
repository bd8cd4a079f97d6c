//! Reads and trims TensorBoard event files: a file is records of `length, crc, event, crc`, an
//! event is a protobuf message.
//!
//! Only the step of an event is understood here; writing is tensorboard-rs's work.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use tensorboard_rs::masked_crc32c::masked_crc32c;

use crate::artifacts::atomic;
use crate::error::{Error, Result};

/// Bytes before and after the event of a record.
const HEADER: usize = 12;
const FOOTER: usize = 4;

/// The event files of `folder`, oldest first; none if there is no such folder.
pub(super) fn event_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(folder, "reading the folder")(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io(folder, "reading the folder"))?;
        if entry.file_name().to_string_lossy().starts_with("events.out.tfevents.") {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Bytes of the complete first record of `bytes`, or None if it is cut or broken.
pub(super) fn record_length(bytes: &[u8]) -> Option<usize> {
    let (length, crc) = (bytes.get(..8)?, bytes.get(8..HEADER)?);
    if masked_crc32c(length).to_le_bytes() != crc {
        return None;
    }
    let end =
        HEADER.checked_add(usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?)?;
    let (event, footer) = (bytes.get(HEADER..end)?, bytes.get(end..end.checked_add(FOOTER)?)?);
    (masked_crc32c(event).to_le_bytes() == footer).then_some(end + FOOTER)
}

/// Keeps the events up to `last_step`, drops later ones and a broken tail. `None` drops the file.
pub(super) fn trim(path: &Path, last_step: Option<u64>) -> Result<()> {
    let Some(last_step) = last_step else {
        return fs::remove_file(path).map_err(Error::io(path, "removing"));
    };
    let bytes = fs::read(path).map_err(Error::io(path, "reading"))?;
    let (mut kept, mut rest) = (Vec::with_capacity(bytes.len()), bytes.as_slice());
    while let Some(length) = record_length(rest) {
        let (record, tail) = rest.split_at(length);
        if step(&record[HEADER..length - FOOTER]).is_some_and(|step| step <= last_step) {
            kept.extend_from_slice(record);
        }
        rest = tail;
    }
    if kept.len() == bytes.len() {
        Ok(())
    } else {
        atomic::write_with(path, |file| file.write_all(&kept))
    }
}

/// Field 2 of an event; 0 if it is absent, as protobuf has it. None if the bytes are no message.
fn step(mut event: &[u8]) -> Option<u64> {
    let mut step = 0;
    while !event.is_empty() {
        let key = varint(&mut event)?;
        let skip = match key & 7 {
            0 => {
                let value = varint(&mut event)?;
                if key >> 3 == 2 {
                    step = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut event)?).ok()?,
            5 => 4,
            _ => return None,
        };
        event = event.get(skip..)?;
    }
    Some(step)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use tensorboard_rs::record_writer::RecordWriter;

    use super::*;

    /// An event as protobuf writes it: wall time (field 1), step (field 2, absent if 0), a summary
    /// (field 5).
    fn event(step: u64) -> Vec<u8> {
        let mut bytes = vec![0x09, 0, 0, 0, 0, 0, 0, 0, 0];
        if step > 0 {
            bytes.push(0x10);
            let mut rest = step;
            while rest >= 0x80 {
                bytes.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        }
        bytes.extend_from_slice(&[0x2a, 3, 1, 2, 3]);
        bytes
    }

    fn file(steps: &[u64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &step in steps {
            RecordWriter::new(&mut bytes).write(&event(step)).unwrap();
        }
        bytes
    }

    #[test]
    fn later_events_and_a_broken_tail_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.out.tfevents.0000000001.host.1.0");
        let whole = file(&[0, 1, 127, 128, 300]);
        for (last_step, kept) in [(300, 5), (299, 4), (128, 4), (127, 3), (0, 1)] {
            fs::write(&path, &whole).unwrap();
            trim(&path, Some(last_step)).unwrap();
            assert_eq!(
                fs::read(&path).unwrap(),
                file(&[0, 1, 127, 128, 300][..kept]),
                "last step {last_step}"
            );
        }
        let four = file(&[0, 1, 127, 128]).len();
        for cut in four..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            trim(&path, Some(1000)).unwrap();
            assert_eq!(fs::read(&path).unwrap().len(), four, "cut at byte {cut}");
        }
        let mut flipped = whole.clone();
        flipped[four + HEADER + 2] ^= 1;
        fs::write(&path, &flipped).unwrap();
        trim(&path, Some(1000)).unwrap();
        assert_eq!(fs::read(&path).unwrap().len(), four, "a flipped bit must be noticed");
        assert_eq!(event_files(folder.path()).unwrap(), std::slice::from_ref(&path));
        trim(&path, None).unwrap();
        assert!(event_files(folder.path()).unwrap().is_empty());
    }
}
