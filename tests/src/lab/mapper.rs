//! A VPN's gateway that assigns ports to its clients: miniupnpd at the tunnel's far end, which really translates them.

use std::{fs, time::Duration};

use anyhow::Result;

use super::{Lab, Ns, exec::Daemon, topology::nft};
use crate::pace::patience;

/// Where it puts its rules.
const TABLE: &str = "
    table inet mapped
    delete table inet mapped
    table inet mapped {
        chain forward {
            type filter hook forward priority 0
            jump forwarded
        }
        chain forwarded {
        }
        chain prerouting {
            type nat hook prerouting priority dstnat
            jump prerouted
        }
        chain prerouted {
        }
        chain postrouting {
            type nat hook postrouting priority srcnat
            jump postrouted
        }
        chain postrouted {
        }
    }";

/// It runs until it is dropped.
pub struct Mapper {
    _daemon: Daemon,
}

impl Lab {
    /// Has the tunnel's far end assign ports by NAT-PMP, but not 61000, which steer asks to be sent to first; what was assigned before is forgotten.
    pub fn mapper(&self) -> Result<Mapper> {
        let folder = self.dir();
        let [config, pid] = ["mapper.conf", "mapper.pid"].map(|name| folder.join(name));
        // It takes an address of the lab's for one that nobody can reach, so it is told another. The tunnel's own has no network.
        fs::write(
            &config,
            "ext_ifname=net\next_ip=1.2.3.4\nlistening_ip=10.8.0.1/24\nenable_natpmp=yes\nenable_upnp=no\n\
                 upnp_table_name=mapped\nupnp_nat_table_name=mapped\nupnp_forward_chain=forwarded\n\
                 upnp_nat_chain=prerouted\nupnp_nat_postrouting_chain=postrouted\nsecure_mode=yes\n\
                 deny 61000 0.0.0.0/0 0-65535\nallow 1024-65535 10.8.0.0/24 1024-65535\n",
        )?;
        nft(self.command(Ns::Vpn, "nft")?, TABLE)?;
        let mut command = self.command(Ns::Vpn, "miniupnpd")?;
        command.args(["-d", "-f"]).arg(&config).arg("-P").arg(&pid);
        let mut daemon = Daemon::start("miniupnpd", command, folder)?;
        daemon.wait_said(
            patience(Duration::from_secs(10)),
            "Listening for NAT-PMP/PCP traffic",
        )?;
        Ok(Mapper { _daemon: daemon })
    }

    /// What the far end translates for its clients now.
    pub fn mapped(&self) -> Result<String> {
        self.shell(Ns::Vpn, "nft list chain inet mapped prerouted")
    }
}
