//! Nothing for the VPN leaves by another way, and nothing direct fails, while dockerd pulls and restarts, networks and their
//! containers come and go, the VPN flaps and steer is killed.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Stdio},
};

use anyhow::{Result, ensure};
use fastrand::Rng;
use steer_tests::{
    fixture::{BRIDGE, Fixture},
    lab::{DockerVersion, IMAGE, Lab, plan::Path},
    leaks::{Trouble, seek},
};

/// The file that tells the loops to stop.
const STOP: &str = "stop";
/// The file that whoever holds networks or dockerd has locked.
const LOCK: &str = "lock";

/// Networks that come, each with a container that asks at once, and go. dockerd restarts between two of them: one that finds
/// a container on a network half removed panics (20.10).
const NETWORKS: &str = "
    until [ -e $STOP ]; do (
        flock 9
        docker network create passing
        docker run --rm --pull never --network passing passing sh -c '
            curl -sSm20 -o /dev/null https://v4.direct.example/ && echo direct: ok || echo direct: none
            curl -sm3 -o /dev/null https://v4.blocked.example/ && echo vpn: ok || echo vpn: none'
        docker network rm passing
    ) 9>$LOCK; done";

const PULLS: &str = "
    until [ -e $STOP ]; do
        docker rmi -f $IMAGE
        timeout 10 docker pull $IMAGE && echo pull: ok || echo pull: none
    done";

/// A script that goes on until it is told to stop.
struct Loop {
    child: Child,
    log: PathBuf,
}

impl Loop {
    fn start(lab: &Lab, name: &str, script: &str) -> Result<Self> {
        let log = lab.dir().join(format!("{name}.log"));
        let file = File::create(&log)?;
        let child = lab
            .docker_shell(script)?
            .env("STOP", lab.dir().join(STOP))
            .env("LOCK", lab.dir().join(LOCK))
            .env("IMAGE", IMAGE)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Self { child, log })
    }

    /// Waits for its end, and returns what it said.
    fn end(mut self) -> Result<String> {
        self.child.wait()?;
        Ok(fs::read_to_string(&self.log)?)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// dockerd pulls, restarts, and has networks with containers.
#[derive(Default)]
struct Docker {
    loops: Vec<Loop>,
    restarts: usize,
}

impl Trouble for Docker {
    fn begin(&mut self, lab: &Fixture) -> Result<()> {
        self.loops
            .push(Loop::start(&lab.lab, "networks", NETWORKS)?);
        self.loops.push(Loop::start(&lab.lab, "pulls", PULLS)?);
        Ok(())
    }

    fn make(&mut self, lab: &mut Fixture, rng: &mut Rng) -> Result<()> {
        // At the first round, then once in a while.
        if self.restarts == 0 || rng.u8(0..30) == 0 {
            let lock = File::create(lab.lab.dir().join(LOCK))?;
            lock.lock()?;
            lab.lab.restart_docker()?;
            self.restarts += 1;
        }
        Ok(())
    }

    fn end(&mut self, lab: &Fixture) -> Result<()> {
        File::create(lab.lab.dir().join(STOP))?;
        let mut said = String::new();
        for it in self.loops.drain(..) {
            said += &it.end()?;
        }
        let count = |line: &str| said.lines().filter(|it| *it == line).count();
        let of = |what: &str| {
            [true, false].map(|ok| count(&format!("{what}: {}", if ok { "ok" } else { "none" })))
        };
        let (direct, vpn, pulls) = (of("direct"), of("vpn"), of("pull"));
        println!(
            "{} restarts; containers: direct {direct:?}, by the VPN {vpn:?}; pulls {pulls:?}",
            self.restarts
        );
        ensure!(direct[0] > 0 && vpn[0] > 0 && pulls[0] > 0, "{said}");
        ensure!(
            direct[1] == 0,
            "a container could not reach a direct name: {said}"
        );
        Ok(())
    }
}

#[test]
fn nothing_leaks_and_nothing_fails_whatever_becomes_of_docker_the_vpn_and_steer() -> Result<()> {
    let mut lab = Fixture::up_in(Lab::builder().docker(DockerVersion::Installed).up()?)?;
    lab.lab.load_image()?;
    lab.lab.docker(&["tag", IMAGE, "passing"])?.stdout()?;
    // Docker drops what is forwarded over IPv6 and not for its networks.
    for way in ["-i", "-o"] {
        lab.in_box(&format!("ip6tables -I FORWARD {way} {BRIDGE} -j ACCEPT"))?;
    }
    lab.lab.restart_docker()?;
    let config = lab
        .config()
        .replace("docker = \"off\"\n", "")
        .replace("cgroups = [", "cgroups = [\"auto\", ")
        .replace("bridges = [", "bridges = [\"auto\", ")
        .replace("presets = []", "presets = [\"docker-hub\"]")
        .replace("vpn = [", "vpn = [\".blocked.example\", ");
    seek::<Docker>(&mut lab, 2, &config)?;
    for seen in lab.lab.seen()? {
        let direct = seen.layer || seen.host.ends_with(".direct.example");
        let right = if direct { Path::Direct } else { Path::Vpn };
        assert_eq!(seen.path, right, "{seen:?}");
    }
    Ok(())
}
