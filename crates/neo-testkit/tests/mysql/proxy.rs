//! A socket in front of the server's, where a connection can be cut at the moment of a commit.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use neo_testkit::MariaDb;
use tempfile::TempDir;

/// What becomes of the next commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cut {
    /// It is as any other.
    Nothing,
    /// The server never hears of it.
    Request,
    /// The server does it, and its answer is lost.
    Answer,
}

#[derive(Debug)]
struct Shared {
    cut: AtomicU8,
    /// How many more.
    more: AtomicUsize,
    cuts: AtomicUsize,
    refuses: AtomicBool,
    streams: Mutex<Vec<UnixStream>>,
}

#[derive(Debug)]
pub(crate) struct Proxy {
    directory: TempDir,
    shared: Arc<Shared>,
}

impl Proxy {
    pub(crate) fn new(server: &MariaDb) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let shared = Arc::new(Shared {
            cut: AtomicU8::new(Cut::Nothing as u8),
            more: AtomicUsize::new(0),
            cuts: AtomicUsize::new(0),
            refuses: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let (target, to) = (server.socket(), Arc::clone(&shared));
        // They end with the process, or with their connections.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if !to.refuses.load(Ordering::SeqCst) {
                    connect(client, &target, &to);
                }
            }
        });
        Self { directory, shared }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    /// Cuts the next commits, so many.
    pub(crate) fn cut(&self, cut: Cut, times: usize) {
        self.shared.more.store(times, Ordering::SeqCst);
        self.shared.cut.store(cut as u8, Ordering::SeqCst);
    }

    /// How many commits were cut.
    pub(crate) fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }

    /// From now on nobody gets another connection.
    pub(crate) fn refuse(&self) {
        self.shared.refuses.store(true, Ordering::SeqCst);
    }

    /// Cuts all connections now.
    pub(crate) fn cut_all(&self) {
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn connect(client: UnixStream, target: &Path, shared: &Arc<Shared>) {
    let Ok(server) = UnixStream::connect(target) else {
        return;
    };
    let mut streams = shared.streams.lock().unwrap();
    for stream in [&client, &server] {
        streams.push(stream.try_clone().unwrap());
    }
    drop(streams);
    let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let is_silent = Arc::new(AtomicU8::new(0));
    let (silent, shared) = (Arc::clone(&is_silent), Arc::clone(shared));
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = answers.read(&mut buffer) {
            if silent.load(Ordering::SeqCst) != 0 {
                // The server has answered: it is done.
                break;
            }
            if back.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        for stream in [&answers, &back] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
    thread::spawn(move || requests(client, server, &shared, &is_silent));
}

fn requests(mut client: UnixStream, mut server: UnixStream, shared: &Shared, silent: &AtomicU8) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = client.read(&mut buffer) {
        let request = &buffer[..n];
        let commits = request.ends_with(b"COMMIT;");
        let order = Ordering::SeqCst;
        let is_next = || shared.more.fetch_update(order, order, |n| n.checked_sub(1));
        let cut = if commits && is_next().is_ok() {
            shared.cut.load(order)
        } else {
            Cut::Nothing as u8
        };
        if cut != Cut::Nothing as u8 {
            shared.cuts.fetch_add(1, Ordering::SeqCst);
        }
        if cut == Cut::Request as u8 {
            break;
        }
        if cut == Cut::Answer as u8 {
            silent.store(1, Ordering::SeqCst);
        }
        if server.write_all(request).is_err() {
            break;
        }
        if cut == Cut::Answer as u8 {
            // The other direction ends it.
            return;
        }
    }
    for stream in [&client, &server] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
