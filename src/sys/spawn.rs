//! fork and exec as an init needs them: the child gets exactly what memini was given, in the right order.
//!
//! `std::process::Command` is no help here: it waits for the child's exec, changes SIGPIPE, and knows nothing of
//! terminals or of dispositions to be put back.

use std::ffi::{CStr, CString, OsStr, OsString, c_char};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use super::mask::{self, ChildDisposition};
use super::process::{self, ProcessId};

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// Exit code of a child that found no such program (as shells, env(1) and tini have it).
pub const NOT_FOUND: u8 = 127;
/// Exit code of a child whose program could not be run.
pub const NOT_EXECUTABLE: u8 = 126;

/// Room for `LISTEN_PID=` and a process id.
const LISTEN_PID_LENGTH: usize = 32;
const LISTEN_PID: &[u8] = b"LISTEN_PID=";

/// A NULL-terminated vector of C strings.
#[derive(Debug)]
struct Vector {
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

impl Vector {
    fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Self { pointers, _strings: strings }
    }
}

/// Everything that a child needs, made before the fork.
#[derive(Debug)]
pub struct Program {
    arguments: Vector,
    /// `/bin/sh FILE ARGS…`, for a script without a `#!` line, which execvp(3) would hand to the shell as well.
    script: Vector,
    path: Vec<CString>,
}

impl Program {
    /// The program named by the first word, looked up in PATH as execvp(3) does unless it has a slash.
    ///
    /// # Errors
    /// InvalidInput if there is no word or one holds a NUL byte.
    pub fn new(words: &[OsString]) -> io::Result<Self> {
        let strings = strings(words)?;
        let Some(name) = strings.first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program"));
        };
        let path = candidates(name, std::env::var_os("PATH").as_deref());
        let mut script = vec![c"/bin/sh".to_owned(), name.clone()];
        script.extend(strings.iter().skip(1).cloned());
        Ok(Self { arguments: Vector::new(strings), script: Vector::new(script), path })
    }

    /// memini itself, run again: a worker.
    ///
    /// # Errors
    /// As [`Program::new`].
    pub fn worker(words: &[OsString]) -> io::Result<Self> {
        let arguments = Vector::new(strings(words)?);
        // It is no script.
        Ok(Self { arguments, script: Vector::new(Vec::new()), path: vec![c"/proc/self/exe".to_owned()] })
    }

    /// Tries each place of PATH in turn, as execvp(3): what cannot be found or entered is passed over, a permission
    /// that was missing somewhere is remembered. Returns the errno.
    fn exec(&self, environment: *const *const c_char) -> i32 {
        let mut refused = None;
        for file in &self.path {
            // SAFETY: all vectors are NULL-terminated and made of valid strings.
            unsafe { libc::execve(file.as_ptr(), self.arguments.pointers.as_ptr(), environment) };
            match errno() {
                libc::ENOEXEC => {
                    // The shell gets the path that was found, not the name that was looked up.
                    return self.exec_script(file, environment);
                }
                libc::EACCES => refused = Some(libc::EACCES),
                libc::ENOENT | libc::ENOTDIR => {}
                other => return other,
            }
        }
        refused.unwrap_or(libc::ENOENT)
    }

    fn exec_script(&self, file: &CStr, environment: *const *const c_char) -> i32 {
        // The child is a copy of a process with one thread, so it may allocate.
        let mut arguments = self.script.pointers.clone();
        if let Some(place) = arguments.get_mut(1) {
            *place = file.as_ptr();
        }
        // SAFETY: NULL-terminated as the vector that it is a copy of, and made of valid strings.
        unsafe { libc::execve(c"/bin/sh".as_ptr(), arguments.as_ptr(), environment) };
        libc::ENOEXEC
    }
}

fn strings(words: &[OsString]) -> io::Result<Vec<CString>> {
    let strings: Result<_, _> = words.iter().map(|word| CString::new(word.as_bytes().to_vec())).collect();
    strings.map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a NUL byte in an argument"))
}

/// Where execvp(3) would look for the program.
fn candidates(name: &CStr, path: Option<&OsStr>) -> Vec<CString> {
    let bytes = name.to_bytes();
    if bytes.contains(&b'/') || bytes.is_empty() {
        return vec![name.to_owned()];
    }
    // The C libraries' own default where PATH is not set.
    let path = path.unwrap_or(OsStr::new("/usr/local/bin:/bin:/usr/bin"));
    path.as_bytes()
        .split(|byte| *byte == b':')
        .filter_map(|folder| {
            // An empty part means the working directory (execvp(3)).
            let mut file = if folder.is_empty() { b".".to_vec() } else { folder.to_vec() };
            file.push(b'/');
            file.extend_from_slice(bytes);
            CString::new(file).ok()
        })
        .collect()
}

