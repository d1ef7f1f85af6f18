//! All routing state that steer puts on a host: rules, a table, a sysctl, an nft table, rules in Docker's chain.
//!
//! What is wanted becomes a [`Plan`] ([`plan`], pure), which is compared with what is there ([`diff`], pure), and
//! the difference is applied by [`Routing`], which also puts everything back. What is steer's is known by its
//! routing protocol number [`PROTOCOL`] together with the tables and the priorities in [`Numbers`]; in nft, by the
//! comment on its rule. What somebody else owns is never changed: where it is in the way, that is an error.
//!
//! ```no_run
//! # async fn example(vpn: Option<steer::route::Vpn>) -> Result<(), steer::route::Error> {
//! use steer::route::{IfIndex, Numbers, OnDown, Routing, Taken, Tunnel, Vpn, Wanted, plan};
//!
//! let numbers = Numbers::default();
//! let mut routing = Routing::open("/run/steer".as_ref(), numbers).await?;
//! let wanted = Wanted {
//!     tunnels: vec![Tunnel {
//!         sources: vpn.iter().flat_map(Vpn::addresses).collect(),
//!         vpn,
//!         on_down: OnDown::Block,
//!     }],
//!     networks: Vec::new(),
//!     dns: Vec::new(),
//!     forwards: Vec::new(),
//!     taken: Taken::default(),
//!     newest: IfIndex(0),
//!     numbers,
//! };
//! for change in routing.apply(&plan(&wanted)).await? {
//!     println!("{change}");
//! }
//! routing.remove().await?;
//! # Ok(())
//! # }
//! ```

mod diff;
mod dns;
mod docker;
mod error;
mod expression;
mod forward;
mod guard;
mod keep;
mod ledger;
mod lookup;
mod message;
mod netlink;
mod nft;
mod obstacles;
mod plan;
mod ports;
mod program;
mod record;
mod rp_filter;
mod survey;
mod taken;
#[cfg(test)]
mod tests;
mod watch;

pub use self::{
    diff::{Change, LOOSE, Loosened, STRICT, State, diff},
    dns::DnsRule,
    docker::{Gate, Listed, Opening},
    error::Error,
    guard::{Routing, cleanup},
    lookup::{Packet, Way, way},
    obstacles::obstacles,
    plan::{
        Family, Hop, IfIndex, Interface, Mark, NftTable, Numbers, OnDown, PROTOCOL, Plan, Priority,
        Route, Rule, Selector, TableId, Taken, Target, Tunnel, UNREACHABLE_METRIC, Vpn, VpnId,
        Wanted, addresses, plan, sources,
    },
    ports::{Forward, Protocol},
    survey::{KnownRoute, KnownRule, Survey, survey},
    taken::taken,
    watch::{Event, Watch, watch},
};
