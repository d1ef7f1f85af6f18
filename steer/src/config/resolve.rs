//! The file and the flags become settings; flags win.

use super::{
    BridgeChoice, CgroupChoice, ConfigError, ConfigFile, DockerChoice, Late, LogBpf, OnDown,
    Output, Settings, Sni, VpnChoice,
    rules::{self, Rules},
    scope, tables,
    vpn::Vpns,
};
use crate::origin::{Origin, Sourced};
use crate::progress::{Progress, Unseen};
use crate::route::{self, Mark, Numbers, Priority, TableId};
use crate::rules::Rule;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Longest name of an interface: IFNAMSIZ, less its final NUL.
const INTERFACE_MAX: usize = 15;

/// What the command line says.
///
/// A flag given replaces what the file says of the same thing, except rules and lists, which add to the file's and win where both speak of
/// the same names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--vpn`
    pub vpn: Option<String>,
    /// `--on-down`
    pub on_down: Option<OnDown>,
    /// `--cgroup`, each
    pub cgroups: Vec<String>,
    /// `--bridge`, each
    pub bridges: Vec<String>,
    /// `--docker`
    pub docker: Option<String>,
    /// `--preset`, each
    pub presets: Vec<String>,
    /// `--no-presets`
    pub no_presets: bool,
    /// `--vpn-domain`, each
    pub vpn_domains: Vec<String>,
    /// `--direct-domain`, each
    pub direct_domains: Vec<String>,
    /// Rules for what is blocked, in addition to the file's.
    pub block_domains: Vec<String>,
    /// `--vpn-list`, each
    pub vpn_lists: Vec<PathBuf>,
    /// `--direct-list`, each
    pub direct_lists: Vec<PathBuf>,
    /// Lists of what is blocked, in addition to the file's.
    pub block_lists: Vec<PathBuf>,
    /// `--wait`
    pub wait: bool,
    /// `--no-resolve`
    pub no_resolve: bool,
    /// `--sni-port`, each
    pub sni_ports: Vec<u16>,
    /// `--http-port`, each
    pub http_ports: Vec<u16>,
    /// `--no-sni`
    pub no_sni: bool,
    /// `--late`
    pub late: Option<Late>,
    /// `--mark`
    pub mark: Option<u32>,
    /// `--mask`
    pub mask: Option<u32>,
    /// `--table`
    pub table: Option<u32>,
    /// `--priority`
    pub priority: Option<u32>,
    /// `-q` and `-v`
    pub output: Output,
    /// `--log-bpf`
    pub log_bpf: LogBpf,
    /// Rules that were added while steer runs.
    pub added: Vec<Rule>,
    /// `--bpffs`
    pub bpffs: Option<PathBuf>,
    /// `--run-dir`
    pub run_dir: Option<PathBuf>,
}

impl Settings {
    /// Brings the file and the flags together and judges every value.
    ///
    /// # Errors
    /// The first value that cannot be right, with its file and line or its flag.
    pub fn resolve(file: ConfigFile, flags: Overrides) -> Result<Self, ConfigError> {
        Self::resolve_telling(file, flags, &Unseen)
    }

    /// The same, and tells how far the reading of lists is.
    ///
    /// # Errors
    /// As for [`Self::resolve`].
    pub fn resolve_telling(
        file: ConfigFile,
        flags: Overrides,
        progress: &dyn Progress,
    ) -> Result<Self, ConfigError> {
        let vpns = Vpns::resolve(&file.vpns, &flags)?;
        let Rules { set, lists, files } = rules::resolve(&file, &flags, &vpns, progress)?;
        let routing = routing(&file, &flags)?;
        let sni = Sni::resolve(&file, &flags)?;
        let tables = tables::resolve(&file)?;
        let given = flags.clone();
        let docker = docker_choice(one(flags.docker, "--docker", file.docker, "auto"))?;
        let scopes = scope::resolve(file.scopes, &vpns, &docker)?;
        // Others are told of it, who are elsewhere.
        let path = file
            .path
            .map(|path| std::path::absolute(&path).unwrap_or_else(|_| path.to_path_buf()));
        Ok(Self {
            files: path.iter().cloned().chain(files).collect(),
            file: path,
            vpns: vpns.all,
            default_vpn: vpns.default,
            cgroups: each(flags.cgroups, "--cgroup", file.cgroups, cgroup_choice)?,
            bridges: each(flags.bridges, "--bridge", file.bridges, bridge_choice)?,
            docker,
            rules: Arc::new(set),
            lists,
            dns_vpn: scope::dns(&file.dns_vpn)?,
            resolve: !flags.no_resolve && file.resolve.unwrap_or(true),
            sni,
            scopes,
            routing,
            tables,
            output: flags.output,
            log_bpf: flags.log_bpf,
            bpffs: absolute(flags.bpffs, "--bpffs", Self::default_bpffs())?,
            run_dir: absolute(flags.run_dir, "--run-dir", Self::default_run_dir())?,
            flags: given,
        })
    }

