//! Others on the same host, with rules, marks and firewalls of their own: flows take their paths, and what is others' stays.

use anyhow::{Context, Result};
use steer_tests::{
    fixture::{BRIDGE, Shared},
    lab::{Hook, HostSnapshot},
};

/// Who else is there: how they come, and how they go.
struct Others {
    who: &'static str,
    come: &'static str,
    go: &'static str,
}

const OTHERS: [Others; 6] = [
    Others {
        who: "rules and marks like Tailscale's",
        come: "
            ip link add ts0 type veth peer name ts1; ip link set ts0 addrgenmode none; ip link set ts1 addrgenmode none; ip link set ts1 up; ip link set ts0 up; ip route add 100.64.0.0/10 dev ts0 table 52
            ip rule add pref 5210 fwmark 0x80000/0xff0000 lookup main
            ip rule add pref 5230 fwmark 0x80000/0xff0000 lookup default
            ip rule add pref 5250 fwmark 0x80000/0xff0000 unreachable
            ip rule add pref 5270 lookup 52
            nft add table inet ts; nft add chain inet ts in '{ type filter hook prerouting priority mangle; }'
            nft add rule inet ts in ct mark and 0xff0000 != 0 meta mark set ct mark and 0xff0000",
        go: "
            nft delete table inet ts
            for pref in 5210 5230 5250 5270; do ip rule del pref $pref; done
            ip link del ts0",
    },
    Others {
        who: "marks like Calico's",
        come: "
            nft add table inet cali; nft add chain inet cali in '{ type filter hook prerouting priority raw; }'
            nft add rule inet cali in meta mark set meta mark and 0x0000ffff or 0x00040000
            nft add chain inet cali mangle '{ type filter hook prerouting priority mangle; }'
            nft add rule inet cali mangle meta mark and 0x00010000 == 0x00010000 accept
            nft add rule inet cali mangle meta mark set meta mark and 0xfff0ffff or 0x00010000",
        go: "nft delete table inet cali",
    },
    Others {
        who: "connections' marks restored by iptables-nft",
        come: "
            iptables-nft -t mangle -A PREROUTING -j CONNMARK --restore-mark
            iptables-nft -t mangle -A OUTPUT -j CONNMARK --restore-mark",
        go: "
            iptables-nft -t mangle -F
            nft delete table ip mangle",
    },
    Others {
        who: "connections' marks restored by iptables-legacy",
        come: "
            iptables-legacy -t mangle -A PREROUTING -j CONNMARK --restore-mark
            iptables-legacy -t mangle -A OUTPUT -j CONNMARK --restore-mark",
        go: "iptables-legacy -t mangle -F",
    },
    Others {
        who: "filters on the bridge",
        come: "
            tc qdisc add dev br-guest clsact
            for hook in ingress egress; do
                tc filter add dev br-guest $hook pref 40000 protocol all u32 match u32 0 0
            done",
        go: "tc qdisc del dev br-guest clsact",
    },
    Others {
        who: "a firewall that checks the way back, by marks too",
        come: "
            sysctl -qw net.ipv4.conf.all.src_valid_mark=1
            nft add table inet fw
            nft add chain inet fw early '{ type filter hook prerouting priority raw + 10; }'
            nft add chain inet fw late '{ type filter hook prerouting priority filter + 10; }'
            for chain in early late; do
                nft add rule inet fw $chain meta l4proto icmpv6 accept
                nft add rule inet fw $chain fib saddr . mark . iif oif missing drop
            done",
        go: "
            nft delete table inet fw
            sysctl -qw net.ipv4.conf.all.src_valid_mark=0",
    },
];

#[test]
fn flows_take_their_paths_whoever_else_is_there() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    // Tables of the legacy kind are there from their first use on.
    lab.in_box("iptables-legacy -t mangle -S >/dev/null")?;
    let alone = HostSnapshot::take(&lab.lab)?;
    for Others { who, come, go } in OTHERS {
        // Those who are there first, and those who come later.
        lab.in_box(come).context(who)?;
        let with_others = HostSnapshot::take(&lab.lab)?;
        lab.start()?;
        lab.steers().context(who)?;
        lab.stop()?;
        let left = with_others.diff(&HostSnapshot::take(&lab.lab)?);
        assert_eq!(left, "", "{who}");
        lab.in_box(go).context(who)?;
        assert_eq!(alone.diff(&HostSnapshot::take(&lab.lab)?), "", "{who}");

        lab.start()?;
        let steered = HostSnapshot::take(&lab.lab)?;
        lab.in_box(come).context(who)?;
        lab.steers().with_context(|| format!("{who}, later"))?;
        lab.in_box(go).context(who)?;
        lab.steers().with_context(|| format!("{who}, gone"))?;
        assert_eq!(steered.diff(&HostSnapshot::take(&lab.lab)?), "", "{who}");
        lab.stop()?;
    }
    lab.done()
}

#[test]
fn flows_take_their_paths_beside_firewalld() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let alone = HostSnapshot::take(&lab.lab)?;
    let firewalld = lab.lab.firewalld(BRIDGE)?;
    let with_it = HostSnapshot::take(&lab.lab)?;
    lab.start()?;
    lab.steers()?;
    for reload in ["--reload", "--complete-reload"] {
        firewalld.command(&lab.lab, reload)?;
        lab.steers().context(reload)?;
    }
    lab.stop()?;
    assert_eq!(with_it.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.start()?;
    firewalld.end()?;
    lab.steers().context("it has ended")?;
    let firewalld = lab.lab.firewalld(BRIDGE)?;
    lab.steers().context("it came later")?;
    lab.stop()?;
    firewalld.end()?;
    assert_eq!(alone.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.done()
}

#[test]
fn programs_of_others_on_a_steered_cgroup_go_on() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let alone = HostSnapshot::take(&lab.lab)?;
    let come = |lab: &Shared| {
        let mut hooks = Hook::SHARED.into_iter();
        hooks.try_for_each(|hook| lab.lab.attach_other("steered", hook, "multi"))
    };
    let go = |lab: &Shared| {
        let mut hooks = Hook::SHARED.into_iter();
        hooks.try_for_each(|hook| lab.lab.detach_other("steered", hook))
    };
    come(&lab)?;
    let with_others = HostSnapshot::take(&lab.lab)?;
    lab.start()?;
    lab.steers()?;
    lab.stop()?;
    assert_eq!(with_others.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.start()?;
    go(&lab)?;
    lab.steers().context("they have gone")?;
    come(&lab)?;
    lab.steers().context("they came later")?;
    lab.stop()?;
    go(&lab)?;
    assert_eq!(alone.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.done()
}
