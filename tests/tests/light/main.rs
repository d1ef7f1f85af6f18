//! End to end without Docker: a cgroup and a guest behind a bridge, on the light lab. These run
//! on any kernel, in virtual machines too.

mod adoption;
mod blocks;
mod bypass;
mod changes;
mod control;
mod crash;
mod datagrams;
mod dns_over_tcp;
mod doctor;
mod first_packet;
mod flood;
mod flows_keep_their_path;
mod forged_answers;
mod gets_along;
mod host_as_before;
mod inspectable;
mod lab;
mod leaks;
mod lifetimes;
mod mtu;
mod names;
mod new_bridges;
mod no_race;
mod processes;
mod reload;
mod resolved_before;
mod rules;
mod service;
mod several_vpns;
mod start_errors;
mod terminal;
mod top;
mod usage;
mod vpn_down;