    /// Rules that were added while steer runs, which [`Self::reread`] takes in; no two are about the same.
    pub fn added(&mut self) -> &mut Vec<Rule> {
        &mut self.flags.added
    }

    /// The same, to be read.
    pub fn added_rules(&self) -> &[Rule] {
        &self.flags.added
    }

    /// Reads the file and what it names again, under the same flags: all as it would be if the run began now.
    ///
    /// Where there was no file, the usual place is looked at again; a file that was there and is gone is an error.
    ///
    /// # Errors
    /// As for [`ConfigFile::find`] and [`Settings::resolve`]; what was resolved before is whole and can go on.
    pub fn reread(&self) -> Result<Self, ConfigError> {
        Self::resolve(ConfigFile::find(self.file.as_deref())?, self.flags.clone())
    }
}

fn one(
    flag: Option<String>,
    name: &'static str,
    file: Option<Sourced<String>>,
    default: &str,
) -> Sourced<String> {
    flag.map(|value| Sourced::new(value, Origin::Flag(name)))
        .or(file)
        .unwrap_or_else(|| Sourced::default_value(default.to_owned()))
}

fn number(
    flag: Option<u32>,
    name: &'static str,
    file: &Option<Sourced<u32>>,
    default: u32,
) -> Sourced<u32> {
    flag.map(|value| Sourced::new(value, Origin::Flag(name)))
        .or_else(|| file.clone())
        .unwrap_or_else(|| Sourced::default_value(default))
}

fn each<T>(
    flags: Vec<String>,
    name: &'static str,
    file: Option<Vec<Sourced<String>>>,
    choice: impl Fn(Sourced<String>) -> Result<Sourced<T>, ConfigError>,
) -> Result<Vec<Sourced<T>>, ConfigError> {
    let values = if flags.is_empty() {
        file.unwrap_or_else(|| vec![Sourced::default_value("auto".to_owned())])
    } else {
        flags
            .into_iter()
            .map(|value| Sourced::new(value, Origin::Flag(name)))
            .collect()
    };
    values.into_iter().map(choice).collect()
}

pub(super) fn vpn_choice(
    Sourced { value, origin }: Sourced<String>,
) -> Result<Sourced<VpnChoice>, ConfigError> {
    let choice = match value.as_str() {
        "auto" => VpnChoice::Auto,
        _ => {
            check_interface(&value, &origin, "wg0")?;
            VpnChoice::Named(value)
        }
    };
    Ok(Sourced::new(choice, origin))
}

pub(super) fn on_down(
    Sourced { value, origin }: Sourced<String>,
) -> Result<Sourced<OnDown>, ConfigError> {
    let on_down = match value.as_str() {
        "block" => OnDown::Block,
        "direct" => OnDown::Direct,
        _ => {
            return Err(ConfigError::invalid(
                &origin,
                format!("vpn.on_down must be \"block\" or \"direct\"; this is \"{value}\""),
            ));
        }
    };
    Ok(Sourced::new(on_down, origin))
}

fn cgroup_choice(
    Sourced { value, origin }: Sourced<String>,
) -> Result<Sourced<CgroupChoice>, ConfigError> {
    if value == "auto" {
        return Ok(Sourced::new(CgroupChoice::Auto, origin));
    }
    let path = cgroup_path(&value, &origin)?;
    Ok(Sourced::new(CgroupChoice::Path(path), origin))
}

