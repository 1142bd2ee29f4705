//! Unix stream sockets that never wait, neither for a full queue of the listener nor for an answer.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Connects without waiting; the stream is non-blocking.
///
/// # Errors
/// ECONNREFUSED where nobody listens, EAGAIN where the listener's queue is full, and what else connect(2) may say;
/// ENAMETOOLONG for a path of more than 107 bytes.
pub fn connect_now(path: &Path) -> io::Result<UnixStream> {
    // SAFETY: an all-zero address is valid.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (place, byte) in address.sun_path.iter_mut().zip(bytes) {
        *place = *byte as libc::c_char;
    }
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain numbers; the descriptor that comes back is ours alone. The address lives through the call.
    unsafe {
        let number = libc::socket(libc::AF_UNIX, kind, 0);
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(number);
        let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        if libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(UnixStream::from(socket))
    }
}

/// Sends a few bytes without waiting, and without SIGPIPE where nobody reads them any more.
///
/// # Errors
/// EAGAIN if there is no room for them, also for a part; EPIPE.
pub fn send_now(stream: &UnixStream, bytes: &[u8]) -> io::Result<()> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: readable bytes of this length.
    let sent = unsafe { libc::send(stream.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    match usize::try_from(sent) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::WouldBlock.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// The process at the other end, as it was when it began to listen: 0 if it is outside this PID namespace. And its
/// effective user.
///
/// # Errors
/// None are known for a connected Unix socket.
pub fn peer(stream: &UnixStream) -> io::Result<(i32, u32)> {
    let descriptor: BorrowedFd<'_> = stream.as_fd();
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `peer`.
    let result = unsafe {
        libc::getsockopt(
            descriptor.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok((peer.pid, peer.uid)) } else { Err(io::Error::last_os_error()) }
}

/// Room for one descriptor beside a message, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Beside([u8; 64]);

/// Sends a descriptor, of which the receiver gets a copy, and a number.
///
/// # Errors
/// EAGAIN if there is no room for it; EPIPE.
pub fn send_descriptor(stream: &UnixStream, descriptor: BorrowedFd<'_>, number: u8) -> io::Result<()> {
    let mut byte = number;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut beside = Beside([0; 64]);
    // SAFETY: `beside` is larger than CMSG_SPACE of one descriptor on every platform, and aligned; everything that the message
    // points to lives through the call.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut beside).cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<libc::c_int>() as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<libc::c_int>() as u32) as _;
        libc::CMSG_DATA(header).cast::<libc::c_int>().write_unaligned(descriptor.as_raw_fd());
        libc::sendmsg(stream.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
    };
    if sent == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes a descriptor that was sent, and the number, without waiting; it is close-on-exec.
///
/// # Errors
/// EAGAIN if there is none; UnexpectedEof where the sender has gone without having sent one.
pub fn receive_descriptor(stream: &UnixStream) -> io::Result<(OwnedFd, u8)> {
    let mut byte = 0_u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut beside = Beside([0; 64]);
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: as above, with room for one descriptor alone: the kernel closes what does not fit. The first header, if there is
    // one, lies in `beside`, and the descriptor after it is ours alone.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut beside).cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<libc::c_int>() as u32) as _;
        if libc::recvmsg(stream.as_raw_fd(), &raw mut message, flags) < 0 {
            return Err(io::Error::last_os_error());
        }
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let is_one = !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS
            && (*header).cmsg_len as usize >= libc::CMSG_LEN(size_of::<libc::c_int>() as u32) as usize;
        if !is_one {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let descriptor = OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned());
        Ok((descriptor, byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_listener_tells_who_it_is_and_a_left_over_socket_refuses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let stream = connect_now(&path).unwrap();
        let (pid, _) = peer(&stream).unwrap();
        assert_eq!(pid, std::process::id().cast_signed());
        drop(listener);
        assert_eq!(send_now(&stream, b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(connect_now(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_descriptor_goes_from_one_process_to_another() {
        let (one, other) = UnixStream::pair().unwrap();
        assert_eq!(receive_descriptor(&other).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let file = tempfile::tempfile().unwrap();
        send_descriptor(&one, file.as_fd(), 7).unwrap();
        let (copy, number) = receive_descriptor(&other).unwrap();
        assert_eq!(number, 7);
        let copy = std::fs::File::from(copy);
        copy.set_len(7).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 7);
        drop(one);
        assert_eq!(receive_descriptor(&other).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_full_queue_is_an_error_and_no_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        let mut streams = Vec::new();
        let error = loop {
            match connect_now(&path) {
                Ok(stream) => streams.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_path_that_is_too_long_is_refused() {
        let error = connect_now(Path::new(&"x".repeat(108))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
    }
}
