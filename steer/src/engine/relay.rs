//! Who answers the questions that the programs have stopped.

use std::net::{IpAddr, SocketAddr};

use steer_common::types::{Address, Path, Piece, Verdict};

use super::{Engine, Error};
use crate::{
    config::{Scope, Way},
    relay::Question,
    route::VpnId,
};

impl Engine {
    /// Has a question asked that was stopped.
    pub(super) fn take_question(&mut self, piece: &Piece, octets: &[u8]) -> Result<(), Error> {
        let flow = &piece.flow;
        let end = |address: Address, port: steer_common::types::Port| {
            SocketAddr::new(address.to_ip(), port.number())
        };
        let (servers, vpn) = self.answerers(piece);
        let (by, mark) = (servers.to_vec(), self.config.vpn(vpn).mark);
        self.relay.ask(Question {
            message: octets.to_vec(),
            client: end(flow.local, flow.local_port),
            server: end(flow.remote, flow.remote_port),
            by,
            mark,
        });
        Ok(())
    }

    fn asking_scope(&self, piece: &Piece) -> Option<&Scope> {
        let number = match piece.first {
            0 if piece.process == 0 => self.scope_of_flow(&piece.flow),
            0 => None,
            number => usize::try_from(number).unwrap_or_default().checked_sub(1),
        };
        self.settings.scopes.get(number?)
    }

    /// Who is asked, and by which VPN: a scope's own resolvers of what its containers ask, also while it is not known whose question
    /// it is.
    fn answerers(&self, piece: &Piece) -> (&[IpAddr], Path) {
        let by_scope = |scope: &Scope| scope.vpn.map_or(Path::DIRECT, VpnId::path);
        let scopes = &self.settings.scopes;
        let whose = self.asking_scope(piece);
        if whose.is_none_or(|scope| scope.dns.is_empty()) && piece.by_vpn != 0 {
            let verdict = Verdict::new(piece.by_vpn);
            let vpn = whose.map_or(Path::DIRECT, by_scope);
            return (&self.settings.dns_vpn, self.config.meant(verdict, vpn));
        }
        let of_containers = scopes.iter().filter(|it| it.selector.is_of_containers());
        let isolates = of_containers.clone().filter(|it| it.default != Way::Direct);
        let all = whose.into_iter().chain(isolates).chain(of_containers);
        let scope = all.into_iter().find(|it| !it.dns.is_empty());
        let servers = scope.map_or(&[][..], |scope| &scope.dns);
        let vpn = scope.map_or(Path::DIRECT, by_scope);
        (servers, self.config.meant(Verdict::VPN, vpn))
    }
}
