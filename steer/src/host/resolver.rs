//! Where Docker's own resolver listens: inside each container on a network of the user's, at 127.0.0.11.

use std::{fs, net::Ipv4Addr};

use steer_common::{
    packet::{TCP, UDP},
    types::{EMBEDDED, EmbeddedKey},
};

/// Where it listens in the network namespace of a process. Nowhere if that has ended, or its container is on the default
/// bridge.
pub fn listeners(pid: u32) -> Vec<EmbeddedKey> {
    let files = [(TCP, "tcp"), (UDP, "udp")].into_iter();
    let listed = files.flat_map(|(protocol, file)| {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
        let ports: Vec<_> = ports(&text).collect();
        ports
            .into_iter()
            .map(move |port| EmbeddedKey { protocol, port })
    });
    listed.collect()
}

/// The ports of the resolver's address in a list of sockets (proc_net_tcp in the kernel's documentation), each once.
fn ports(text: &str) -> impl Iterator<Item = u32> {
    let address = match EMBEDDED.to_ip() {
        std::net::IpAddr::V4(v4) => v4,
        std::net::IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    };
    // As one number of the machine's own order, in hexadecimal.
    let address = format!("{:08X}", u32::from_ne_bytes(address.octets()));
    text.lines().skip(1).filter_map(move |line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote) = (fields.next()?, fields.next()?);
        let (at, port) = local.split_once(':')?;
        let listens = remote == "00000000:0000";
        let port = u32::from_str_radix(port, 16).ok()?;
        (at == address && listens).then_some(port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_ports_are_read_from_the_kernels_list() {
        // As Linux 6.18 prints it in a container of Docker 20.10.
        const TEXT: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  385: 0B00007F:9C41 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 81724 2 0000000000000000 0
  400: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 81725 2 0000000000000000 0
  401: 0B00007F:9C41 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        0 81726 2 0000000000000000 0
";
        assert_eq!(ports(TEXT).collect::<Vec<_>>(), [0x9c41]);
        assert_eq!(ports("").count(), 0);
    }
}
