//! A Docker host, an Internet with a geo-block and a VPN, in network namespaces.
//!
//! ```text
//! box --- isp --- internet    box: the Docker host, dockerd in a cgroup of its own
//!          |          |       isp: masquerades, resets TCP to the blocked ranges
//!          +-- vpn ---+       vpn: the far end of the tunnel, masquerades
//! ```

mod acts;

pub use acts::{Act, Demo, DemoOptions, Row, demo, down, fetch_sid_docker};

/// Which Docker runs in the box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DockerVersion {
    /// The `docker.io` that is installed on this machine.
    #[default]
    Installed,
    /// Debian sid's `docker.io`, fetched by [`fetch_sid_docker`] and unpacked beside the system.
    Sid,
}

/// Which tunnel joins the box and the VPN's far end. Both carry IPv4 and IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tunnel {
    /// OpenVPN with certificates of the lab's own CA; `tun0` in the box.
    #[default]
    OpenVpn,
    /// wireguard-go; `wg0` in the box.
    WireGuardGo,
}
