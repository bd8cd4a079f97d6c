//! A server on the loopback interface that plays the hub: descriptions, files with ranges, large
//! ones behind a redirect, and faults on order.
//!
//! It answers as the real one does where a client looks: `etag`, `x-linked-etag`, `x-linked-size`,
//! `x-repo-commit`, `content-range`, `x-error-code`. Every request is written down.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

pub type Files = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Another status, with these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// The connection ends without an answer.
    Silence,
    /// The connection stays, and nothing is said on it: from the beginning, or after so many bytes
    /// of the body.
    Hang(Option<usize>),
    /// The same after so many bytes of a description.
    HangDescription(usize),
    /// A failure in the hub's own words: headers, and a body.
    Words(u16, Vec<(&'static str, String)>, &'static str),
    /// The whole file, whatever part of it was asked for.
    NoRanges,
    /// The connection ends after so many bytes of a file.
    Drop(usize),
    /// The file ends after so many bytes as if that were all.
    Truncate(usize),
    /// So many bytes too many.
    Longer(usize),
    /// Another header for a file.
    Header(&'static str, String),
}

#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
    /// Bytes of the body that was sent.
    pub sent: usize,
}

#[derive(Default)]
struct Repository {
    commits: BTreeMap<String, Files>,
    revisions: BTreeMap<String, String>,
    token: Option<String>,
}

#[derive(Default)]
struct State {
    repositories: BTreeMap<String, Repository>,
    /// Where in the path, how often, and what.
    faults: Vec<(String, usize, Fault)>,
    /// What descriptions say instead of the real sizes, or of files that are not there.
    listed: BTreeMap<String, u64>,
    log: Vec<Request>,
}

pub struct Server {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = shared.clone();
                // A client that went away is the client's business.
                std::thread::spawn(move || answer(stream?, port, &state));
            }
        });
        Self { endpoint: format!("http://127.0.0.1:{port}"), state }
    }

    /// Publishes `files` as a revision of `models/owner/name` or `datasets/owner/name`; returns the
    /// commit.
    pub fn publish(&self, repository: &str, revision: &str, files: Files) -> String {
        let mut all = Sha256::new();
        for (name, bytes) in &files {
            all.update(name);
            all.update(bytes);
        }
        let commit = hex(&all.finalize())[..40].to_owned();
        let mut state = self.state.lock().unwrap();
        let repository = state.repositories.entry(repository.to_owned()).or_default();
        repository.commits.insert(commit.clone(), files);
        repository.revisions.insert(revision.to_owned(), commit.clone());
        commit
    }

    pub fn lock_with_token(&self, repository: &str, token: &str) {
        self.state.lock().unwrap().repositories.get_mut(repository).unwrap().token =
            Some(token.to_owned());
    }

    /// The next `times` requests with `path` in theirs get `fault`; those to a file's bytes only
    /// where the fault is of bytes.
    pub fn fault(&self, path: &str, times: usize, fault: Fault) {
        self.state.lock().unwrap().faults.push((path.to_owned(), times, fault));
    }

    pub fn heal(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    pub fn list(&self, name: &str, size: u64) {
        self.state.lock().unwrap().listed.insert(name.to_owned(), size);
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }
}

pub fn folder(path: &Path) -> Files {
    let files = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|file| {
            (
                file.file_name().unwrap().to_string_lossy().into_owned(),
                std::fs::read(&file).unwrap(),
            )
        })
        .collect()
}

