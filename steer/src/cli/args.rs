//! What the user may write.

use crate::config::{Late, LogBpf, OnDown, Output, Overrides, Settings};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const RUN_EXAMPLES: &str = "\
Examples:
  steer run
      Docker Hub through the one VPN that is up, everything else direct
  steer run --vpn wg0 --vpn-domain .blocked.example --direct-domain layers.blocked.example
      names of your own beside Docker Hub's
  steer run --no-presets --vpn-domain .blocked.example --bridge 'br-*' --cgroup system.slice/app.service
      nothing but what you name, for these bridges and this service
  steer run --config steer.toml -q
      as the file says, without a line on standard output";

const CLEANUP_EXAMPLES: &str = "\
Examples:
  sudo steer cleanup
      after kill -9, if steer run is not to go on with what was left
  sudo steer cleanup --table 7400 --priority 7400
      where the run had other numbers by flags";

const CHECK_EXAMPLES: &str = "\
Examples:
  steer check
      the file that steer run would read
  steer check steer.toml && sudo cp steer.toml /etc/steer/
      a new one before it is put in place
  steer check --json | jq -r '.rules[] | select(.verdict == \"vpn\") | .rule'
      the rules that send names through the VPN";

/// Sends the flows to blocked domains through the VPN and leaves everything else on the direct path.
#[derive(Clone, Debug, Parser)]
#[command(name = "steer", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Steer until interrupted, then put everything back
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Remove whatever a killed run left
    #[command(after_help = CLEANUP_EXAMPLES)]
    Cleanup(CleanupArgs),
    /// Say what a configuration file comes to, or what is wrong with it; needs no root and changes nothing
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Look for what steer and its users trip over on this host, say what mends it, and mend what can be mended safely
    #[command(after_help = super::doctor::EXAMPLES)]
    Doctor(super::doctor::DoctorArgs),
    /// Look at this host and write a configuration to begin with
    #[command(after_help = super::init::EXAMPLES)]
    Init(super::init::InitArgs),
    /// Say whether steer is well, and how much it does
    #[command(after_help = super::status::EXAMPLES)]
    Status(super::status::StatusArgs),
    /// Say why a name or an address takes the path that it takes
    #[command(after_help = super::explain::EXAMPLES)]
    Explain(super::explain::ExplainArgs),
    /// List the flows of containers and steered processes, and which path each takes
    #[command(after_help = super::flows::EXAMPLES)]
    Flows(super::flows::FlowsArgs),
    /// Watch what goes each path and to whom, live
    #[command(after_help = super::top::EXAMPLES)]
    Top(super::top::TopArgs),
    /// Show what steer tells: names learned, flows steered, changes of the host
    #[command(after_help = super::log::EXAMPLES)]
    Log(super::log::LogArgs),
    /// List and test the rules in force, and add some for a while
    #[command(after_help = super::rules::EXAMPLES)]
    Rules(super::rules::RulesArgs),
    /// Read the configuration and its lists again, now
    #[command(after_help = super::reload::EXAMPLES)]
    Reload(super::reload::ReloadArgs),
    /// Print the completions of a shell
    #[command(after_help = super::completions::EXAMPLES)]
    Completions(super::completions::CompletionsArgs),
    /// Write the man pages into a folder
    #[command(hide = true)]
    Man(super::completions::ManArgs),
}

