//! Why the programs did what they did: one counter for each outcome.

/// What becomes of a packet, a connect or a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes on as if steer were not there.
    Pass,
    /// It takes the VPN.
    Steer,
    /// It goes nowhere: the only path left would be a wrong one.
    Drop,
}

/// Counters in [`Stats`], the spare ones too; a power of two. An [`Outcome`] is the index of its own.
pub const COUNTERS: usize = 64;

macro_rules! outcomes {
    ($($(#[doc = $doc:literal])+ $name:ident, $field:ident => $action:ident;)+) => {
        /// How a program came out. Each has a counter of its own in [`Stats`] and leads to one [`Action`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Outcome {
            $($(#[doc = $doc])+ $name,)+
        }

        /// Value of `STATS`, one for each CPU: how often each [`Outcome`] was come to.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Stats {
            $($(#[doc = $doc])+ pub $field: u64,)+
            /// Room, so that a masked index stays within.
            pub spare: [u64; COUNTERS - Outcome::ALL.len()],
        }

        impl Default for Stats {
            fn default() -> Self {
                Self {
                    $($field: 0,)+
                    spare: [0; COUNTERS - Outcome::ALL.len()],
                }
            }
        }

        impl Outcome {
            /// All of them, in the order of the counters.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// What it leads to.
            #[inline(always)]
            pub const fn action(self) -> Action {
                match self {
                    $(Self::$name => Action::$action,)+
                }
            }

            /// The name of its counter.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($field),)+
                }
            }
        }

        impl Stats {
            /// The counter of an outcome.
            pub const fn counter(&self, outcome: Outcome) -> u64 {
                match outcome {
                    $(Outcome::$name => self.$field,)+
                }
            }

            /// Adds the counters of another CPU.
            pub const fn add(&mut self, other: &Self) {
                $(self.$field = self.$field.wrapping_add(other.$field);)+
            }

            /// Takes away what was counted before.
            pub const fn subtract(&mut self, before: &Self) {
                $(self.$field = self.$field.wrapping_sub(before.$field);)+
            }
        }
    };
}

outcomes! {
    /// A flow begins and takes the VPN.
    Begun, flow_begun => Steer;
    /// A packet of a flow that takes the VPN.
    Held, flow_held => Steer;
    /// A flow begins that came in by the VPN; its replies will leave by it.
    CameByVpn, flow_came_by_vpn => Pass;
    /// A packet of a flow that goes direct or began before steer did.
    Left, flow_left => Pass;
    /// A flow begins and goes direct, because a rule says so.
    Direct, flow_direct => Pass;
    /// A flow begins and goes direct, because no rule speaks of its address.
    Unmatched, flow_unmatched => Pass;
    /// A packet that tells no flow (a later fragment, an echo request) takes the VPN by its address alone.
    Stateless, packet_stateless => Steer;
    /// A flow that must take the VPN found no room in `FLOWS`, and is stopped rather than let go half-way.
    FlowsFull, flows_full => Drop;
    /// A container sends of which it is not known yet in which scope it is.
    ScopeUnknown, scope_unknown => Drop;
    /// A packet of a scope would leave by the direct path: of a flow that began before the scope did, or a DNS question.
    Isolated, scope_isolated => Drop;
    /// A flow begins of which no rule speaks, in a scope that lets none of those out.
    Blocked, scope_blocked => Drop;
    /// A flow begins that a rule blocks, or that begins with a name which one blocks.
    Refused, flow_blocked => Drop;
    /// Not IP.
    NotIp, packet_not_ip => Pass;
    /// The headers contradict themselves or are cut off.
    BadPacket, packet_bad => Pass;
    /// A process's socket is in another network namespace; its packets are judged on their bridge.
    OtherNetns, socket_other_netns => Pass;
    /// The kernel refused to mark a socket that must take the VPN.
    NotMarked, socket_not_marked => Drop;
    /// An unconnected datagram that must take the VPN came from a socket bound to another address.
    BoundElsewhere, datagram_bound_elsewhere => Drop;
    /// An unconnected datagram must take the VPN, which has no address now.
    NoVpn, datagram_without_vpn => Drop;
    /// A packet with a VPN's mark was about to leave by another interface, or an unconnected datagram for a VPN came from a socket
    /// with the mark of another.
    WrongPath, packet_wrong_path => Drop;
    /// A DNS question was remembered.
    Asked, dns_asked => Pass;
    /// A DNS question was stopped, and user space asks it by the VPN.
    Relayed, dns_relayed => Drop;
    /// A DNS question or answer that is none, or not whole.
    BadMessage, dns_bad => Pass;
    /// A DNS answer to no question that was seen, or to one that was answered already.
    Unasked, dns_unasked => Pass;
    /// A DNS answer with the right ID and another name than was asked for.
    OtherName, dns_other_name => Pass;
    /// A DNS answer for a name that no rule speaks of.
    NoRule, dns_no_rule => Pass;
    /// A DNS answer whose addresses were learned.
    Learned, dns_learned => Pass;
    /// A DNS answer for a name with a rule for the direct path, of which only the beginning could be read.
    CutShort, dns_cut_short => Pass;
    /// The same for a name of the VPN or one that is blocked: it is held back, for an address in the rest would go direct.
    HeldBack, dns_held_back => Drop;
    /// An address has several verdicts now, by different names: the VPN wins, and then the direct path.
    Contested, address_contested => Pass;
    /// A name found no room in `NAMES`: its address has the verdict, but nobody can tell why.
    NamesFull, names_full => Pass;
    /// An address for the VPN, or to be blocked, found no room in `ADDRS`: the answer is held back, so that nobody acts on it.
    AddrsFull, addrs_full => Drop;
    /// A connection began with a name that tells nothing new.
    Named, hello_named => Pass;
    /// A connection began with no name.
    Nameless, hello_nameless => Pass;
    /// A connection began with a part of its name, if any; user space puts the parts together.
    InPieces, hello_in_pieces => Pass;
    /// A connection that goes direct began with a name of the VPN; later ones to its address will take it.
    Late, hello_late => Pass;
    /// The same, and it is stopped and reset, so that its next try takes the VPN.
    LateStopped, hello_late_stopped => Drop;
    /// A packet that QUIC begins with waits until user space has read the name in it.
    InitialHeld, quic_held => Drop;
    /// An event found no room in `EVENTS`, or a piece of what a connection began with in `SEGMENTS`.
    EventLost, event_lost => Pass;
    /// More programs were at work on one CPU than there are buffers: what was to be read is held back.
    Busy, buffers_busy => Drop;
    /// `CONFIG` or a buffer of the programs is not there.
    NoConfig, config_missing => Pass;
}

const _: () = assert!(size_of::<Stats>() == COUNTERS * size_of::<u64>());

#[cfg(feature = "user")]
// SAFETY: repr(C), all fields u64, so no padding, and every bit pattern is a value.
unsafe impl aya::Pod for Stats {}
