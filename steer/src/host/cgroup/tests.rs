use super::*;
use proptest::prelude::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

const OWN: &str = "net:[1]";
const OTHER: &str = "net:[2]";

/// A made-up `/proc` and a directory that stands for the hierarchy.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(machine.proc("self/ns")).unwrap();
        symlink(OWN, machine.proc("self/ns/net")).unwrap();
        let mounts = format!(
            "proc /proc proc rw 0 0\ncgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\ncgroup2 {} cgroup2 rw 0 0\n",
            machine.cgroup("").display()
        );
        fs::write(machine.proc("self/mounts"), mounts).unwrap();
        machine.with_cgroup("system.slice/ssh.service")
    }

    fn proc(&self, path: &str) -> PathBuf {
        self.0.path().join("proc").join(path)
    }

    fn cgroup(&self, path: &str) -> PathBuf {
        self.0
            .path()
            .join("unified")
            .join(path)
            .components()
            .collect()
    }

    fn with_cgroup(self, path: &str) -> Self {
        fs::create_dir_all(self.cgroup(path)).unwrap();
        self
    }

    fn with_process(self, pid: u32, name: &str, cgroup: &str, netns: &str) -> Self {
        let process = self.proc(&pid.to_string());
        fs::create_dir_all(process.join("ns")).unwrap();
        fs::write(process.join("comm"), format!("{name}\n")).unwrap();
        fs::write(
            process.join("cgroup"),
            format!("4:memory:/x\n0::{cgroup}\n"),
        )
        .unwrap();
        symlink(netns, process.join("ns/net")).unwrap();
        self.with_cgroup(cgroup.trim_start_matches('/'))
    }

    fn resolve(&self, choices: &[&str]) -> Result<(Vec<Cgroup>, Vec<String>), String> {
        let choice = |text: &&str| {
            let choice = if *text == "auto" {
                CgroupChoice::Auto
            } else {
                CgroupChoice::Path(PathBuf::from(text))
            };
            Sourced::new(choice, Origin::Flag("--cgroup"))
        };
        let choices: Vec<_> = choices.iter().map(choice).collect();
        let mut notes = Vec::new();
        let hierarchy = Hierarchy::read_at(&self.proc("")).map_err(|error| error.to_string())?;
        let cgroups = hierarchy
            .resolve(&choices, &mut notes)
            .map_err(|error| error.to_string())?;
        Ok((cgroups, notes))
    }

    /// The paths found, from the hierarchy's root on, where there is nothing to note.
    fn found(&self, choices: &[&str]) -> Vec<String> {
        let (cgroups, notes) = self.resolve(choices).unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        self.relative(&cgroups)
    }

    fn relative(&self, cgroups: &[Cgroup]) -> Vec<String> {
        let relative = |cgroup: &Cgroup| {
            cgroup
                .path
                .strip_prefix(self.cgroup(""))
                .unwrap()
                .display()
                .to_string()
        };
        cgroups.iter().map(relative).collect()
    }

    fn refusal(&self, choice: &str) -> String {
        self.resolve(&[choice])
            .unwrap_err()
            .replace(&self.cgroup("").display().to_string(), "MOUNT")
    }
}

