//! dockerd in the box: in a cgroup of its own, with folders and a socket of its own.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{
    Lab, Ns,
    exec::{Daemon, Ran, until, within},
};
use crate::pace::patience;

/// Which Docker runs in the box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DockerVersion {
    /// The `docker.io` that is installed on this machine.
    #[default]
    Installed,
    /// Debian sid's `docker.io`, unpacked beside the system by
    /// [`fetch_sid_docker`](super::fetch_sid_docker).
    Sid,
}

impl DockerVersion {
    /// `PATH` with this version's binaries first.
    fn path(self) -> OsString {
        let mut path = OsString::new();
        if self == Self::Sid {
            let root = super::sid::docker_root(&super::sid_cache());
            for dir in ["usr/bin", "usr/sbin"] {
                path.push(root.join(dir));
                path.push(":");
            }
        }
        let own = std::env::var_os("PATH");
        path.push(own.unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()));
        path
    }
}

/// A Docker network that containers can be put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// docker0: no embedded DNS.
    DefaultBridge,
    /// A bridge of its own, IPv4 and IPv6, with embedded DNS.
    UserDefined,
}

impl Network {
    /// Its name for `docker run --network`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DefaultBridge => "bridge",
            Self::UserDefined => "lab",
        }
    }
}

/// The box's `/run`, in the lab's folder.
const RUN: &str = "run-of-box";

pub(super) struct Docker {
    version: DockerVersion,
    daemon: Daemon,
}

impl Docker {
    pub fn start(lab: &Lab, version: DockerVersion) -> Result<Self> {
        let cgroup = lab.box_cgroup("dockerd")?;
        let config = lab.daemon_json();
        // One that was changed meanwhile is read again.
        if !config.exists() {
            fs::write(&config, "{}")?;
        }
        fs::create_dir_all(lab.dir.join("etc-docker"))?;
        let mut place = lab.place(Ns::Box, &cgroup);
        // dockerd and containerd write there whatever they are told.
        fill_private_run(&lab.dir)?;
        place.over.insert(0, lab.private_run());
        place.over.push((lab.dir.join("etc-docker"), "/etc/docker"));
        let path = version.path();
        // Command looks for a bare name on this process's own PATH.
        let mut command = place.command("/usr/bin/env")?;
        command.arg("dockerd").env("PATH", path);
        command.envs(lab.docker_environment.iter().cloned());
        for (option, name) in [
            ("--data-root", "docker"),
            ("--exec-root", "docker-exec"),
            ("--pidfile", "docker.pid"),
        ] {
            command.arg(option).arg(lab.dir.join(name));
        }
        command.arg("--config-file").arg(&config);
        command
            .arg("-H")
            .arg(host(&lab.dir))
            .args(["-H", "unix:///run/docker.sock"]);
        command.args([
            "--storage-driver",
            "overlay2",
            "--exec-opt",
            "native.cgroupdriver=cgroupfs",
        ]);
        command.args([
            "--experimental",
            "--ipv6",
            "--ip6tables",
            "--fixed-cidr-v6",
            "fd00:d0::/64",
        ]);
        command
            .arg("--cgroup-parent")
            .arg(format!("/{}/docker", lab.name));
        let daemon = Daemon::start("dockerd", command, &lab.dir)?;
        let mut docker = Self { version, daemon };

        let info = || -> Result<Ran> { Ran::of(docker_command(lab, docker.version)?.arg("info")) };
        docker.daemon.wait(patience(Duration::from_secs(60)), || {
            info().is_ok_and(|ran| ran.ok())
        })?;
        let name = Network::UserDefined.name();
        if Ran::of(docker_command(lab, docker.version)?.args(["network", "inspect", name]))?.ok() {
            return Ok(docker);
        }
        let make = [
            "network",
            "create",
            "--ipv6",
            "--subnet",
            "fd00:d1::/64",
            name,
        ];
        Ran::of(docker_command(lab, docker.version)?.args(make))?.stdout()?;
        Ok(docker)
    }

    pub fn command(&self, lab: &Lab) -> Result<Command> {
        docker_command(lab, self.version)
    }
}

impl Lab {
    /// Ends dockerd, removes its cgroup, and starts it in another of that name.
    pub fn restart_docker(&mut self) -> Result<()> {
        let version = self.stop_docker()?;
        self.start_docker(version)
    }

    /// The same, with more in its environment from then on, such as a proxy; nothing of what an earlier call set.
    pub fn restart_docker_with(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        let pairs = environment.iter();
        self.docker_environment = pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self.restart_docker()
    }

    /// Starts dockerd.
    pub fn start_docker(&mut self, version: DockerVersion) -> Result<()> {
        self.docker = Some(Docker::start(self, version)?);
        Ok(())
    }

    /// Ends dockerd and its containers, and removes its cgroup. Returns which it was.
    pub fn stop_docker(&mut self) -> Result<DockerVersion> {
        let Docker { version, daemon } = self.docker.take().context("this lab has no Docker")?;
        daemon.terminate(patience(Duration::from_secs(30)))?;
        let cgroup = self.dockerd_cgroup();
        let gone = until(patience(Duration::from_secs(10)), || {
            fs::remove_dir(&cgroup).is_ok()
        });
        ensure!(gone, "{} does not go", cgroup.display());
        Ok(version)
    }

    /// Runs `docker` with `args` against the box's dockerd.
    pub fn docker(&self, args: &[&str]) -> Result<Ran> {
        let docker = self.running_docker()?;
        Ran::of(docker.command(self)?.args(args))
    }

    fn running_docker(&self) -> Result<&Docker> {
        let docker = self.docker.as_ref();
        docker.context("this lab has no Docker: build it with one")
    }

