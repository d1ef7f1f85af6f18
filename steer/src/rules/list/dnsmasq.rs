//! Lines of dnsmasq's configuration that name domains: `server=/a/b/…`, `local=`, `address=`, `ipset=`, `nftset=`. As
//! dnsmasq(8) has it, a domain is that name and all below it, and `*.example.com` those below it alone.

use super::{Parsed, add_below};

const KEYS: [&str; 5] = ["server", "local", "address", "ipset", "nftset"];

pub(super) fn line(parsed: &mut Parsed, number: u32, line: &str) -> Result<(), String> {
    if line.starts_with('#') {
        return Ok(());
    }
    // A port is written with # too, but without a space before.
    let line = line.split(" #").next().unwrap_or_default().trim_end();
    let line = line.strip_prefix("--").unwrap_or(line);
    let (key, value) = line.split_once('=').unwrap_or((line, ""));
    if !KEYS.contains(&key.trim_end()) {
        return Err(format!(
            "\"{key}\" names no domains; expected server=/example.com/…, local=, address=, ipset= or nftset="
        ));
    }
    let domains = value
        .trim_start()
        .strip_prefix('/')
        .and_then(|value| value.rsplit_once('/'));
    let Some((domains, _)) = domains else {
        return Err(format!(
            "it names no domains; expected them between slashes, as in {key}=/example.com/…"
        ));
    };
    let mut refused = None;
    for domain in domains.split('/') {
        let added = match domain {
            "" => Err("an empty domain means names without dots, which is no rule".to_owned()),
            "#" => Err("# means every name, which is no rule".to_owned()),
            _ => add_below(&mut parsed.names, domain, number).map_err(|why| why.to_string()),
        };
        if let Err(why) = added {
            refused.get_or_insert(why);
        }
    }
    refused.map_or(Ok(()), Err)
}