#[test]
fn systemds_units_are_found_by_their_daemons() {
    let machine = Machine::new()
        .with_process(1, "systemd", "/init.scope", OWN)
        .with_process(10, "containerd", "/system.slice/containerd.service", OWN)
        .with_process(20, "dockerd", "/system.slice/docker.service", OWN);
    let (cgroups, notes) = machine.resolve(&["auto"]).unwrap();
    assert_eq!(
        machine.relative(&cgroups),
        [
            "system.slice/containerd.service",
            "system.slice/docker.service"
        ]
    );
    assert_eq!(
        cgroups[1].daemons,
        [Daemon {
            name: "dockerd".to_owned(),
            pid: 20
        }]
    );
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn daemons_are_found_wherever_they_are_and_once() {
    let machine = Machine::new()
        .with_process(10, "dockerd", "/docker-in-a-place/of its own", OWN)
        .with_process(11, "containerd", "/docker-in-a-place/of its own", OWN);
    let (cgroups, _) = machine
        .resolve(&["auto", "docker-in-a-place/of its own"])
        .unwrap();
    assert_eq!(machine.relative(&cgroups), ["docker-in-a-place/of its own"]);
    assert_eq!(cgroups[0].daemons.len(), 2);
}

#[test]
fn daemons_of_another_network_namespace_are_not_ours() {
    let machine = Machine::new()
        .with_process(10, "dockerd", "/a", OTHER)
        .with_process(20, "dockerd", "/b", OWN);
    assert_eq!(machine.found(&["auto"]), ["b"]);
}

#[test]
fn processes_of_a_name_are_found_with_their_cgroups() {
    let machine = Machine::new()
        .with_process(10, "dockerd", "/app.slice/docker", OWN)
        .with_process(11, "steer", "/steer", OWN)
        .with_process(12, "steer", "/steer", OTHER)
        .with_process(13, "nginx", "/app.slice", OWN);
    let hierarchy = Hierarchy::read_at(&machine.proc("")).unwrap();
    let found = hierarchy.named_processes(&["dockerd", "steer"]);
    let found: Vec<_> = found
        .into_iter()
        .map(|(it, cgroup)| (it.pid, cgroup))
        .collect();
    let at = |path| machine.cgroup(path);
    assert_eq!(found, [(10, at("app.slice/docker")), (11, at("steer"))]);
}

#[test]
fn a_unit_whose_daemon_is_not_seen_counts_unless_it_is_anothers() {
    let machine = Machine::new().with_cgroup("system.slice/docker.service");
    assert_eq!(machine.found(&["auto"]), ["system.slice/docker.service"]);

    let machine =
        machine.with_process(10, "containerd-shim", "/system.slice/docker.service", OTHER);
    fs::write(
        machine.cgroup("system.slice/docker.service/cgroup.procs"),
        "10\n",
    )
    .unwrap();
    assert!(machine.resolve(&["auto"]).unwrap().0.is_empty());
}

#[test]
fn a_daemon_in_a_session_takes_its_neighbours_along() {
    let machine = Machine::new()
        .with_process(10, "dockerd", "/session", OWN)
        .with_process(11, "bash", "/session", OWN)
        .with_process(12, "containerd-shim", "/session", OWN);
    fs::write(machine.cgroup("session/cgroup.procs"), "10\n11\n12\n").unwrap();
    let (cgroups, notes) = machine.resolve(&["auto"]).unwrap();
    assert_eq!(machine.relative(&cgroups), ["session"]);
    let note = format!(
        "{} is not Docker's alone: bash there is steered as well",
        machine.cgroup("session").display()
    );
    assert_eq!(notes, [note]);
}

#[test]
fn without_docker_there_is_a_note() {
    let (cgroups, notes) = Machine::new().resolve(&["auto"]).unwrap();
    assert!(cgroups.is_empty());
    assert_eq!(
        notes,
        [
            "no dockerd or containerd runs in this network namespace: image pulls are not steered until steer is started after Docker"
        ]
    );
}

#[test]
fn a_daemon_in_the_root_is_refused_with_the_way_out() {
    let machine = Machine::new().with_process(10, "dockerd", "/", OWN);
    assert_eq!(
        machine.refusal("auto"),
        "--cgroup: dockerd (process 10) is in the root cgroup, where steering it would steer every process of the host; give it a cgroup of its own with mkdir MOUNT/dockerd && echo 10 > MOUNT/dockerd/cgroup.procs, or steer every process with --cgroup MOUNT"
    );
    assert_eq!(
        machine.found(&[&machine.cgroup("").display().to_string()]),
        [""]
    );
}

#[test]
fn looking_again_finds_what_came_and_passes_over_what_went() {
    let machine = Machine::new()
        .with_process(10, "dockerd", "/docker.service", OWN)
        .with_cgroup("app");
    let choice = |choice| Sourced::new(choice, Origin::Flag("--cgroup"));
    let choices = [
        choice(CgroupChoice::Auto),
        choice(CgroupChoice::Path("app".into())),
    ];
    let look = || {
        Hierarchy::read_at(&machine.proc(""))
            .unwrap()
            .present(&choices)
    };
    let before = look();
    assert_eq!(machine.relative(&before), ["docker.service", "app"]);

    fs::rename(machine.cgroup("docker.service"), machine.cgroup("gone")).unwrap();
    fs::remove_dir(machine.cgroup("app")).unwrap();
    assert!(look().is_empty());

    fs::create_dir(machine.cgroup("docker.service")).unwrap();
    let after = look();
    assert_eq!(machine.relative(&after), ["docker.service"]);
    assert_ne!(before[0].id, after[0].id);
}

#[test]
fn a_daemon_out_of_sight_is_noted() {
    let machine = Machine::new().with_process(10, "dockerd", "/a", OWN);
    fs::write(machine.proc("10/cgroup"), "0::/../outside\n").unwrap();
    let (cgroups, notes) = machine.resolve(&["auto"]).unwrap();
    assert!(cgroups.is_empty());
    assert!(
        notes[0]
            .starts_with("dockerd (process 10) is in the cgroup /../outside, which is not below "),
        "{notes:?}"
    );
}

#[test]
fn a_named_cgroup_may_be_relative_or_absolute() {
    let machine = Machine::new();
    let absolute = machine
        .cgroup("system.slice/ssh.service")
        .display()
        .to_string();
    for name in [
        "system.slice/ssh.service",
        "system.slice/ssh.service/",
        absolute.as_str(),
    ] {
        assert_eq!(
            machine.found(&[name]),
            ["system.slice/ssh.service"],
            "{name}"
        );
    }
}

#[test]
fn a_cgroup_below_another_is_left_to_it() {
    let machine = Machine::new().with_cgroup("system.slice-2");
    let choices = ["system.slice/ssh.service", "system.slice", "system.slice-2"];
    assert_eq!(machine.found(&choices), ["system.slice", "system.slice-2"]);
}

#[test]
fn a_cgroup_that_is_not_there_is_told_with_what_is() {
    let machine = Machine::new();
    assert_eq!(
        machine.refusal("system.slice/shs.service"),
        "--cgroup: there is no cgroup system.slice/shs.service below MOUNT; did you mean system.slice/ssh.service?"
    );
    assert_eq!(
        machine.refusal("system.slice/docker.service"),
        "--cgroup: there is no cgroup system.slice/docker.service below MOUNT; MOUNT/system.slice has ssh.service"
    );
    assert_eq!(
        machine.refusal("ssh.service"),
        "--cgroup: there is no cgroup ssh.service below MOUNT; did you mean MOUNT/system.slice/ssh.service?"
    );
    assert_eq!(
        machine.refusal("a/b/c"),
        "--cgroup: there is no cgroup a/b/c below MOUNT; MOUNT has system.slice"
    );
    let absolute = machine
        .cgroup("system.slice/ssh.service/x")
        .display()
        .to_string();
    assert_eq!(
        machine.refusal(&absolute),
        "--cgroup: there is no cgroup MOUNT/system.slice/ssh.service/x; MOUNT/system.slice/ssh.service has none below it"
    );
    assert_eq!(
        machine.refusal("/system.slice/ssh.service"),
        "--cgroup: /system.slice/ssh.service is not in the cgroup2 hierarchy at MOUNT; did you mean MOUNT/system.slice/ssh.service?"
    );
    assert_eq!(
        machine.refusal("/sys/fs/cgroup/memory/x"),
        "--cgroup: /sys/fs/cgroup/memory/x is not in the cgroup2 hierarchy at MOUNT; give a path below it, or one relative to it"
    );
}

#[test]
fn mounts_are_read_as_the_kernel_writes_them() {
    let text = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n\
                cgroup /sys/fs/cgroup/memory cgroup rw 0 0\n\
                none /mnt/with\\040space\\134 cgroup2 rw 0 0\n\
                cgroup2 /sys/fs/cgroup cgroup2 ro 0 0\n";
    assert_eq!(
        cgroup2_mounts(text),
        [
            PathBuf::from("/sys/fs/cgroup"),
            PathBuf::from("/mnt/with space\\")
        ]
    );
}

#[test]
fn a_machine_without_cgroup2_says_how_to_get_it() {
    let machine = Machine::new();
    fs::write(
        machine.proc("self/mounts"),
        "cgroup /sys/fs/cgroup/memory cgroup rw 0 0\n",
    )
    .unwrap();
    assert_eq!(
        machine.resolve(&["auto"]).unwrap_err(),
        "no cgroup2 is mounted; mount it with mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified"
    );
}

proptest! {
    #[test]
    fn any_mount_point_survives_the_kernels_escapes(path in "/[ -~\t\n]{0,30}") {
        let escape = |byte| match byte {
            b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}"),
            _ => char::from(byte).to_string(),
        };
        let escaped: String = path.bytes().map(escape).collect();
        let text = format!("cgroup2 {escaped} cgroup2 rw 0 0\n");
        prop_assert_eq!(cgroup2_mounts(&text), [PathBuf::from(path)]);
    }
}