/// What the child does between fork and exec.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// The terminal whose foreground group the child becomes.
    pub terminal: Option<BorrowedFd<'a>>,
    /// Descriptors that the child finds under these numbers.
    pub descriptors: &'a [(BorrowedFd<'a>, RawFd)],
    /// SIGCHLD's disposition to be put back.
    pub child_disposition: Option<&'a ChildDisposition>,
    /// `NAME=value`, in place of what the environment says of that name.
    pub variable: Option<&'a CStr>,
}

/// A child that was started; whether its exec works is known later.
#[derive(Debug)]
pub struct Child {
    /// Its process id, and the id of its own process group.
    pub id: ProcessId,
    /// Tells the outcome of exec.
    pub exec: ExecResult,
}

/// The reading end of a close-on-exec pipe: the end of file means that exec worked, four bytes are its errno.
#[derive(Debug)]
pub struct ExecResult(std::fs::File);

/// What came of an exec.
#[derive(Debug, PartialEq, Eq)]
pub enum ExecOutcome {
    /// Not known yet.
    Pending,
    /// The program runs.
    Running,
    /// It does not; the errno says why.
    Failed(i32),
}

impl ExecResult {
    /// Asks without waiting.
    pub fn poll(&mut self) -> ExecOutcome {
        let mut bytes = [0u8; 4];
        match self.0.read(&mut bytes) {
            Ok(4) => ExecOutcome::Failed(i32::from_ne_bytes(bytes)),
            Ok(_) => ExecOutcome::Running,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                ExecOutcome::Pending
            }
            // A pipe of our own that cannot be read: the child's exit code will tell.
            Err(_) => ExecOutcome::Running,
        }
    }
}

impl AsFd for ExecResult {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A pipe, both ends close-on-exec, the reading end non-blocking.
///
/// # Errors
/// EMFILE, ENFILE.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: the array has room for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let [reader, writer] = ends;
    // SAFETY: the kernel just made both for us alone.
    let (reader, writer) = unsafe { (OwnedFd::from_raw_fd(reader), OwnedFd::from_raw_fd(writer)) };
    // SAFETY: F_SETFL takes a plain number; the open file is nobody else's.
    if unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((reader, writer))
}

/// Forks and runs the program in a process group of its own, with the mask and dispositions that memini was given.
///
/// Returns before exec has happened, so that a slow file system cannot hold up PID 1.
///
/// # Errors
/// EAGAIN or ENOMEM from fork(2), EMFILE or ENFILE from pipe2(2).
pub fn spawn(program: &Program, options: &Options<'_>) -> io::Result<Child> {
    let (reader, writer) = pipe()?;
    let mut environment = Environment::new(options.variable);
    // SAFETY: memini has one thread, so the child is a complete copy; it only calls what follows.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = prepare(options).err().unwrap_or_else(|| {
                mask::restore();
                program.exec(environment.pointers())
            });
            report(&writer, code);
        }
        child => {
            let id = ProcessId::new(child).ok_or_else(|| io::Error::from_raw_os_error(libc::EAGAIN))?;
            // In the parent too: a signal to the group may be due before the child has run at all. EACCES means that
            // the child was faster.
            let _ = process::set_group(id);
            Ok(Child { id, exec: ExecResult(std::fs::File::from(reader)) })
        }
    }
}

/// In the child: everything before exec but the signal mask, which comes last. Returns the errno of what failed.
fn prepare(options: &Options<'_>) -> Result<(), i32> {
    // SAFETY: plain numbers. It fails only where we are a session leader already, which a fresh child is not.
    unsafe { libc::setpgid(0, 0) };
    if let Some(terminal) = options.terminal {
        // SIGTTOU is blocked here, so this is allowed from the background (tcsetpgrp(3)). Without a terminal the app
        // runs all the same.
        // SAFETY: a descriptor and the own process id.
        unsafe { libc::tcsetpgrp(terminal.as_raw_fd(), libc::getpid()) };
    }
    if let Some(disposition) = options.child_disposition {
        disposition.restore();
    }
    for (from, to) in options.descriptors {
        let from = from.as_raw_fd();
        // SAFETY: plain numbers; dup2 onto itself would keep close-on-exec, so that is cleared by hand.
        let result = unsafe { if from == *to { libc::fcntl(from, libc::F_SETFD, 0) } else { libc::dup2(from, *to) } };
        if result < 0 {
            return Err(errno());
        }
    }
    Ok(())
}