/// Refuses what is no path of a cgroup.
pub(super) fn cgroup_path(value: &str, origin: &Origin) -> Result<PathBuf, ConfigError> {
    let path = PathBuf::from(value);
    if path.as_os_str().is_empty() {
        return Err(ConfigError::invalid(
            origin,
            "a cgroup must be a path such as \"system.slice/docker.service\", or \"auto\"; this is empty",
        ));
    }
    if path
        .components()
        .any(|component| component == Component::ParentDir)
    {
        return Err(ConfigError::invalid(
            origin,
            format!(
                "the cgroup {} must be written without \"..\"",
                path.display()
            ),
        ));
    }
    Ok(path)
}

fn bridge_choice(
    Sourced { value, origin }: Sourced<String>,
) -> Result<Sourced<BridgeChoice>, ConfigError> {
    if value == "auto" {
        return Ok(Sourced::new(BridgeChoice::Auto, origin));
    }
    check_interface(&value, &origin, "br-*")?;
    Ok(Sourced::new(BridgeChoice::Pattern(value), origin))
}

fn docker_choice(
    Sourced { value, origin }: Sourced<String>,
) -> Result<Sourced<DockerChoice>, ConfigError> {
    let choice = match value.as_str() {
        "auto" => DockerChoice::Auto,
        "off" => DockerChoice::Off,
        _ => {
            let path = PathBuf::from(value.strip_prefix("unix://").unwrap_or(&value));
            if !path.is_absolute() {
                return Err(ConfigError::invalid(
                    &origin,
                    format!(
                        "Docker's socket must be an absolute path such as \"/var/run/docker.sock\", \"auto\" or \"off\"; this is \"{value}\""
                    ),
                ));
            }
            DockerChoice::Socket(path)
        }
    };
    Ok(Sourced::new(choice, origin))
}

/// Refuses what the kernel would not have as an interface's name.
fn check_interface(name: &str, origin: &Origin, example: &str) -> Result<(), ConfigError> {
    let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > INTERFACE_MAX || name.contains(odd) {
        return Err(ConfigError::invalid(
            origin,
            format!(
                "\"{name}\" cannot be an interface; names such as \"{example}\" have 1 to {INTERFACE_MAX} characters, without spaces, slashes and colons"
            ),
        ));
    }
    Ok(())
}

fn absolute(
    flag: Option<PathBuf>,
    name: &'static str,
    default: &Path,
) -> Result<PathBuf, ConfigError> {
    match flag {
        None => Ok(default.to_owned()),
        Some(path) if path.is_absolute() => Ok(path),
        Some(path) => Err(ConfigError::invalid(
            &Origin::Flag(name),
            format!(
                "the directory must be an absolute path such as {}; this is {}",
                default.display(),
                path.display()
            ),
        )),
    }
}

/// The numbers of steer's own, which is all that removing what a run left needs of the settings.
///
/// # Errors
/// A number that cannot be right, with its file and line or its flag.
pub fn routing(file: &ConfigFile, flags: &Overrides) -> Result<Numbers, ConfigError> {
    let default = Numbers::default();
    let mark = number(flags.mark, "--mark", &file.mark, default.mark.value());
    let mask = number(flags.mask, "--mask", &file.mask, default.mark.mask());
    let table = number(flags.table, "--table", &file.table, default.table.0);
    let priority = number(
        flags.priority,
        "--priority",
        &file.priority,
        default.priority.0,
    );
    // Of mark and mask, the one that the user chose is the one to mend.
    let chosen = if mark.origin.authority() >= mask.origin.authority() {
        &mark.origin
    } else {
        &mask.origin
    };
    let mark = Mark::new(mark.value, mask.value)
        .map_err(|error| ConfigError::invalid(chosen, error.to_string()))?;
    let numbers = Numbers {
        mark,
        table: TableId(table.value),
        priority: Priority(priority.value),
        vpns: file.vpns.len().max(1),
    };
    numbers.check().map_err(|error| {
        let origin = match error {
            route::Error::SystemTable { .. } => &table.origin,
            // Nothing of it need be chosen: then it is the VPN that there is no room for.
            route::Error::NarrowMask { .. }
                if chosen.authority() == Origin::Default.authority() =>
            {
                file.vpns.last().map_or(chosen, |last| &last.origin)
            }
            route::Error::NarrowMask { .. } => chosen,
            _ => &priority.origin,
        };
        ConfigError::invalid(origin, error.to_string())
    })
}
