//! A real terminal: a pseudo-terminal that is the controlling one of a session.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, ExitStatus};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};

use super::transcript::Transcript;
use super::{process, wait_for};

/// Ctrl-C.
pub const INTERRUPT: &str = "\x03";
/// Ctrl-Z.
pub const SUSPEND: &str = "\x1a";

/// A terminal with somebody on it.
pub struct Terminal {
    keyboard: Option<PtyMaster>,
    /// What is shown, keys that were typed included.
    pub screen: Transcript,
    /// Closed to make the reader of the screen let go of the terminal.
    plug: Option<io::PipeWriter>,
    child: Child,
}

impl Terminal {
    /// Runs these words as the leader of a session on a new terminal.
    pub fn start(words: &[String]) -> Self {
        Self::start_command(Command::new("setsid").args(["--ctty"]).args(words))
    }

    /// Runs these words as PID 1 of a PID namespace and leader of a session, as container engines do.
    pub fn start_as_init(words: &[String]) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        if !nix::unistd::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        Self::start_command(command.args(["setsid", "--ctty"]).args(words))
    }

    /// An interactive shell with job control, which has shown its prompt.
    pub fn with_shell() -> Self {
        let shell = ["bash", "--norc", "--noprofile", "--noediting", "-i"].map(str::to_owned);
        let terminal = Self::start(&shell);
        terminal.screen.wait_for("PROMPT>");
        terminal
    }

    fn start_command(command: &mut Command) -> Self {
        let keyboard = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(OFlag::O_NOCTTY.bits())
                .open(ptsname_r(&keyboard).unwrap())
        };
        let slave = open().unwrap();
        let child = command
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave)
            .env("PS1", "PROMPT>")
            .env("TERM", "dumb")
            .env("LC_ALL", "C")
            .spawn()
            .unwrap();
        // The command would keep the slave open.
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let (socket, plug) = io::pipe().unwrap();
        let glass = File::from(keyboard.as_fd().try_clone_to_owned().unwrap());
        let screen = Transcript::of(Screen { glass, socket });
        Self { keyboard: Some(keyboard), screen, plug: Some(plug), child }
    }

    /// Presses these keys.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until a line `key VALUE` is shown. The value.
    pub fn value(&self, key: &str) -> String {
        self.screen.value(key)
    }

    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Pulls the plug: the terminal is gone for everyone on it.
    pub fn hang_up(&mut self) {
        drop(self.plug.take());
        self.screen.whole();
        drop(self.keyboard.take());
    }

    /// Waits for the end of what was started.
    pub fn end(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the end of the session", || child.try_wait().unwrap())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let below = process::descendants(self.child.id());
            let _ = self.child.kill();
            below.into_iter().for_each(process::end);
            let _ = self.child.wait();
        }
    }
}

/// Reads what is shown, until the plug is pulled.
struct Screen {
    glass: File,
    socket: io::PipeReader,
}

impl Read for Screen {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut ready =
            [PollFd::new(self.glass.as_fd(), PollFlags::POLLIN), PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::NONE)?;
        if ready[1].any() == Some(true) { Ok(0) } else { self.glass.read(buffer) }
    }
}
