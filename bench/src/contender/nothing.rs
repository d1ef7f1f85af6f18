//! Nothing that chooses: routes lead the addresses of the VPN's names there.

use anyhow::Result;
use steer_tests::lab::plan::Range;

use super::{Kept, Part, ip};
use crate::{
    load::server::{BLOCKED, network},
    stage::Stage,
};

/// The routes, as words of `ip route add`.
pub struct Routes(Vec<String>);

impl Routes {
    pub fn up(stage: &Stage) -> Result<Self> {
        let [a, b, c] = network(BLOCKED);
        let vpn = stage.lab.tunnel_interface();
        let networks = [format!("{a}.{b}.{c}.0/24"), Range::Refusing.v4().to_owned()];
        let routes = Self(networks.map(|it| format!("{it} dev {vpn}")).into());
        ip(stage, &routes.lines("add"))?;
        Ok(routes)
    }

    fn lines(&self, action: &str) -> Vec<String> {
        let routes = self.0.iter();
        routes
            .map(|route| format!("route {action} {route}"))
            .collect()
    }
}

impl Part for Routes {
    fn memory(&self, _stage: &Stage) -> Result<Vec<Kept>> {
        Ok(Vec::new())
    }

    fn down(self: Box<Self>, stage: &Stage) -> Result<()> {
        ip(stage, &self.lines("del"))
    }
}
