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
        self.relay.ask(Question {
            message: octets.to_vec(),
            client: end(flow.local, flow.local_port),
            server: end(flow.remote, flow.remote_port),
            by: self.answerers(piece).to_vec(),
            mark: self.config.vpn(self.asks_by(piece)).mark,
        });
        Ok(())
    }

    /// The VPN that they are asked by: that of whoever asks, or that of the name.
    fn asks_by(&self, piece: &Piece) -> Path {
        let scope = self.asking_scope(piece);
        let of_scope = scope.and_then(|scope| scope.vpn);
        let of_scope = of_scope.map_or(Path::DIRECT, VpnId::path);
        let has_servers = scope.is_some_and(|scope| !scope.dns.is_empty());
        let verdict = match piece.by_vpn {
            number if number != 0 && !has_servers => Verdict::new(number),
            _ => Verdict::VPN,
        };
        self.config.meant(verdict, of_scope)
    }

    fn asking_scope(&self, piece: &Piece) -> Option<&Scope> {
        let number = match piece.first {
            0 if piece.process == 0 => self.scope_of_flow(&piece.flow),
            0 => None,
            number => usize::try_from(number).unwrap_or_default().checked_sub(1),
        };
        self.settings.scopes.get(number?)
    }

    /// Who is asked: by a scope's own resolvers what its containers ask, also while it is not known whose question it is.
    fn answerers(&self, piece: &Piece) -> &[IpAddr] {
        let scopes = &self.settings.scopes;
        let whose = self.asking_scope(piece);
        if let Some(scope) = whose.filter(|scope| !scope.dns.is_empty()) {
            return &scope.dns;
        }
        if piece.by_vpn != 0 {
            return &self.settings.dns_vpn;
        }
        let of_containers = scopes.iter().filter(|it| it.selector.is_of_containers());
        let isolates = of_containers.clone().filter(|it| it.default != Way::Direct);
        let mut asked = isolates
            .chain(of_containers)
            .filter(|it| !it.dns.is_empty());
        asked.next().map_or(&[], |scope| &scope.dns)
    }
}
