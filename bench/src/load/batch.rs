//! Many datagrams by one system call.

use std::{
    io, mem,
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsRawFd as _,
    ptr,
};

/// How many at once.
const MANY: usize = 64;
/// Octets in each.
pub const SIZE: usize = 64;

/// Room for datagrams.
pub struct Batch {
    headers: Box<[libc::mmsghdr]>,
    sender: Box<libc::sockaddr_in>,
    _pieces: Box<[libc::iovec]>,
    _buffers: Box<[[u8; SIZE]]>,
}

impl Batch {
    /// Datagrams of zeros.
    pub fn new() -> Self {
        let mut buffers: Box<[_]> = Box::new([[0; SIZE]; MANY]);
        let mut pieces: Box<[_]> = buffers
            .iter_mut()
            .map(|buffer| libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: SIZE,
            })
            .collect();
        let headers = pieces
            .iter_mut()
            .map(|piece| {
                // SAFETY: all zero means no address, no pieces and no control data.
                let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
                header.msg_hdr.msg_iov = ptr::from_mut(piece);
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        // SAFETY: all zero is an address of no family.
        let sender = Box::new(unsafe { mem::zeroed() });
        Self {
            headers,
            sender,
            _pieces: pieces,
            _buffers: buffers,
        }
    }

    /// Sends all of them on a connected socket, and returns how many went.
    pub fn send(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        // SAFETY: each header leads to its piece and that to its buffer, which live as long as this and do not move.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                MANY as u32,
                0,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Waits for some, and returns how many came and who sent the first.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<(usize, Ipv4Addr)> {
        let first = &mut self.headers[0].msg_hdr;
        first.msg_name = ptr::from_mut(&mut *self.sender).cast();
        first.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
        // SAFETY: as above; the first header leads to room for an address as well.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                MANY as u32,
                libc::MSG_WAITFORONE,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok((count, u32::from_be(self.sender.sin_addr.s_addr).into()))
    }
}
