//! Classifiers on bridges, above all as filters of clsact, on any kernel, in a network namespace for each test; needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

#[path = "../route/netns.rs"]
#[expect(dead_code, reason = "the tests of routing need more of it")]
mod netns;

use std::path::Path;

use anyhow::Result;
use nix::net::if_::if_nametoindex;
use steer::datapath::{self, Attachment, Datapath, Pins, Room};

use self::netns::{ip, run, sh};

const BRIDGE: &str = "br0";
/// A filter of somebody else's.
const THEIRS: &str = "filter add dev br0 egress pref 9 protocol all u32 match u32 0 0";
const THEIR_QDISC: &str = "qdisc add dev br0 clsact";

fn tc(arguments: &str) -> String {
    sh("tc", arguments).unwrap()
}

/// A bridge, alone in its namespace.
fn bridge() -> u32 {
    ip("link add br0 type bridge").unwrap();
    ip("link set br0 up").unwrap();
    if_nametoindex(BRIDGE).unwrap()
}

/// All that a filter or a qdisc on the bridge changes.
fn host() -> String {
    [
        tc("qdisc show"),
        tc("filter show dev br0 ingress"),
        tc("filter show dev br0 egress"),
        tc("chain show dev br0 ingress"),
        tc("chain show dev br0 egress"),
    ]
    .join("--\n")
}

fn loaded() -> Datapath {
    let mut datapath = Datapath::load(None, Room::default()).unwrap();
    datapath.attach_by(Attachment::Clsact);
    datapath
}

/// What a run leaves that is killed: its filters hold the programs.
fn kill(datapath: Datapath) {
    std::mem::forget(datapath);
}

/// Pins of nobody.
fn no_pins() -> Pins {
    Pins::new(Path::new(
        "/sys/fs/bpf/steer-test-of-clsact-that-pins-nothing",
    ))
}

fn assert_attached() {
    for (hook, program) in [("ingress", "bridge_ingress"), ("egress", "bridge_egress")] {
        let filters = tc(&format!("filter show dev br0 {hook}"));
        let ours: Vec<_> = filters
            .lines()
            .filter(|line| line.contains(program))
            .collect();
        assert_eq!(ours.len(), 1, "{filters}");
        assert!(
            ours[0].contains("pref 7350 bpf chain 0 handle 0x735")
                && ours[0].contains("direct-action"),
            "{filters}"
        );
    }
}

fn attach(datapath: &mut Datapath, index: u32) {
    datapath.attach_bridge(BRIDGE, index).unwrap();
    assert_attached();
}

#[test]
fn nothing_is_left() -> Result<()> {
    run(async || {
        let index = bridge();
        let before = host();
        let mut datapath = loaded();
        attach(&mut datapath, index);
        datapath.detach_bridge(index);
        assert_eq!(host(), before);
        attach(&mut datapath, index);
        drop(datapath);
        assert_eq!(host(), before);
        Ok(())
    })
}

#[test]
fn what_was_there_stays() -> Result<()> {
    run(async || {
        let index = bridge();
        tc(THEIR_QDISC);
        for filters in ["", THEIRS] {
            if !filters.is_empty() {
                tc(filters);
            }
            let before = host();
            let mut datapath = loaded();
            let notes = datapath.attach_bridge(BRIDGE, index).unwrap();
            assert_attached();
            let expected: &[&str] = if filters.is_empty() {
                &[]
            } else {
                &[
                    "br0 has another's filter (u32) at egress pref 9, before steer's: \
                   what that does not let on to the next is not steered",
                ]
            };
            assert_eq!(notes, expected);
            drop(datapath);
            assert_eq!(host(), before);
        }
        Ok(())
    })
}

#[test]
fn what_came_later_stays_with_the_qdisc_it_is_on() -> Result<()> {
    run(async || {
        let index = bridge();
        tc(THEIR_QDISC);
        tc(THEIRS);
        let with_theirs = host();
        tc("qdisc del dev br0 clsact");
        for killed in [false, true] {
            let mut datapath = loaded();
            attach(&mut datapath, index);
            tc(THEIRS);
            if killed {
                kill(datapath);
                datapath::cleanup(&no_pins())?;
            } else {
                drop(datapath);
            }
            assert_eq!(host(), with_theirs, "killed: {killed}");
            tc("qdisc del dev br0 clsact");
        }
        Ok(())
    })
}

#[test]
fn of_anothers_program_that_comes_first_is_told() -> Result<()> {
    run(async || {
        let index = bridge();
        let load = || Datapath::load(None, Room::default()).unwrap();
        let mut another = load();
        if another.attachment() != Attachment::Tcx {
            eprintln!("left out: this kernel has no tcx");
            return Ok(());
        }
        assert_eq!(another.attach_bridge(BRIDGE, index)?, Vec::<String>::new());
        let notes = load().attach_bridge(BRIDGE, index)?;
        assert_eq!(notes.len(), 2, "{notes:?}");
        for (note, hook) in notes.iter().zip(["ingress", "egress"]) {
            let start = "br0 has another's program (id ";
            let end = format!(
                ") at {hook}, before steer's: what that does not let on to the next is not steered"
            );
            assert!(note.starts_with(start) && note.ends_with(&end), "{note}");
        }
        Ok(())
    })
}

