//! The network namespace of this process, told by a program: for kernels that tell it no process (before 5.14).

use std::{fs::File, net::UdpSocket, path::Path};

use super::{
    Datapath,
    attach::process,
    error::{Error, hint},
    in_map, load_program, pins,
};
use crate::host::netns::{NetnsCookie, socket_cookie};

const PROGRAM: &str = "netns";
const MAP: &str = "NETNS";

impl Datapath {
    /// Has a socket of this process connect, to nobody and without a packet, with a program on `cgroup` that looks in
    /// which network namespace it is. None if the program was not asked: then programs on cgroups do not see the sockets
    /// of their processes.
    ///
    /// # Errors
    /// When the program cannot be loaded or attached, or there is no socket.
    pub fn netns(&mut self, cgroup: &Path) -> Result<Option<NetnsCookie>, Error> {
        let program = self.ebpf.program_mut(PROGRAM);
        let program = program.ok_or(Error::Missing { name: PROGRAM })?;
        load_program(program).map_err(|source| Error::Program {
            program: PROGRAM,
            hint: hint(&source),
            source: Box::new(source),
        })?;
        let folder = File::open(cgroup).map_err(|source| pins::file(cgroup, "opened", source))?;
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(Error::Socket)?;
        let cookie = socket_cookie(&socket).map_err(Error::Socket)?;
        let mut map = self.hash_mut::<u64, u64>(MAP)?;
        map.insert(cookie, 0, 0).map_err(in_map(MAP))?;
        let link = process(&mut self.ebpf, PROGRAM, &folder)
            .map_err(|refused| refused.on_cgroup(PROGRAM, cgroup))?;
        let connected = socket.connect("127.0.0.1:9");
        drop(link);
        connected.map_err(Error::Socket)?;
        let map = self.hash_mut::<u64, u64>(MAP)?;
        let netns = map.get(&cookie, 0).map_err(in_map(MAP))?;
        Ok((netns != 0).then_some(NetnsCookie(netns)))
    }
}
