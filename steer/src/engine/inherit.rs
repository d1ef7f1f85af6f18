//! What a killed run left in the tables, under the rules of this one.

use steer_common::types::{Address, Config, Path};

use super::{Engine, Error};
use crate::{
    config::Settings,
    route::{Vpn, VpnId},
};

/// Refuses to go on with a run whose VPNs had other places: flows, marks and what was learned mean them by these. A VPN is known
/// again by its interface, and by the addresses of one that was made anew.
pub(super) fn same_places(
    before: &Config,
    settings: &Settings,
    vpns: &[Option<Vpn>],
) -> Result<(), Error> {
    for (place, vpn) in vpns.iter().enumerate() {
        let Some(vpn) = vpn else { continue };
        let own = before.vpn(VpnId(place).path());
        let addresses: Vec<_> = vpn.addresses().map(Address::from).collect();
        let of_own = [Address::v4(own.v4), Address::new(own.v6)];
        // Two may have one address.
        if own.ifindex == vpn.index.0 || addresses.iter().any(|it| of_own.contains(it)) {
            continue;
        }
        let mut known = addresses.iter().map(|it| before.by_address(it));
        if before.by_interface(vpn.index.0).is_vpn() || known.any(Path::is_vpn) {
            return Err(Error::Reordered {
                interface: vpn.name.clone(),
                name: settings.vpns[place].name.clone(),
            });
        }
    }
    Ok(())
}

impl Engine {
    /// Drops what the rules of now do not grant, and says what is gone on with. `before` is the configuration of the run
    /// that was killed.
    pub(super) fn inherit(&mut self, before: &Config) -> Result<Vec<String>, Error> {
        let mut notes = Vec::new();
        // Under another key no rule can be told by its hash any more; the grants then run out by themselves.
        if before.key == self.rulebook.key() {
            self.decide_anew()?;
            notes.push(self.datapath.take_stock()?.to_string());
        }
        let marks = |config: &Config| (config.vpns.map(|vpn| vpn.mark), config.mask);
        if marks(before) != marks(&self.config) {
            notes.push(
                "the mark is not the killed run's: connections that processes began then lose the VPN"
                    .to_owned(),
            );
        }
        Ok(notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{ConfigFile, Overrides},
        route::IfIndex,
    };
    use steer_common::types;

    #[test]
    fn vpns_are_known_again_in_their_places_alone() {
        let text = "[[vpn]]\nname = \"us\"\ninterface = \"us0\"\n[[vpn]]\nname = \"de\"\ninterface = \"de0\"\n";
        let file = ConfigFile::parse("steer.toml".as_ref(), text).unwrap();
        let settings = Settings::resolve(file, Overrides::default()).unwrap();
        let mut before = Config::default();
        for (place, last) in [1, 2].into_iter().enumerate() {
            before.vpns[place] = types::Vpn {
                ifindex: 10 + last,
                v4: [10, 8, 0, u8::try_from(last).unwrap()],
                mark: last,
                ..types::Vpn::default()
            };
        }
        let vpn = |index, last| {
            Some(Vpn {
                name: "us0".to_owned(),
                index: IfIndex(index),
                up: true,
                v4: vec![[10, 8, 0, last].into()],
                v6: Vec::new(),
            })
        };
        for (vpns, well) in [
            ([vpn(11, 1), vpn(12, 2)], true),
            ([vpn(12, 2), vpn(11, 1)], false),
            ([vpn(13, 3), vpn(11, 1)], false),
            // Made anew, which its address tells.
            ([vpn(21, 1), vpn(22, 2)], true),
            ([vpn(22, 2), None], false),
            // With one address for both.
            ([vpn(11, 2), vpn(12, 2)], true),
            ([vpn(13, 3), None], true),
        ] {
            let told = same_places(&before, &settings, &vpns);
            assert_eq!(told.is_ok(), well, "{vpns:?}");
        }
    }
}
