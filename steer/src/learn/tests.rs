//! Streams put together from segments, and what is found in them.

use std::time::{Duration, Instant};

use proptest::{prelude::*, sample::Index};

use super::{
    hello::{Greeting, Greetings},
    messages::{Message, Messages},
    stream::{Limits, Outcome, Read, Reader, Segment, Streams, Why},
};

/// Finds the octets up to each line's end.
struct Lines;

impl Reader for Lines {
    type Found = Vec<u8>;

    fn read(&mut self, octets: &[u8]) -> Read<Vec<u8>> {
        match octets.iter().position(|&octet| octet == b'\n') {
            Some(end) if octets[..end] == *b"quit" => Read::Last(b"quit".to_vec()),
            Some(end) => Read::Next(octets[..end].to_vec(), end + 1),
            None => Read::More,
        }
    }
}

const LIMITS: Limits = Limits {
    flows: 4,
    octets: 1000,
    ahead: 64,
    idle: Duration::from_secs(10),
};

fn outcomes<K, F>(told: Vec<(K, Outcome<F>)>) -> Vec<Outcome<F>> {
    told.into_iter().map(|(_, outcome)| outcome).collect()
}

fn line(text: &str) -> Outcome<Vec<u8>> {
    Outcome::Found(text.as_bytes().to_vec())
}

/// A stream cut into pieces: where each begins, and its octets.
fn pieces(stream: &[u8], cuts: &[Index]) -> Vec<(usize, Vec<u8>)> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|ends| (ends[0], stream[ends[0]..ends[1]].to_vec()))
        .collect()
}

fn feed<R: Reader>(
    streams: &mut Streams<u8, R>,
    first: u32,
    pieces: &[(usize, Vec<u8>)],
) -> Vec<Outcome<R::Found>> {
    let now = Instant::now();
    let mut told = Vec::new();
    for (at, octets) in pieces {
        let sequence = first.wrapping_add(*at as u32);
        let segment = Segment {
            first,
            sequence,
            octets,
        };
        told.extend(outcomes(streams.segment(&1, segment, now)));
    }
    told
}

proptest! {
    #[test]
    fn any_order_of_any_pieces_reads_the_same(
        lines in prop::collection::vec("[a-p]{0,40}", 1..12), first in any::<u32>(),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
        again in prop::collection::vec((any::<Index>(), any::<Index>()), 0..12),
        order in any::<u64>(), near_the_end in any::<bool>(),
    ) {
        // Half of the streams pass the end of the sequence numbers.
        let first = if near_the_end { first | 0xffff_ff00 } else { first };
        let stream: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
        let mut pieces = pieces(&stream, &cuts);
        for (from, to) in again {
            let (from, to) = (from.index(stream.len()), to.index(stream.len()));
            pieces.push((from.min(to), stream[from.min(to)..from.max(to)].to_vec()));
        }
        let mut state = order | 1;
        for i in (1..pieces.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            pieces.swap(i, (state >> 33) as usize % (i + 1));
        }
        let mut streams = Streams::new(Lines, LIMITS);
        let told = feed(&mut streams, first, &pieces);
        let expected: Vec<_> = lines.iter().map(|text| line(text)).collect();
        prop_assert_eq!(told, expected);
    }

    #[test]
    fn any_segments_are_taken_in_without_harm(
        segments in prop::collection::vec((any::<u32>(), any::<u32>(), 0usize..3000), 1..100),
    ) {
        let mut streams = Streams::new(Lines, LIMITS);
        for (first, sequence, size) in segments {
            let octets = vec![b'a'; size];
            // Near each other, and anywhere.
            for (first, sequence) in [(first, sequence), (0, sequence % 2000)] {
                let segment = Segment { first, sequence, octets: &octets };
                for outcome in outcomes(streams.segment(&1, segment, Instant::now())) {
                    prop_assert!(matches!(outcome, Outcome::GivenUp(_)));
                }
            }
        }
    }

    #[test]
    fn messages_are_found_however_they_are_cut(
        sizes in prop::collection::vec(12usize..3000, 1..8), cuts in prop::collection::vec(any::<Index>(), 0..20),
    ) {
        let messages: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(i, &size)| vec![i as u8; size]).collect();
        let stream: Vec<u8> = messages
            .iter()
            .flat_map(|message| [&(message.len() as u16).to_be_bytes()[..], message].concat())
            .collect();
        let mut streams = Streams::new(Messages, Limits::default());
        let told = feed(&mut streams, 5, &pieces(&stream, &cuts));
        let expected: Vec<_> = messages.into_iter().map(|m| Outcome::Found(Message::Whole(m))).collect();
        prop_assert_eq!(told, expected);
    }
}

#[test]
fn what_comes_first_stays() {
    let mut streams = Streams::new(Lines, LIMITS);
    let told = feed(
        &mut streams,
        0,
        &[
            (0, b"ab".to_vec()),
            (1, b"XXc".to_vec()),
            (6, b"f\n".to_vec()),
            (3, b"YYYYY".to_vec()),
        ],
    );
    // What closes a gap also replaces what waited behind it.
    assert_eq!(told, []);
    let told = feed(&mut streams, 0, &[(8, b"\n".to_vec())]);
    assert_eq!(told, [line("abXcYYYY")]);
}

