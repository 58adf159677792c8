//! ClickHouse out of its library: the body of a process that is nothing but a ClickHouse server.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    fs::File,
    io::{self, Read as _},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use farebox_types::ErrorKind;
use libloading::{Library, Symbol};

/// What [`serve_chdb`] serves, and where.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// `libchdb.so`.
    pub lib: PathBuf,
    pub data_dir: PathBuf,
    pub http_port: u16,
    /// The native protocol, where it is wanted.
    pub tcp_port: Option<u16>,
    /// Further ClickHouse settings, as `--name=value`.
    pub args: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot load ClickHouse from {}: {source}", lib.display())]
    Load { lib: PathBuf, source: libloading::Error },
    #[error("cannot pass `{0}` to ClickHouse: it holds a zero byte")]
    Argument(String),
    #[error("cannot set up the process of ClickHouse: {0}")]
    Setup(#[from] io::Error),
    #[error("ClickHouse ended with an error: {0}")]
    Ended(String),
}

impl ServeError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            ServeError::Argument(_) => ErrorKind::BadRequest,
            ServeError::Load { .. } | ServeError::Setup(_) | ServeError::Ended(_) => ErrorKind::Unavailable,
        }
    }
}

type QueryCmdline = unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut c_void;
type ResultError = unsafe extern "C" fn(*mut c_void) -> *const c_char;

/// Serves ClickHouse until the standard input of this process closes or SIGTERM or SIGINT arrives; a second signal
/// ends the process at once. Needs a process of its own and is to be called before that has any other thread:
/// threads that exist already would take the signals.
///
/// The library has no "run a server" call. It runs one query that reads its standard input to the end, after a
/// statement that opens the ports; so the server lives until the pipe that is put there closes.
pub fn serve_chdb(options: &ServeOptions) -> Result<(), ServeError> {
    std::fs::create_dir_all(&options.data_dir)?;
    let arguments = arguments(options)?;
    let signals = block_signals()?;
    let parent = File::from(rustix::io::dup(io::stdin()).map_err(io::Error::from)?);
    let (hold, release) = io::pipe()?;
    rustix::stdio::dup2_stdin(&hold).map_err(io::Error::from)?;
    drop(hold);
    let release = Arc::new(Mutex::new(Some(OwnedFd::from(release))));
    end_with_parent(parent, Arc::clone(&release))?;
    end_on_signal(signals, Arc::clone(&release))?;
    run(options, &arguments)?;
    let ended_by_us = release.lock().unwrap_or_else(PoisonError::into_inner).is_none();
    if ended_by_us { Ok(()) } else { Err(ServeError::Ended("it stopped listening by itself".into())) }
}

fn arguments(options: &ServeOptions) -> Result<Vec<CString>, ServeError> {
    let mut query = String::from("SYSTEM START LISTEN HTTP; ");
    let mut arguments = vec![
        "clickhouse".to_owned(),
        format!("--path={}", options.data_dir.display()),
        "--listen_host=127.0.0.1".to_owned(),
        format!("--http_port={}", options.http_port),
    ];
    if let Some(port) = options.tcp_port {
        arguments.push(format!("--tcp_port={port}"));
        query.push_str("SYSTEM START LISTEN TCP; ");
    }
    query.push_str("SELECT * FROM file('/dev/stdin', LineAsString) FORMAT Null");
    arguments.push(format!("--query={query}"));
    arguments.extend(options.args.iter().cloned());
    let c_string = |a: String| CString::new(a.clone()).map_err(|_| ServeError::Argument(a));
    arguments.into_iter().map(c_string).collect()
}

#[expect(unsafe_code, reason = "loads a C library and calls two of its functions")]
fn run(options: &ServeOptions, arguments: &[CString]) -> Result<(), ServeError> {
    let load = |source| ServeError::Load { lib: options.lib.clone(), source };
    let mut argv: Vec<*mut c_char> = arguments.iter().map(|a| a.as_ptr().cast_mut()).collect();
    argv.push(std::ptr::null_mut());
    let argc = c_int::try_from(arguments.len()).map_err(|_| ServeError::Argument("too many".into()))?;
    // SAFETY: the library is the pinned build, whose initialisers may run here and whose two functions have these
    // signatures; argv outlives the call and ends with a null pointer; a result is read before anything frees it.
    // The library is never unloaded: its threads live until the process ends.
    unsafe {
        let library = Library::new(&options.lib).map_err(load)?;
        let query: Symbol<'_, QueryCmdline> = library.get(b"chdb_query_cmdline\0").map_err(load)?;
        let error: Symbol<'_, ResultError> = library.get(b"chdb_result_error\0").map_err(load)?;
        let result = query(argc, argv.as_mut_ptr());
        let message = if result.is_null() { std::ptr::null() } else { error(result) };
        let outcome = if message.is_null() {
            Ok(())
        } else {
            Err(ServeError::Ended(CStr::from_ptr(message).to_string_lossy().into_owned()))
        };
        std::mem::forget(library);
        outcome
    }
}

/// Closing the pipe ends the query, and with it the server.
type Release = Arc<Mutex<Option<OwnedFd>>>;

fn close(release: &Release) -> bool {
    release.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
}

fn end_with_parent(mut parent: File, release: Release) -> io::Result<()> {
    std::thread::Builder::new().name("parent".into()).spawn(move || {
        let mut ignored = [0; 64];
        loop {
            match parent.read(&mut ignored) {
                Ok(1..) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        close(&release);
    })?;
    Ok(())
}

/// SIGTERM and SIGINT, blocked in this thread and in all that it starts.
#[expect(unsafe_code, reason = "the standard library has no signal masks")]
fn block_signals() -> io::Result<libc::sigset_t> {
    // SAFETY: the set is initialised by sigemptyset before it is used; the calls touch nothing else.
    unsafe {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        let mut set = set.assume_init();
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
            0 => Ok(set),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }
}

#[expect(unsafe_code, reason = "the standard library cannot wait for a signal, nor end without exit handlers")]
fn end_on_signal(set: libc::sigset_t, release: Release) -> io::Result<()> {
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        loop {
            let mut signal = 0;
            // SAFETY: both pointers are to live locals; the set is blocked in this thread.
            if unsafe { libc::sigwait(&raw const set, &raw mut signal) } == 0 && !close(&release) {
                // SAFETY: ends the process; there is nothing left to be sound about.
                unsafe { libc::_exit(128 + signal) }
            }
        }
    })?;
    Ok(())
}