#[test]
fn other_filters_go_on() -> Result<()> {
    run(async || {
        let index = bridge();
        ip("link add port type veth peer name peer")?;
        ip("link set port master br0 up")?;
        ip("link set peer up")?;
        ip("address add 10.9.0.1/24 dev br0")?;
        tc(THEIR_QDISC);
        ip("link add br1 type bridge")?;
        tc(
            "filter add dev br0 egress pref 40000 protocol all u32 match u32 0 0 action mirred egress mirror dev br1",
        );
        let mut datapath = loaded();
        attach(&mut datapath, index);
        let counted = || tc("-s filter show dev br0 egress");
        let before = counted();
        // Nobody answers; the question for the neighbour leaves by the bridge.
        std::net::UdpSocket::bind("10.9.0.1:0")?.send_to(b"x", "10.9.0.2:9")?;
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert_ne!(counted(), before);
        Ok(())
    })
}

#[test]
fn a_killed_runs_filters_are_taken_away() -> Result<()> {
    run(async || {
        let index = bridge();
        for theirs in [false, true] {
            if theirs {
                tc(THEIR_QDISC);
                tc(THEIRS);
            }
            let before = host();
            let mut datapath = loaded();
            attach(&mut datapath, index);
            kill(datapath);
            assert_attached();
            let done = datapath::cleanup(&no_pins())?;
            assert_eq!(done.len(), if theirs { 2 } else { 3 }, "{done:?}");
            assert_eq!(host(), before);
            assert!(datapath::cleanup(&no_pins())?.is_empty());
        }
        Ok(())
    })
}

#[test]
fn the_next_run_replaces_a_killed_ones_filters() -> Result<()> {
    run(async || {
        let index = bridge();
        let before = host();
        let mut killed = loaded();
        attach(&mut killed, index);
        let program = |filters: &str| {
            let (_, id) = filters.split_once(" id ").unwrap();
            id.split_once(' ').unwrap().0.to_owned()
        };
        let first = program(&tc("filter show dev br0 ingress"));
        kill(killed);
        let mut next = loaded();
        attach(&mut next, index);
        let second = program(&tc("filter show dev br0 ingress"));
        assert_ne!(first, second);
        drop(next);
        assert_eq!(host(), before);
        Ok(())
    })
}

#[test]
fn a_place_that_is_taken_is_left_alone() -> Result<()> {
    run(async || {
        let index = bridge();
        for theirs in [
            "filter add dev br0 egress pref 7350 protocol all u32 match u32 0 0",
            "filter add dev br0 egress pref 7350 protocol ip u32 match u32 0 0",
        ] {
            tc(THEIR_QDISC);
            tc(theirs);
            let before = host();
            let refused = loaded().attach_bridge(BRIDGE, index).unwrap_err();
            assert_eq!(
                refused.to_string(),
                "br0 has a filter of another's (u32) at egress pref 7350, where steer's would be; \
                 give that filter another preference"
            );
            assert_eq!(host(), before);
            tc("qdisc del dev br0 clsact");
        }
        tc("qdisc add dev br0 ingress");
        let before = host();
        let refused = loaded().attach_bridge(BRIDGE, index).unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("br0 has the qdisc ingress, which leaves no room"),
            "{refused}"
        );
        assert_eq!(host(), before);
        Ok(())
    })
}

#[test]
fn a_bridge_that_is_gone_is_no_failure() -> Result<()> {
    run(async || {
        let index = bridge();
        let mut datapath = loaded();
        attach(&mut datapath, index);
        ip("link del br0")?;
        datapath.detach_bridge(index);
        let refused = datapath.attach_bridge(BRIDGE, index).unwrap_err();
        assert!(refused.is_gone(), "{}", steer::error::sentence(&refused));
        Ok(())
    })
}

#[test]
fn a_qdisc_without_a_filter_yet_is_taken_away() -> Result<()> {
    run(async || {
        let index = bridge();
        let folder = tempfile::tempdir()?;
        let killed = || {
            let pins = folder.path().join("steer");
            std::fs::create_dir_all(pins.join(format!("clsact-{index}")))?;
            anyhow::Ok(Pins::new(&pins))
        };
        let before = host();
        tc(THEIR_QDISC);
        datapath::cleanup(&killed()?)?;
        assert_eq!(host(), before);
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);

        // Killed before there was a qdisc, and others came since.
        for theirs in [
            &["qdisc add dev br0 ingress"][..],
            &["qdisc del dev br0 ingress", THEIR_QDISC, THEIRS],
        ] {
            theirs.iter().for_each(|theirs| drop(tc(theirs)));
            let before = host();
            datapath::cleanup(&killed()?)?;
            assert_eq!(host(), before);
        }
        Ok(())
    })
}
