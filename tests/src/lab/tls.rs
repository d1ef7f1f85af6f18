//! The lab's certificate authority, and what it signs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{exec::Ran, plan::HOSTS};

/// Files of an authority and of one certificate for everybody in the lab.
pub(super) struct Certificates {
    /// The authority alone, which clients trust.
    pub ca: PathBuf,
    /// The certificate: all names that were given, server and client.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Certificates {
    /// Those of `dir`, made if need be, for all names of [`HOSTS`].
    pub fn make(dir: &Path) -> Result<Self> {
        let names: Vec<_> = HOSTS.iter().map(|host| host.name).collect();
        Self::make_for(dir, &names)
    }

    /// Makes them in `dir`, if they are not there.
    pub fn make_for(dir: &Path, names: &[&str]) -> Result<Self> {
        let at = |name: &str| dir.join(name);
        let these = Self {
            ca: at("ca.pem"),
            cert: at("cert.pem"),
            key: at("key.pem"),
        };
        if these.cert.exists() {
            return Ok(these);
        }
        let (ca_key, request, extensions) = (at("ca.key"), at("request.pem"), at("extensions"));
        let names: Vec<_> = names.iter().map(|name| format!("DNS:{name}")).collect();
        let text = format!(
            "subjectAltName={}\nextendedKeyUsage=serverAuth,clientAuth\n",
            names.join(",")
        );
        fs::write(&extensions, text)?;

        let openssl = |line: &str, files: &[(&str, &Path)]| -> Result<()> {
            let mut command = Command::new("openssl");
            command.args(line.split(' '));
            for (option, file) in files {
                command.arg(option).arg(file);
            }
            Ran::of(&mut command)?
                .stdout()
                .map(drop)
                .context("cannot make the lab's certificates")
        };
        const NEW: &str = "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(
            &format!("{NEW} -x509 -days 30 -subj /CN=steer-lab-ca"),
            &[("-keyout", &ca_key), ("-out", &these.ca)],
        )?;
        openssl(
            &format!("{NEW} -subj /CN=steer-lab"),
            &[("-keyout", &these.key), ("-out", &request)],
        )?;
        openssl(
            "x509 -req -days 30 -CAcreateserial",
            &[
                ("-in", &request),
                ("-CA", &these.ca),
                ("-CAkey", &ca_key),
                ("-extfile", &extensions),
                ("-out", &these.cert),
            ],
        )?;
        Ok(these)
    }
}
