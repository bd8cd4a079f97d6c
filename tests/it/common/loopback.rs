//! A server of HTTP/1.1 on the loopback interface, in this process and on threads of its own: a
//! handler says what it plays for each request, answers and accidents alike. Connections are kept
//! as real servers keep them. What a certain server says is left to whoever writes the handler.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// How many came before it.
    pub number: usize,
    /// When it had come whole.
    pub at: Instant,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body, which must be JSON; null where there is none.
    pub fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A whole answer. Its length is added where the headers tell neither it nor another way to end.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, body.to_string()).with("content-type", "application/json")
    }

    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// All that goes over the wire, from the status line on.
    pub fn bytes(&self) -> Vec<u8> {
        let tells = |name: &str| self.headers.iter().any(|(known, _)| known == name);
        let mut head = format!("HTTP/1.1 {} Whatever\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !["content-length", "transfer-encoding", "connection"].into_iter().any(tells) {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        [format!("{head}\r\n").as_bytes(), &self.body].concat()
    }
}

/// What the server does with a request; positions count the bytes of the whole answer, status line
/// included.
#[derive(Debug, Clone)]
pub enum Play {
    Reply(Reply),
    /// The connection ends in good order after so many bytes.
    CutAfter(usize, Reply),
    /// The connection is reset after so many bytes.
    ResetAfter(usize, Reply),
    /// So many bytes at a time.
    Drip {
        every: Duration,
        bytes: usize,
        reply: Reply,
    },
    /// Nothing more is said after so many bytes, and the connection stays.
    SilentAfter(usize, Reply),
    Slow(Duration, Box<Play>),
}

impl Play {
    /// A success with this body.
    pub fn json(body: &Value) -> Self {
        Self::Reply(Reply::json(200, body))
    }

    /// Not a byte.
    pub fn silence() -> Self {
        Self::SilentAfter(0, Reply::text(200, ""))
    }

    pub fn slow(self, by: Duration) -> Self {
        Self::Slow(by, Box::new(self))
    }
}

type Handler = dyn Fn(&Asked) -> Play + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    asked: Mutex<Vec<Asked>>,
    /// Requests under way, and the most that there were at once.
    in_flight: Mutex<(usize, usize)>,
}

/// What lives until a stop.
struct Up {
    is_over: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    accepts: JoinHandle<()>,
}

pub struct Loopback {
    port: u16,
    shared: Arc<Shared>,
    up: Mutex<Option<Up>>,
}

impl Loopback {
    pub fn start(handler: impl Fn(&Asked) -> Play + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            asked: Mutex::default(),
            in_flight: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let up = Mutex::new(Some(serve(listener, shared.clone())));
        Self { port, shared, up }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What came from the beginning on.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// The most requests that were under way at once.
    pub fn in_flight_most(&self) -> usize {
        self.shared.in_flight.lock().unwrap().1
    }

    /// Ends every connection and refuses new ones; what is being computed is lost.
    pub fn stop(&self) {
        let Some(up) = self.up.lock().unwrap().take() else { return };
        up.is_over.store(true, Ordering::SeqCst);
        // It waits for a connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        up.accepts.join().unwrap();
        for stream in up.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Serves on the same port again.
    pub fn restart(&self) {
        self.stop();
        let deadline = Instant::now() + Duration::from_secs(10);
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", self.port)) {
                Ok(listener) => break listener,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        *self.up.lock().unwrap() = Some(serve(listener, self.shared.clone()));
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(listener: TcpListener, shared: Arc<Shared>) -> Up {
    let (is_over, streams) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let (over, open) = (is_over.clone(), streams.clone());
    let accepts = std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            if over.load(Ordering::SeqCst) {
                return;
            }
            let _ = stream.set_nodelay(true);
            open.lock().unwrap().extend(stream.try_clone());
            let (shared, over) = (shared.clone(), over.clone());
            // A client that went away is the client's business.
            std::thread::spawn(move || connection(stream, &shared, &over));
        }
    });
    Up { is_over, streams, accepts }
}

/// Request after request, until one of both has had enough.
fn connection(mut stream: TcpStream, shared: &Shared, over: &AtomicBool) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(asked) = read(&mut reader, shared)? {
        {
            let mut in_flight = shared.in_flight.lock().unwrap();
            in_flight.0 += 1;
            in_flight.1 = in_flight.1.max(in_flight.0);
        }
        let play = (shared.handler)(&asked);
        let stays = !over.load(Ordering::SeqCst)
            && perform(&mut stream, &mut reader, play).unwrap_or(false);
        shared.in_flight.lock().unwrap().0 -= 1;
        if !stays {
            break;
        }
    }
    stream.shutdown(Shutdown::Both)
}

/// The next request, written down; `None` where the connection ends.
fn read(reader: &mut impl BufRead, shared: &Shared) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        let (name, value) = header.trim().split_once(':').unwrap_or_default();
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, length)| length.parse().expect("a length is a number"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut all = shared.asked.lock().unwrap();
    let asked = Asked { method, path, headers, body, number: all.len(), at: Instant::now() };
    all.push(asked.clone());
    Ok(Some(asked))
}

/// Plays it; whether the connection then stays.
fn perform(stream: &mut TcpStream, reader: &mut impl Read, play: Play) -> std::io::Result<bool> {
    match play {
        Play::Slow(by, then) => {
            std::thread::sleep(by);
            return perform(stream, reader, *then);
        }
        Play::Reply(reply) => {
            stream.write_all(&reply.bytes())?;
            return Ok(!reply.headers.iter().any(|(name, _)| name == "connection"));
        }
        Play::CutAfter(bytes, reply) => {
            stream.write_all(first(&reply.bytes(), bytes))?;
        }
        Play::ResetAfter(bytes, reply) => {
            stream.write_all(first(&reply.bytes(), bytes))?;
            // A reset overtakes what is still on its way.
            std::thread::sleep(Duration::from_millis(2));
            reset(stream);
        }
        Play::Drip { every, bytes, reply } => {
            for piece in reply.bytes().chunks(bytes) {
                stream.write_all(piece)?;
                std::thread::sleep(every);
            }
            return Ok(true);
        }
        Play::SilentAfter(bytes, reply) => {
            stream.write_all(first(&reply.bytes(), bytes))?;
            // Until the client has had enough.
            let _ = reader.read_exact(&mut [0]);
        }
    }
    Ok(false)
}

fn first(all: &[u8], bytes: usize) -> &[u8] {
    &all[..bytes.min(all.len())]
}

/// Ends the connection by a reset, whoever else holds it: that is what connecting a stream to
/// nowhere does.
fn reset(stream: &TcpStream) {
    // SAFETY: the descriptor is open, and the address is this function's own.
    let done = unsafe {
        let mut nowhere: libc::sockaddr = std::mem::zeroed();
        nowhere.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
        libc::connect(stream.as_raw_fd(), &nowhere, size_of_val(&nowhere) as libc::socklen_t)
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}