#[test]
fn what_is_done_with_is_not_begun_anew_until_its_first_number_is_another() {
    let mut streams = Streams::new(Lines, LIMITS);
    let quit = [(0, b"quit\n".to_vec())];
    assert_eq!(feed(&mut streams, 7, &quit), [line("quit")]);
    assert_eq!(feed(&mut streams, 7, &quit), []);
    assert_eq!(feed(&mut streams, 8, &quit), [line("quit")]);
    assert!(!streams.forget(&1));
    assert_eq!(feed(&mut streams, 8, &quit), [line("quit")]);
}

#[test]
fn a_stream_that_is_too_long_is_given_up_and_told_once() {
    let mut streams = Streams::new(Lines, LIMITS);
    let told = feed(
        &mut streams,
        0,
        &[(0, vec![b'a'; 1001]), (1001, vec![b'a'; 9])],
    );
    assert_eq!(told, [Outcome::GivenUp(Why::TooLong)]);
    let told = feed(&mut streams, 1, &[(2000, b"a".to_vec())]);
    assert_eq!(told, [Outcome::GivenUp(Why::TooLong)]);
    // Reading makes room, within a segment as well.
    let lines = "123456789\n".repeat(500).into_bytes();
    let told = feed(&mut streams, 2, &[(0, lines)]);
    assert_eq!(told, vec![line("123456789"); 500]);
}

#[test]
fn too_many_pieces_out_of_order_are_given_up() {
    let mut streams = Streams::new(Lines, LIMITS);
    let pieces: Vec<_> = (0..70).map(|i| (2 * i + 1, b"a".to_vec())).collect();
    let told = feed(&mut streams, 0, &pieces);
    assert_eq!(told, [Outcome::GivenUp(Why::Scattered)]);
}

#[test]
fn streams_make_room_for_others_and_end_when_nothing_comes() {
    let mut streams = Streams::new(Lines, LIMITS);
    let begin = Instant::now();
    let segment = |octets| Segment {
        first: 0,
        sequence: 0,
        octets,
    };
    for key in 0..4 {
        let now = begin + Duration::from_secs(key);
        assert_eq!(streams.segment(&key, segment(b"a"), now), []);
    }
    let later = begin + Duration::from_secs(4);
    assert_eq!(streams.segment(&0, segment(b"a"), later), []);
    // One that is done with leaves before any that waits.
    let told = streams.segment(&2, segment(b"ab\nquit\n"), later);
    assert_eq!(outcomes(told), [line("ab"), line("quit")]);
    assert_eq!(streams.segment(&4, segment(b"a"), later), []);
    let told = streams.segment(&5, segment(b"a"), later);
    assert_eq!(told, [(1, Outcome::GivenUp(Why::Crowded))]);
    assert_eq!(streams.len(), 4);

    assert_eq!(streams.expire(begin + Duration::from_secs(12)), []);
    let told = streams.expire(begin + Duration::from_secs(13));
    assert_eq!(told, [(3, Outcome::GivenUp(Why::Idle))]);
    assert!(streams.forget(&0));
    assert_eq!(streams.expire(begin + Duration::from_secs(14)).len(), 2);
    assert!(streams.is_empty());
}

#[test]
fn something_too_short_for_a_message_is_no_dns() {
    let mut streams = Streams::new(Messages, Limits::default());
    let told = feed(&mut streams, 0, &[(0, vec![0, 11, 1, 2])]);
    assert_eq!(told, [Outcome::Found(Message::Foreign)]);
    let longest = [&[0xff, 0xff][..], &[7; 65_535]].concat();
    let told = feed(&mut streams, 1, &[(0, longest)]);
    assert_eq!(told, [Outcome::Found(Message::Whole(vec![7; 65_535]))]);
}

#[test]
fn other_protocols_are_told_by_their_first_octets() {
    for (octets, expected) in [
        (&b"SSH-2.0-OpenSSH\r\n"[..], Some(Greeting::Foreign)),
        (b"\x15\x03\x01\x00\x02\x01\x00", Some(Greeting::Foreign)),
        (b"\x16\x03\x01\x00\x04\x02", Some(Greeting::Foreign)),
        (b"\x16\x03\x01\x00\x01\x01\x17", Some(Greeting::Foreign)),
        (
            b"\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x00",
            Some(Greeting::Foreign),
        ),
        (b"\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00", None),
        (b"GET / HTTP/1.1\r\n\r\n", Some(Greeting::Unnamed)),
        (b"GET / HTTP/1.1\r\nHost: a.ex", None),
        (b"", None),
    ] {
        let read = Greetings::new().read(octets);
        assert_eq!(read, expected.map_or(Read::More, Read::Last), "{octets:?}");
    }
    let Read::Last(Greeting::Named { name, ech: false }) =
        Greetings::new().read(b"GET / HTTP/1.1\r\nHost: A.Example.:80\r\n")
    else {
        panic!("no name")
    };
    assert_eq!(name.as_str(), "a.example");
}