/// In the child: tells the parent why it could not become the program, and ends.
fn report(writer: &OwnedFd, code: i32) -> ! {
    let bytes = code.to_ne_bytes();
    let exit = if code == libc::ENOENT { NOT_FOUND } else { NOT_EXECUTABLE };
    // SAFETY: four readable bytes to a pipe of our own; `_exit` runs no destructors of the parent's copy.
    unsafe {
        libc::write(writer.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
        libc::_exit(i32::from(exit))
    }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// The environment for the child. `LISTEN_PID` (sd_listen_fds(3)) names the process that the inherited sockets are
/// for: where it names memini, it shall name the app.
struct Environment {
    /// `None`: memini's own as it is.
    variables: Option<Vec<*const c_char>>,
    /// Where `LISTEN_PID` stands, if the child's is another one.
    listen_pid: Option<usize>,
    text: [u8; LISTEN_PID_LENGTH],
}

impl Environment {
    fn new(variable: Option<&CStr>) -> Self {
        let mut this = Self { variables: None, listen_pid: None, text: [0; LISTEN_PID_LENGTH] };
        let own = process::own_id().get().to_string();
        let listens = std::env::var_os("LISTEN_PID").is_some_and(|value| value.as_bytes() == own.as_bytes());
        if !listens && variable.is_none() {
            return this;
        }
        let mut variables = environment_pointers();
        if listens {
            this.listen_pid = position(&variables, LISTEN_PID);
        }
        if let Some(variable) = variable {
            let name = variable.to_bytes().split_inclusive(|byte| *byte == b'=').next().unwrap_or_default();
            let index = position(&variables, name).unwrap_or_else(|| {
                variables.push(ptr::null());
                variables.len().saturating_sub(2)
            });
            if let Some(place) = variables.get_mut(index) {
                *place = variable.as_ptr();
            }
        }
        this.variables = Some(variables);
        this
    }

    /// In the child: the environment with the child's own id in it.
    fn pointers(&mut self) -> *const *const c_char {
        let Some(variables) = &mut self.variables else {
            // SAFETY: nobody changes the environment: there is one thread, and it does not.
            return unsafe { environ };
        };
        if let Some(place) = self.listen_pid.and_then(|index| variables.get_mut(index)) {
            write_listen_pid(&mut self.text, std::process::id());
            *place = self.text.as_ptr().cast();
        }
        variables.as_ptr()
    }
}

/// Where the variable stands whose name, with `=`, is this.
fn position(variables: &[*const c_char], name: &[u8]) -> Option<usize> {
    variables.iter().position(|variable| {
        // SAFETY: entries of environ before its NULL are valid strings.
        !variable.is_null() && unsafe { CStr::from_ptr(*variable) }.to_bytes().starts_with(name)
    })
}

/// The pointers of the environment, with the closing NULL.
fn environment_pointers() -> Vec<*const c_char> {
    let mut pointers = Vec::new();
    // SAFETY: environ is a NULL-terminated vector that nobody changes meanwhile.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            pointers.push(*entry);
            entry = entry.add(1);
        }
    }
    pointers.push(ptr::null());
    pointers
}

/// `LISTEN_PID=` and the number, without allocating.
fn write_listen_pid(text: &mut [u8; LISTEN_PID_LENGTH], id: u32) {
    use std::io::Write;
    text.fill(0);
    let mut rest = &mut text[..LISTEN_PID_LENGTH - 1];
    // The room is enough for any u32, and a short one would only truncate the text.
    let _ = rest.write_all(LISTEN_PID).and_then(|()| write!(rest, "{id}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_pid_is_written_for_the_largest_id() {
        let mut text = [1; LISTEN_PID_LENGTH];
        write_listen_pid(&mut text, u32::MAX);
        assert_eq!(CStr::from_bytes_until_nul(&text).unwrap(), c"LISTEN_PID=4294967295");
    }

    #[test]
    fn one_variable_of_the_childs_can_be_another_one() {
        let strings = |environment: &mut Environment| {
            let pointers = environment.variables.clone().unwrap();
            assert_eq!(pointers.last(), Some(&ptr::null()));
            let strings = pointers.iter().take(pointers.len() - 1);
            // SAFETY: entries before the NULL are valid strings.
            strings.map(|pointer| unsafe { CStr::from_ptr(*pointer) }.to_owned()).collect::<Vec<_>>()
        };
        let own = environment_pointers().len() - 1;
        let mut new = Environment::new(Some(c"MEMINI_TEST_NONE=1"));
        assert_eq!(
            (strings(&mut new).len(), strings(&mut new).last().cloned()),
            (own + 1, Some(c"MEMINI_TEST_NONE=1".into()))
        );
        let mut other = Environment::new(Some(c"PATH=/x"));
        let paths: Vec<_> =
            strings(&mut other).into_iter().filter(|text| text.to_bytes().starts_with(b"PATH=")).collect();
        assert_eq!((strings(&mut other).len(), paths), (own, vec![c"PATH=/x".to_owned()]));
    }

    #[test]
    fn a_name_is_looked_up_in_every_folder_of_path() {
        let found = candidates(c"app", Some(OsStr::new("/a::/b")));
        assert_eq!(found, [c"/a/app".to_owned(), c"./app".to_owned(), c"/b/app".to_owned()]);
        assert_eq!(candidates(c"./app", Some(OsStr::new("/a"))), [c"./app".to_owned()]);
        assert_eq!(candidates(c"", Some(OsStr::new("/a"))), [c"".to_owned()]);
    }

    #[test]
    fn a_nul_byte_is_refused() {
        assert!(Program::new(&["a\0b".into()]).is_err());
        assert!(Program::new(&[]).is_err());
    }
}