    /// A command that will run `script` in the box, with this lab's `docker` on its `PATH`.
    pub fn docker_shell(&self, script: &str) -> Result<Command> {
        let docker = self.running_docker()?;
        let mut command = self.command(Ns::Box, "/bin/sh")?;
        command.args(["-c", script]);
        with_docker(&mut command, self, docker.version);
        Ok(command)
    }

    /// Runs Docker Compose in a folder, whose project is called `project`.
    pub fn compose(&self, folder: &Path, project: &str, args: &[&str]) -> Result<Ran> {
        let version = self.running_docker()?.version;
        let program = super::sid::fetch_sid_compose(&super::sid_cache())?;
        let mut command = self.command(Ns::Box, program)?;
        with_docker(&mut command, self, version);
        command.current_dir(folder).args(["-p", project]);
        Ran::of(command.args(args))
    }

    /// Has `docker` in a command be the one of this lab, and ask its daemon. Returns the `PATH` that it is on.
    pub(super) fn with_docker(&self, command: &mut Command) -> Result<String> {
        let version = self.running_docker()?.version;
        with_docker(command, self, version);
        Ok(version.path().to_string_lossy().into_owned())
    }

    /// Pulls an image, after removing what an earlier pull brought.
    pub fn pull(&self, image: &str) -> Result<Ran> {
        self.remove_images()?;
        self.docker(&["pull", image])
    }

    /// Removes all that pulls have brought.
    pub fn remove_images(&self) -> Result<()> {
        let stale = self.docker(&["images", "-q"])?.stdout()?;
        for id in stale.split_whitespace() {
            self.docker(&["rmi", "-f", id])?.stdout()?;
        }
        Ok(())
    }

    /// Runs `command` in a new container on `network`, and removes it. The image must have been
    /// pulled, or [loaded](Lab::load_image).
    pub fn container(&self, network: Network, command: &[&str]) -> Result<Ran> {
        self.container_with(&["--network", network.name()], command)
    }

    /// As [`container`](Lab::container), with `options` of `docker run` instead of a network.
    pub fn container_with(&self, options: &[&str], command: &[&str]) -> Result<Ran> {
        let run = ["run", "--rm", "--pull", "never"];
        self.docker(&[&run, options, &[super::IMAGE], command].concat())
    }

    /// Starts a container that does nothing, of [`IMAGE`](super::IMAGE), on a network.
    pub fn idle_container(&self, name: &str, network: &str) -> Result<()> {
        let how = [
            "run",
            "-d",
            "--pull",
            "never",
            "--name",
            name,
            "--network",
            network,
        ];
        self.docker(&[&how[..], &[super::IMAGE, "sleep", "600"]].concat())?
            .stdout()
            .map(drop)
    }

    /// Does something in a thread of the network namespace of a container that runs.
    pub fn within_container<T: Send>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T> {
        let pid = ["inspect", "-f", "{{.State.Pid}}", name];
        let pid = self.docker(&pid)?.stdout()?;
        within(&PathBuf::from(format!("/proc/{}/ns/net", pid.trim())), work)
    }

    /// Gives the box [`IMAGE`](super::IMAGE) without a pull.
    pub fn load_image(&self) -> Result<()> {
        let tar = self.dir.join(super::image::TOOLS);
        let tar = tar.to_str().context("the lab's folder is not UTF-8")?;
        let environment = "ENV CURL_CA_BUNDLE=/etc/ca.pem";
        self.docker(&["import", "--change", environment, tar, super::IMAGE])?
            .stdout()
            .map(drop)
    }

    /// The box's `/run`, to be laid over the machine's for those who look for Docker's socket there.
    pub(super) fn private_run(&self) -> (PathBuf, &'static str) {
        (self.dir.join(RUN), "/run")
    }

    /// dockerd's configuration file.
    pub fn daemon_json(&self) -> PathBuf {
        self.dir.join("daemon.json")
    }

    /// The cgroup that dockerd and its containerd run in.
    pub fn dockerd_cgroup(&self) -> PathBuf {
        self.cgroup.join("dockerd")
    }

    /// dockerd's version, as it says itself.
    pub fn docker_version(&self) -> Result<String> {
        let said = self
            .docker(&["version", "--format", "{{.Server.Version}}"])?
            .stdout()?;
        ensure!(!said.trim().is_empty(), "dockerd does not tell its version");
        Ok(said.trim().to_owned())
    }
}

/// Makes the box's `/run`, with the file that `/etc/resolv.conf` may lead to.
fn fill_private_run(dir: &Path) -> Result<()> {
    let run = dir.join(RUN);
    fs::create_dir_all(&run)?;
    if let Ok(target) = fs::canonicalize("/etc/resolv.conf")
        && let Ok(inside) = target.strip_prefix("/run")
    {
        let file = run.join(inside);
        fs::create_dir_all(file.parent().unwrap_or(&run))?;
        fs::copy(dir.join("resolv.conf"), file)?;
    }
    Ok(())
}

fn docker_command(lab: &Lab, version: DockerVersion) -> Result<Command> {
    let mut command = lab.command(Ns::Box, "/usr/bin/env")?;
    command.arg("docker");
    with_docker(&mut command, lab, version);
    Ok(command)
}

/// Has `docker` be the one of that version, and ask the lab's daemon.
fn with_docker(command: &mut Command, lab: &Lab, version: DockerVersion) {
    command
        .env("PATH", version.path())
        .env("DOCKER_CONFIG", lab.dir.join("docker-config"))
        .env("DOCKER_HOST", host(&lab.dir));
}

fn host(dir: &Path) -> String {
    format!("unix://{}", socket(dir).display())
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("docker.sock")
}
