//! `cargo xtask lab`: builds everything and shows the lab's three acts.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use steer_tests::lab::{self, DemoOptions, DockerVersion, Tunnel};

use crate::{build_ebpf, setup, system, test};

/// What the lab is made of.
#[derive(Args)]
pub struct Arguments {
    /// Leave the lab up afterwards, and say how to enter it.
    #[arg(long)]
    keep: bool,
    /// The VPN of the lab.
    #[arg(long, value_enum, default_value_t = TunnelName::Openvpn)]
    tunnel: TunnelName,
    /// The Docker that pulls: the one installed here, or Debian sid's, unpacked beside the system.
    #[arg(long, value_enum, default_value_t = DockerName::Installed)]
    docker: DockerName,
    /// The binary that was built already; set when the command calls itself as root.
    #[arg(long, hide = true)]
    built: Option<PathBuf>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Remove every lab that was kept or that a killed run left.
    Down,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TunnelName {
    Openvpn,
    /// The kernel's, or wireguard-go where it has none.
    Wireguard,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DockerName {
    /// What is installed here (20.10 on Debian bookworm).
    #[value(alias = "20.10")]
    Installed,
    Sid,
}

/// Does what `arguments` say; fails when an act did not go as it must.
///
/// # Errors
/// When something cannot be built, root cannot be had, or the lab cannot be made.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(Action::Down) = arguments.action {
        return if system::is_root() {
            down()
        } else {
            again_as_root(&["down".into()])
        };
    }
    let steer = match &arguments.built {
        Some(steer) => steer.clone(),
        None => build()?,
    };
    if system::is_root() {
        return play(arguments, &steer);
    }

    let mut words = vec![
        "--built".into(),
        steer.into_os_string(),
        "--tunnel".into(),
        name(&arguments.tunnel).into(),
    ];
    words.extend(["--docker".into(), name(&arguments.docker).into()]);
    words.extend(arguments.keep.then(|| "--keep".into()));
    again_as_root(&words)
}

fn build() -> Result<PathBuf> {
    // First, so that the password is asked for while somebody watches.
    system::ensure_root("The lab")?;
    eprintln!("setup");
    setup::programs()?;
    setup::toolchain(None)?;
    build_ebpf::run(None, false)?;
    test::build_steer(&system::workspace())
}

fn play(arguments: &Arguments, steer: &Path) -> Result<ExitCode> {
    let screen = Screen::start();
    if arguments.docker == DockerName::Sid {
        lab::fetch_sid_docker(&lab::sid_cache(), &mut |line| screen.show(line))?;
    }
    let tunnel = match arguments.tunnel {
        TunnelName::Openvpn => Tunnel::OpenVpn,
        TunnelName::Wireguard => Tunnel::best_wireguard(),
    };
    if tunnel == Tunnel::WireGuardGo {
        screen.show("this kernel has no WireGuard: the VPN is wireguard-go, in user space");
    }
    let options = DemoOptions {
        steer: steer.to_owned(),
        docker: match arguments.docker {
            DockerName::Installed => DockerVersion::Installed,
            DockerName::Sid => DockerVersion::Sid,
        },
        tunnel,
        keep: arguments.keep,
    };
    let shown = lab::demo(&options, &mut |line| screen.show(line));
    screen.finish();
    let demo = shown?;

    println!("\n{}", demo.render());
    if let Some(enter) = &demo.enter {
        println!("The lab is up. Enter it, as root: {enter}\nRemove it: cargo xtask lab down");
    }
    Ok(if demo.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn down() -> Result<ExitCode> {
    let removed = lab::down()?;
    if removed.is_empty() {
        println!("no lab is left");
    }
    for name in removed {
        println!("removed the lab {name}");
    }
    Ok(ExitCode::SUCCESS)
}

fn again_as_root(words: &[std::ffi::OsString]) -> Result<ExitCode> {
    system::ensure_root("The lab")?;
    let own = std::env::current_exe().context("this program's own path cannot be found")?;
    let status = Command::new("sudo")
        .args(["-n", "-E", "--"])
        .arg(own)
        .arg("lab")
        .args(words)
        .status()
        .context("sudo cannot be started")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn name(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// Lines that stay, and below them on a terminal the latest one with a running clock.
struct Screen {
    bar: Option<ProgressBar>,
}

impl Screen {
    fn start() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} [{elapsed}] {wide_msg:.dim}")
            {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar }
    }

    fn show(&self, line: &str) {
        match &self.bar {
            Some(bar) => {
                bar.println(line);
                bar.set_message(line.trim().to_owned());
            }
            None => eprintln!("{line}"),
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
