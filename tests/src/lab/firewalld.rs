//! firewalld of Debian sid, in a root and with a D-Bus of its own.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::Result;

use super::{
    Lab, Ns,
    exec::{Daemon, Ran},
    sid::{fetch_sid_firewalld, sid_cache},
};
use crate::pace::patience;

/// Whoever is on the bus may do anything.
const BUS: &str = r#"<busconfig>
  <type>system</type>
  <listen>unix:path=/run/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
</busconfig>
"#;

const BUS_ADDRESS: (&str, &str) = ("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/run/bus");

const WAIT: Duration = Duration::from_secs(20);

/// A firewalld in the box. Dropping it ends it, and leaves its rules.
pub struct Firewalld {
    daemon: Daemon,
    bus: Daemon,
}

impl Lab {
    /// Starts firewalld in the box, with its rules as it ships them, and with one interface in the zone `trusted`, as Docker
    /// has its bridges in one of its own.
    pub fn firewalld(&self, trusted: &str) -> Result<Firewalld> {
        let root = fetch_sid_firewalld(&sid_cache(), &mut |_| {})?;
        let run = self.dir.join("firewalld");
        let zones = run.join("etc/zones");
        fs::create_dir_all(&zones)?;
        fs::write(
            zones.join("trusted.xml"),
            format!("<zone target=\"ACCEPT\"><interface name=\"{trusted}\"/></zone>\n"),
        )?;
        fs::write(run.join("bus.conf"), BUS)?;

        let limit = patience(WAIT);
        let bus = self.in_root(
            &root,
            &run,
            "dbus-daemon --config-file=/run/bus.conf --nofork",
        )?;
        let mut bus = Daemon::start("firewalld-bus", bus, &self.dir)?;
        bus.wait(limit, || run.join("bus").exists())?;
        let daemon = self.in_root(
            &root,
            &run,
            "firewalld --nofork --nopid --system-config /run/etc",
        )?;
        let daemon = Daemon::start("firewalld", daemon, &self.dir)?;
        let mut firewalld = Firewalld { daemon, bus };
        let Firewalld { daemon, .. } = &mut firewalld;
        let pid = daemon.pid();
        daemon.wait(limit, || {
            self.firewall_cmd(pid, "--state").is_ok_and(|it| it.ok())
        })?;
        Ok(firewalld)
    }

    /// A command line in a root that was unpacked, with `run` as its `/run`.
    fn in_root(&self, root: &Path, run: &Path, line: &str) -> Result<Command> {
        let mut command = self.command(Ns::Box, "sh")?;
        // The mounts are those of the command's own namespace.
        let enter = format!(
            "cd {root}
            for folder in bin sbin lib lib64; do ln -sfn usr/$folder $folder; done
            mkdir -p proc sys dev run tmp
            echo root:x:0:0::/: >etc/passwd
            for folder in proc sys dev; do mount --rbind /$folder $folder; done
            mount --bind {run} run
            exec chroot . {line}",
            root = root.display(),
            run = run.display(),
        );
        command
            .args(["-ec", &enter])
            .env(BUS_ADDRESS.0, BUS_ADDRESS.1);
        Ok(command)
    }

    /// Has the firewalld of this PID do something.
    fn firewall_cmd(&self, pid: u32, argument: &str) -> Result<Ran> {
        let mut command = self.command(Ns::Box, "nsenter")?;
        command
            .args(["--mount", "--root", "--target", &pid.to_string()])
            .args(["firewall-cmd", argument])
            .env(BUS_ADDRESS.0, BUS_ADDRESS.1);
        Ran::of(&mut command)
    }
}

impl Firewalld {
    /// What `firewall-cmd` says to an argument such as `--reload`.
    pub fn command(&self, lab: &Lab, argument: &str) -> Result<String> {
        lab.firewall_cmd(self.daemon.pid(), argument)?.stdout()
    }

    /// Asks it to end, and to take its rules with it.
    pub fn end(self) -> Result<()> {
        self.daemon.terminate(patience(WAIT))?;
        self.bus.terminate(patience(WAIT))
    }
}