/// Flags of `steer run`.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// Configuration file [default: /etc/steer/steer.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The VPN's interface, or "auto": the one tun, wireguard or ppp device that is up
    #[arg(long, value_name = "IFACE", help_heading = "VPN")]
    pub vpn: Option<String>,

    /// What becomes of flows that must take the VPN while it is down [default: block]
    #[arg(long, value_name = "WHAT", help_heading = "VPN")]
    pub on_down: Option<OnDownArg>,

    /// Steer the processes of this cgroup: a path relative to the cgroup2 mount or absolute, or "auto": dockerd's and
    /// containerd's. Repeatable; replaces the file's
    #[arg(long = "cgroup", value_name = "PATH", help_heading = "What is steered")]
    pub cgroups: Vec<String>,

    /// Steer the containers on this bridge: a name, a pattern such as "br-*", or "auto": docker0 and those of Docker's
    /// networks. Repeatable; replaces the file's
    #[arg(long = "bridge", value_name = "NAME", help_heading = "What is steered")]
    pub bridges: Vec<String>,

    /// Docker's socket, "auto" or "off"
    #[arg(long, value_name = "SOCKET", help_heading = "What is steered")]
    pub docker: Option<String>,

    /// Send this through the VPN: example.com (that name), *.example.com (the names below it), .example.com (both),
    /// 203.0.113.0/24 (these addresses), keyword:track or regex:^cdn[0-9] (names in which it is found). Repeatable; adds to
    /// the file's and wins over it
    #[arg(long = "vpn-domain", value_name = "RULE", help_heading = "Rules")]
    pub vpn_domains: Vec<String>,

    /// Send this direct, written as with --vpn-domain. Repeatable; adds to the file's and wins over it
    #[arg(long = "direct-domain", value_name = "RULE", help_heading = "Rules")]
    pub direct_domains: Vec<String>,

    /// Block this, written as with --vpn-domain. Repeatable; adds to the file's and wins over it
    #[arg(long = "block-domain", value_name = "RULE", help_heading = "Rules")]
    pub block_domains: Vec<String>,

    /// Send what this list of others names through the VPN; its format is told by what it looks like. Repeatable; adds to the
    /// file's
    #[arg(long = "vpn-list", value_name = "FILE", help_heading = "Rules")]
    pub vpn_lists: Vec<PathBuf>,

    /// Send what this list of others names direct. Repeatable; adds to the file's
    #[arg(long = "direct-list", value_name = "FILE", help_heading = "Rules")]
    pub direct_lists: Vec<PathBuf>,

    /// Block what this list of others names. Repeatable; adds to the file's
    #[arg(long = "block-list", value_name = "FILE", help_heading = "Rules")]
    pub block_lists: Vec<PathBuf>,

    /// Use this built-in list [default: docker-hub]. Repeatable; replaces the file's
    #[arg(long = "preset", value_name = "NAME", help_heading = "Rules")]
    pub presets: Vec<String>,

    /// Use no built-in list at all
    #[arg(long, conflicts_with = "presets", help_heading = "Rules")]
    pub no_presets: bool,

    /// Wait for Docker where there is nothing to steer yet, rather than fail; so it is, too, where the configuration has scopes
    #[arg(long)]
    pub wait: bool,

    /// Do not resolve the exact names of the rules at the start; what was asked before then is known only from later answers
    #[arg(long, help_heading = "Learning")]
    pub no_resolve: bool,

    /// Read TLS to this port for the server's name [default: 443]. Repeatable; replaces the file's
    #[arg(long = "sni-port", value_name = "PORT", value_parser = port, help_heading = "Learning")]
    pub sni_ports: Vec<u16>,

    /// Read HTTP to this port for its Host [default: 80]. Repeatable; replaces the file's
    #[arg(long = "http-port", value_name = "PORT", value_parser = port, help_heading = "Learning")]
    pub http_ports: Vec<u16>,

    /// Read neither TLS nor HTTP: names come from the DNS alone
    #[arg(long, conflicts_with_all = ["sni_ports", "http_ports", "late"], help_heading = "Learning")]
    pub no_sni: bool,

    /// What becomes of a flow that is found by its name to be on the wrong path [default: reset]
    #[arg(long, value_name = "WHAT", help_heading = "Learning")]
    pub late: Option<LateArg>,

    /// The numbers of steer's own.
    #[command(flatten)]
    pub routing: RoutingArgs,

    /// Print errors only
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Output")]
    pub quiet: bool,

    /// Print steer's own doings too: each change of rules and routes; twice for more
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,

    /// Log from the kernel programs at this level; off costs nothing
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "off",
        help_heading = "Output"
    )]
    pub log_bpf: LogBpfArg,

    /// Where things are kept.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Flags of `steer cleanup`.
#[derive(Clone, Debug, Default, Args)]
pub struct CleanupArgs {
    /// Configuration file of the run that was killed [default: /etc/steer/steer.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The numbers of the run that was killed.
    #[command(flatten)]
    pub routing: RoutingArgs,

    /// Where it kept things.
    #[command(flatten)]
    pub state: StateArgs,
}

/// What `steer check` looks at.
#[derive(Clone, Debug, Default, Args)]
pub struct CheckArgs {
    /// Configuration file [default: /etc/steer/steer.toml]
    pub file: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The numbers by which routing knows what is steer's.
#[derive(Clone, Debug, Default, Args)]
pub struct RoutingArgs {
    /// Mark of the packets that take the VPN [default: 0x1000]
    #[arg(long, value_name = "MARK", value_parser = number, help_heading = "Routing")]
    pub mark: Option<u32>,

    /// Bits of the packet mark that are steer's [default: 0x3000]
    #[arg(long, value_name = "MASK", value_parser = number, help_heading = "Routing")]
    pub mask: Option<u32>,

    /// Routing table of the marked packets [default: 7350]
    #[arg(long, value_name = "ID", value_parser = number, help_heading = "Routing")]
    pub table: Option<u32>,

    /// First of the 20 priorities of steer's routing rules [default: 7350]
    #[arg(long, value_name = "NUMBER", value_parser = number, help_heading = "Routing")]
    pub priority: Option<u32>,
}

/// Where a run keeps what outlives its process.
#[derive(Clone, Debug, Default, Args)]
pub struct StateArgs {
    /// Directory to pin maps and programs in [default: /sys/fs/bpf/steer]
    #[arg(long, value_name = "DIR", help_heading = "State")]
    pub bpffs: Option<PathBuf>,

    /// Directory of the lock and of the list of what to put back [default: /run/steer]
    #[arg(long, value_name = "DIR", help_heading = "State")]
    pub run_dir: Option<PathBuf>,
}

/// Values of `--on-down`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnDownArg {
    /// They fail: nothing leaks
    Block,
    /// They take the direct path
    Direct,
}

