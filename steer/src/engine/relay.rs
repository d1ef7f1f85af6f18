//! Who answers the questions that the programs have stopped.

use std::net::{IpAddr, SocketAddr};

use steer_common::types::{Address, Piece, ScopeKey};

use super::{Engine, Error};
use crate::{config::Way, relay::Question};

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
        });
        Ok(())
    }

    /// Who is asked: by a scope's own resolvers what its containers ask, also while it is not known whose question it is.
    fn answerers(&self, piece: &Piece) -> &[IpAddr] {
        let scopes = &self.settings.scopes;
        let whose = match piece.first {
            0 if piece.process == 0 => self.scope_of(&ScopeKey {
                bridge: piece.flow.origin as u32,
                zero: 0,
                address: piece.flow.local,
            }),
            0 => None,
            number => usize::try_from(number).unwrap_or_default().checked_sub(1),
        };
        if let Some(scope) = whose.and_then(|number| scopes.get(number)) {
            return &scope.dns;
        }
        if piece.by_vpn != 0 {
            return &self.settings.dns_vpn;
        }
        let isolates = scopes.iter().filter(|it| it.default != Way::Direct);
        let mut asked = isolates.chain(scopes).filter(|it| !it.dns.is_empty());
        asked.next().map_or(&[], |scope| &scope.dns)
    }
}