/// The tag of a file of this content, which is also the name of its blob in the cache.
pub fn tag(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_large(name: &str) -> bool {
    [".safetensors", ".bin", ".parquet"].iter().any(|extension| name.ends_with(extension))
}

fn answer(mut stream: TcpStream, port: u16, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().replace("%2F", "/");
    let mut request = Request { path: path.clone(), range: None, authorization: None, sent: 0 };
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        let (name, value) = header.trim().split_once(": ").unwrap_or_default();
        match name.to_lowercase().as_str() {
            "range" => request.range = Some(value.to_owned()),
            "authorization" => request.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let (response, hangs) = respond(&request, port, &mut state.lock().unwrap());
    request.sent = response.as_ref().map_or(0, |response| response.body.len());
    state.lock().unwrap().log.push(request);
    if let Some(Response { status, headers, body, length }) = response {
        let mut head = format!("HTTP/1.1 {status} Whatever\r\nConnection: close\r\n");
        for (name, value) in
            headers.iter().chain(&length.map(|length| ("Content-Length", length.to_string())))
        {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(&body)?;
    }
    if hangs {
        // Until the client has had enough.
        reader.read_exact(&mut [0])?;
    }
    stream.shutdown(Shutdown::Both)
}

struct Response {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// What is announced, which a fault makes differ; `None` lets the end of the connection be the
    /// end of the body.
    length: Option<usize>,
}

impl Response {
    fn new(status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Self {
        Self { status, headers, length: Some(body.len()), body }
    }
}

/// What is answered, if anything, and whether the connection then stays as it is.
fn respond(request: &Request, port: u16, state: &mut State) -> (Option<Response>, bool) {
    let bytes_asked = request.range.as_deref().is_some_and(|range| range != "bytes=0-0")
        && !request.path.starts_with("/api/");
    // The bytes of a large file come from another address.
    let bytes_here = bytes_asked && (request.path.starts_with("/cdn/") || !is_large(&request.path));
    let of_bytes = |fault: &Fault| {
        matches!(
            fault,
            Fault::Drop(_)
                | Fault::Truncate(_)
                | Fault::Longer(_)
                | Fault::Hang(Some(_))
                | Fault::NoRanges
        )
    };
    let found = state.faults.iter_mut().find(|(path, times, fault)| {
        *times > 0 && request.path.contains(path.as_str()) && (bytes_here || !of_bytes(fault))
    });
    let fault = found.map(|(_, times, fault)| {
        *times -= 1;
        fault.clone()
    });
    match fault {
        Some(Fault::Silence) => return (None, false),
        Some(Fault::Hang(None)) => return (None, true),
        Some(Fault::Status(status, headers)) => {
            return (Some(Response::new(status, headers, Vec::new())), false);
        }
        Some(Fault::Words(status, headers, body)) => {
            return (Some(Response::new(status, headers, body.as_bytes().to_vec())), false);
        }
        _ => {}
    }
    let mut response = match request.path.strip_prefix("/api/") {
        Some(path) => describe(path, request, state),
        None if fault == Some(Fault::NoRanges) => {
            file(&Request { range: None, ..request.clone() }, port, state)
        }
        None => file(request, port, state),
    };
    let hangs = matches!(fault, Some(Fault::Hang(_) | Fault::HangDescription(_)));
    match fault {
        Some(Fault::Drop(after) | Fault::Hang(Some(after)) | Fault::HangDescription(after)) => {
            response.body.truncate(after);
        }
        Some(Fault::Truncate(after)) => {
            response.body.truncate(after);
            response.length = None;
        }
        Some(Fault::Longer(by)) => {
            response.body.resize(response.body.len() + by, b'x');
            response.length = None;
        }
        Some(Fault::Header(name, value)) => {
            response.headers.retain(|(known, _)| *known != name);
            response.headers.push((name, value));
        }
        _ => {}
    }
    (Some(response), hangs)
}

fn error(status: u16, code: &str) -> Response {
    Response::new(status, vec![("x-error-code", code.to_owned())], b"{\"error\":\"no\"}".to_vec())
}

/// The repository, the commit that `revision` means, and its files, for whom may see them.
fn find<'a>(
    state: &'a State,
    repository: &str,
    revision: &str,
    request: &Request,
) -> Result<(String, &'a Files), Response> {
    let found = state.repositories.get(repository).ok_or_else(|| error(404, "RepoNotFound"))?;
    if let Some(token) = &found.token
        && request.authorization != Some(format!("Bearer {token}"))
    {
        return Err(error(401, "RepoNotFound"));
    }
    let commit = found.revisions.get(revision).cloned().unwrap_or(revision.to_owned());
    let files = found.commits.get(&commit).ok_or_else(|| error(404, "RevisionNotFound"))?;
    Ok((commit, files))
}

/// `models/owner/name/revision/main?blobs=true`.
fn describe(path: &str, request: &Request, state: &State) -> Response {
    let (repository, revision) =
        path.trim_end_matches("?blobs=true").split_once("/revision/").unwrap_or_default();
    let (commit, files) = match find(state, repository, revision, request) {
        Ok(found) => found,
        Err(response) => return response,
    };
    let mut sizes: BTreeMap<&str, u64> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.len() as u64)).collect();
    sizes.extend(state.listed.iter().map(|(name, size)| (name.as_str(), *size)));
    let siblings: Vec<_> = sizes
        .iter()
        .map(|(name, size)| serde_json::json!({ "rfilename": name, "size": size }))
        .collect();
    let body = serde_json::json!({ "id": repository, "sha": commit, "siblings": siblings });
    Response::new(200, Vec::new(), body.to_string().into_bytes())
}

/// `/owner/name/resolve/main/config.json`, the same below `/datasets/`, or `/cdn/` and a tag.
fn file(request: &Request, port: u16, state: &State) -> Response {
    if let Some(wanted) = request.path.strip_prefix("/cdn/").and_then(|path| path.split('/').next())
    {
        let files = state
            .repositories
            .values()
            .flat_map(|repository| repository.commits.values())
            .flat_map(BTreeMap::values);
        return match files.into_iter().find(|bytes| tag(bytes) == wanted) {
            Some(bytes) => range(request, bytes, Vec::new()),
            None => error(404, "EntryNotFound"),
        };
    }
    let path = match request.path.strip_prefix("/datasets/") {
        Some(path) => format!("datasets/{path}"),
        None => format!("models{}", request.path),
    };
    let (repository, rest) = path.split_once("/resolve/").unwrap_or_default();
    let (revision, name) = rest.split_once('/').unwrap_or_default();
    let (commit, files) = match find(state, repository, revision, request) {
        Ok(found) => found,
        Err(response) => return response,
    };
    let Some(bytes) = files.get(name) else { return error(404, "EntryNotFound") };
    let mut headers = vec![("x-repo-commit", commit)];
    if !is_large(name) {
        headers.push(("etag", format!("\"{}\"", tag(bytes))));
        return range(request, bytes, headers);
    }
    headers.push(("x-linked-etag", format!("\"{}\"", tag(bytes))));
    headers.push(("x-linked-size", bytes.len().to_string()));
    // The same server by another name: what must not go to another host must not go there.
    headers.push(("location", format!("http://localhost:{port}/cdn/{}/{name}", tag(bytes))));
    Response::new(302, headers, Vec::new())
}

fn range(request: &Request, bytes: &[u8], mut headers: Vec<(&'static str, String)>) -> Response {
    let asked =
        request.range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((start, end)) = asked else { return Response::new(200, headers, bytes.to_vec()) };
    let start: usize = start.parse().unwrap();
    if start >= bytes.len() {
        return error(416, "RangeNotSatisfiable");
    }
    let end = end.parse().map_or(bytes.len(), |end: usize| (end + 1).min(bytes.len()));
    headers.push(("content-range", format!("bytes {start}-{}/{}", end - 1, bytes.len())));
    Response::new(206, headers, bytes[start..end].to_vec())
}