/// Values of `--late`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LateArg {
    /// It ends at once, and the client's next try takes the VPN
    Reset,
    /// It goes on, and later ones take the VPN
    Learn,
}

/// Values of `--log-bpf`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogBpfArg {
    /// Nothing
    #[default]
    Off,
    /// Packets that are stopped, and why
    Warn,
    /// And what becomes of all others
    Debug,
}

impl RunArgs {
    /// The flags as the settings take them.
    pub fn overrides(&self) -> Overrides {
        let args = self.clone();
        Overrides {
            vpn: args.vpn,
            on_down: args.on_down.map(|on_down| match on_down {
                OnDownArg::Block => OnDown::Block,
                OnDownArg::Direct => OnDown::Direct,
            }),
            cgroups: args.cgroups,
            bridges: args.bridges,
            docker: args.docker,
            presets: args.presets,
            no_presets: args.no_presets,
            vpn_domains: args.vpn_domains,
            direct_domains: args.direct_domains,
            block_domains: args.block_domains,
            vpn_lists: args.vpn_lists,
            direct_lists: args.direct_lists,
            block_lists: args.block_lists,
            wait: args.wait,
            no_resolve: args.no_resolve,
            sni_ports: args.sni_ports,
            http_ports: args.http_ports,
            no_sni: args.no_sni,
            late: args.late.map(|late| match late {
                LateArg::Reset => Late::Reset,
                LateArg::Learn => Late::Learn,
            }),
            output: match (args.quiet, args.verbose) {
                (true, _) => Output::Quiet,
                (false, 0) => Output::Normal,
                (false, _) => Output::Verbose,
            },
            log_bpf: match args.log_bpf {
                LogBpfArg::Off => LogBpf::Off,
                LogBpfArg::Warn => LogBpf::Warn,
                LogBpfArg::Debug => LogBpf::Debug,
            },
            bpffs: args.state.bpffs,
            run_dir: args.state.run_dir,
            ..args.routing.overrides()
        }
    }
}

impl RoutingArgs {
    /// The flags as the settings take them, all others not given.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            mark: self.mark,
            mask: self.mask,
            table: self.table,
            priority: self.priority,
            ..Overrides::default()
        }
    }
}

impl StateArgs {
    /// The directory of pins, and the one of the lock.
    pub fn directories(&self) -> (PathBuf, PathBuf) {
        let or = |given: &Option<PathBuf>, default| {
            given.clone().unwrap_or_else(|| PathBuf::from(default))
        };
        (
            or(&self.bpffs, Settings::default_bpffs().as_os_str()),
            or(&self.run_dir, Settings::default_run_dir().as_os_str()),
        )
    }
}

fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| {
        "a whole number from 0 to 4294967295 is needed, such as 7350 or 0x1000".to_owned()
    })
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a port from 1 to 65535 is needed, such as 443".to_owned()),
        Ok(port) => Ok(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DEFAULT_FILE;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn overrides(line: &str) -> Overrides {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Run(args) => args.overrides(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
        let run = Cli::command()
            .find_subcommand("run")
            .unwrap()
            .clone()
            .render_help()
            .to_string();
        assert!(run.contains(DEFAULT_FILE), "{run}");
    }

    #[test]
    fn without_flags_nothing_is_overridden() {
        assert_eq!(overrides("steer run"), Overrides::default());
    }

    #[test]
    fn flags_arrive() {
        let flags = overrides(
            "steer run --vpn wg0 --on-down direct --cgroup a --cgroup b --vpn-domain .x.example --vpn-list a.txt --direct-list b.txt --no-resolve --sni-port 443 --sni-port 8443 --late learn --mark 0x2000 -v --log-bpf debug",
        );
        assert_eq!(flags.vpn.as_deref(), Some("wg0"));
        assert_eq!(flags.on_down, Some(OnDown::Direct));
        assert_eq!(flags.cgroups, ["a", "b"]);
        assert_eq!(flags.vpn_domains, [".x.example"]);
        assert_eq!(flags.vpn_lists, [PathBuf::from("a.txt")]);
        assert_eq!(flags.direct_lists, [PathBuf::from("b.txt")]);
        assert!(flags.no_resolve && !flags.no_sni);
        assert_eq!(flags.sni_ports, [443, 8443]);
        assert_eq!(flags.late, Some(Late::Learn));
        assert_eq!(flags.mark, Some(0x2000));
        assert_eq!(flags.output, Output::Verbose);
        assert_eq!(flags.log_bpf, LogBpf::Debug);
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "steer run -q -v",
            "steer run --no-presets --preset docker-hub",
            "steer run --no-sni --sni-port 443",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{line}");
            assert_eq!(error.exit_code(), 2);
        }
        let error = Cli::try_parse_from(["steer", "run", "--http-port", "0"]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("a port from 1 to 65535 is needed"),
            "{error}"
        );
        let error = Cli::try_parse_from(["steer", "run", "--table", "x"]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("a whole number from 0 to 4294967295 is needed"),
            "{error}"
        );
    }
}
