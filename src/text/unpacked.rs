//! The bytes of a data file without their packing. What a file is, its first bytes say, whatever
//! its name: gzip and zstd are unpacked, a byte order mark is passed over, and a file that holds
//! something else than text or Parquet is told by what it is. What the text means is left to
//! `records.rs`.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Error as IoError, ErrorKind, Read, Seek};
use std::path::Path;

use flate2::bufread::GzDecoder;

use crate::error::{Error, Result};

pub(super) enum Unpacked {
    Parquet(File),
    /// Errors in its packing are told by [`read_error`].
    Text(Box<dyn BufRead>),
}

/// First bytes, what begins so, and the way out.
type Foreign = (&'static [u8], &'static str, &'static str);

const PARQUET: &[u8] = b"PAR1";
const MARK: &[u8] = b"\xef\xbb\xbf";
const UNPACK: &str = "unpack it, or pack it with gzip or zstd";
const RECODE: &str = "save it as UTF-8, for example with `iconv -f UTF-16 -t UTF-8`";
const WRITE_AGAIN: &str = "write it as Parquet, JSON lines or CSV";
const FOREIGN: [Foreign; 12] = [
    (b"BZh91AY&SY", "a bzip2 file", UNPACK),
    (b"\xfd7zXZ\0", "an xz file", UNPACK),
    (b"\x04\x22\x4d\x18", "an lz4 file", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"PK\x03\x04", "a zip archive", UNPACK),
    (b"\xff\xfe", "UTF-16 text", RECODE),
    (b"\xfe\xff", "UTF-16 text", RECODE),
    (b"ARROW1\0\0", "an Arrow file", WRITE_AGAIN),
    (b"\xff\xff\xff\xff", "an Arrow stream, as `save_to_disk` writes it", WRITE_AGAIN),
    (b"<!DOCTYPE", "a web page", "download the data itself"),
    (b"<!doctype", "a web page", "download the data itself"),
    (b"<html", "a web page", "download the data itself"),
];
/// As far into a file as its kind is told.
const HEAD: u64 = 512;
/// Where the mark of a tar archive lies.
const TAR: std::ops::Range<usize> = 257..262;

/// Opens `file`, which lies at `path`.
///
/// # Errors
/// Where it cannot be read, or is none of the kinds that are: the message says what it is.
pub(super) fn open(path: &Path, mut file: File) -> Result<Unpacked> {
    let (head, failure, _) = peek(&file);
    failure.map_or(Ok(()), |failure| Err(Error::io(path, "reading")(failure)))?;
    if head.starts_with(PARQUET) {
        file.rewind().map_err(Error::io(path, "reading"))?;
        return Ok(Unpacked::Parquet(file));
    }
    let first = head.clone();
    let file = BufReader::new(Cursor::new(head).chain(file));
    let plain: Box<dyn Read> = match first.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(Packed { inner: GzipMembers::new(file), packing: "gzip" }),
        // A frame of data, or one that says something else before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let wrong = |error| Error::io(path, "opening zstd data")(error);
            let mut inner = zstd::Decoder::with_buffer(file).map_err(wrong)?;
            inner.window_log_max(31).map_err(wrong)?;
            Box::new(Packed { inner, packing: "zstd" })
        }
        _ => Box::new(file),
    };
    let (mut head, failure, plain) = peek(plain);
    if let Some((_, what, hint)) = foreign(&head) {
        return Err(Error::data(path, None, format!("the file is {what}\n\nhint: {hint}")));
    }
    if head.starts_with(MARK) {
        head.drain(..MARK.len());
    }
    let plain = Cursor::new(head).chain(Failure(failure)).chain(plain);
    Ok(Unpacked::Text(Box::new(BufReader::new(plain))))
}

/// The first bytes, what kept the reader from more, and the rest.
fn peek<R: Read>(mut reader: R) -> (Vec<u8>, Option<IoError>, R) {
    let mut head = Vec::new();
    let read = (&mut reader).take(HEAD).read_to_end(&mut head);
    (head, read.err(), reader)
}

/// Fails once where an earlier reader of the same bytes did.
struct Failure(Option<IoError>);

impl Read for Failure {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

fn foreign(head: &[u8]) -> Option<Foreign> {
    let known = FOREIGN.into_iter().find(|(mark, ..)| head.starts_with(mark));
    let tar = || (head.get(TAR) == Some(b"ustar")).then_some((&b""[..], "a tar archive", UNPACK));
    // Without its mark UTF-16 is known by the zeros beside Latin letters.
    let bare = || {
        let zero = matches!(head, [0, other, ..] | [other, 0, ..] if *other != 0);
        zero.then_some((&b""[..], "UTF-16 text, or no text", RECODE))
    };
    let packed = || {
        let parquet = head.starts_with(PARQUET);
        parquet.then_some((PARQUET, "a Parquet file, packed once more", "unpack it"))
    };
    known.or_else(tar).or_else(bare).or_else(packed)
}

/// What went wrong at a line of `path`: with its packing, or with reading it at all.
pub(super) fn read_error(path: &Path, line: usize, error: IoError) -> Error {
    if error.raw_os_error().is_none() && error.kind() == ErrorKind::InvalidData {
        Error::data(path, Some(line), error.to_string())
    } else {
        Error::io(path, "reading")(error)
    }
}

/// Names the packing in errors of its data.
struct Packed<R> {
    inner: R,
    packing: &'static str,
}

impl<R: Read> Read for Packed<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.inner.read(into).map_err(|error| {
            if error.raw_os_error().is_some() || error.kind() == ErrorKind::Interrupted {
                return error;
            }
            let hint = "hint: download or copy the file again";
            let problem = format!("the {} data is damaged or cut short: {error}", self.packing);
            IoError::new(ErrorKind::InvalidData, format!("{problem}\n\n{hint}"))
        })
    }
}

/// The members of a gzip file one behind the other; zeros behind the last are padding.
struct GzipMembers<R> {
    /// `None` behind the last.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> GzipMembers<R> {
    fn new(reader: R) -> Self {
        Self { member: Some(GzDecoder::new(reader)) }
    }
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while let Some(mut member) = self.member.take() {
            let read = member.read(into)?;
            if read > 0 || into.is_empty() {
                self.member = Some(member);
                return Ok(read);
            }
            let mut rest = member.into_inner();
            if skip_zeros(&mut rest)? {
                self.member = Some(GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

/// Whether anything follows.
fn skip_zeros(reader: &mut impl BufRead) -> std::io::Result<bool> {
    loop {
        let bytes = reader.fill_buf()?;
        let (all, zeros) = (bytes.len(), bytes.iter().take_while(|byte| **byte == 0).count());
        reader.consume(zeros);
        if all == 0 || zeros < all {
            return Ok(all > 0);
        }
    }
}
