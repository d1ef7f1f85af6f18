//! The parser of ClientHellos: whole, cut off anywhere, in several records, and what is none.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

use proptest::{prelude::*, sample::Index};
use steer_common::{
    opening::{Opening, Step},
    tls::{Hello, RECORD_HEADER, STEPS},
};

const SERVER_NAME: u16 = 0;
const KEY_SHARE: u16 = 51;
const PRE_SHARED_KEY: u16 = 41;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
const GREASE: u16 = 0x5a5a;

/// What reading comes to.
#[derive(Debug, PartialEq)]
enum Seen {
    Name(String),
    NoName,
    More,
    Records,
    Foreign,
}

fn named(name: &str) -> Seen {
    Seen::Name(name.to_owned())
}

fn read_in<const SIZE: usize>(octets: &[u8], joined: bool) -> (Seen, bool) {
    let mut opening = Box::new(Opening::<SIZE>::new());
    opening.fill(octets);
    let mut hello = Hello::new();
    let mut step = if joined {
        hello.begin_joined(&opening)
    } else {
        hello.begin(&opening)
    };
    let mut steps = 0;
    while step == Step::On {
        step = hello.step(&opening);
        steps += 1;
        assert!(
            steps <= SIZE,
            "it ends after as many steps as there are octets"
        );
    }
    let seen = match step {
        Step::On => unreachable!(),
        Step::Name(name) => named(std::str::from_utf8(opening.text(name)).unwrap()),
        Step::NoName => Seen::NoName,
        Step::More => Seen::More,
        Step::Records => Seen::Records,
        Step::Foreign => Seen::Foreign,
    };
    (seen, hello.ech())
}

/// As the kernel does; what fits in its buffer, user space reads alike.
fn read(octets: &[u8]) -> Seen {
    let (kernel, ech) = read_in::<4096>(octets, false);
    let user = read_in::<16384>(octets, false);
    if octets.len() <= 4096 || kernel != Seen::More {
        assert_eq!((&kernel, ech), (&user.0, user.1));
    }
    kernel
}

fn with_length<const N: usize>(octets: &[u8]) -> Vec<u8> {
    let length = octets.len().to_be_bytes();
    [&length[length.len() - N..], octets].concat()
}

fn server_name(name: &[u8]) -> (u16, Vec<u8>) {
    let entry = [&[0][..], &with_length::<2>(name)].concat();
    (SERVER_NAME, with_length::<2>(&entry))
}

/// A handshake message.
fn hello(session: usize, extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(with_length::<1>(&vec![9; session]));
    body.extend(with_length::<2>(&[0x13, 0x01, 0x13, 0x02]));
    body.extend(with_length::<1>(&[0]));
    let extensions: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, data)| [&kind.to_be_bytes()[..], &with_length::<2>(data)].concat())
        .collect();
    body.extend(with_length::<2>(&extensions));
    [&[1][..], &with_length::<3>(&body)].concat()
}

/// In records of at most so many octets.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|part| [&[22, 3, 1][..], &with_length::<2>(part)].concat())
        .collect()
}

fn record(message: &[u8]) -> Vec<u8> {
    records(message, 16384)
}

fn position(octets: &[u8], text: &str) -> usize {
    let found = octets
        .windows(text.len())
        .position(|w| w == text.as_bytes());
    found.unwrap()
}

fn name() -> impl Strategy<Value = String> {
    (
        "[a-zA-Z0-9_-]{1,63}(\\.[a-zA-Z0-9_-]{1,63}){0,2}",
        "[a-z][a-z0-9-]{1,20}",
    )
        .prop_map(|(host, top)| format!("{host}.{top}"))
}

fn others() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    let kind = any::<u16>().prop_filter("told apart", |kind| {
        ![SERVER_NAME, ENCRYPTED_CLIENT_HELLO].contains(kind)
    });
    prop::collection::vec((kind, prop::collection::vec(any::<u8>(), 0..300)), 0..12)
}

/// Extensions with that of the name among them.
fn among(mut others: Vec<(u16, Vec<u8>)>, at: Index, name: &str) -> Vec<(u16, Vec<u8>)> {
    others.insert(at.index(others.len() + 1), server_name(name.as_bytes()));
    others
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_name_is_found_as_soon_as_it_is_here_whole(
        name in name(), others in others(), at in any::<Index>(), session in 0usize..33,
    ) {
        let octets = record(&hello(session, &among(others, at, &name)));
        let end = position(&octets, &name) + name.len();
        for cut in 0..octets.len() {
            let expected = if cut < end { Seen::More } else { named(&name) };
            prop_assert_eq!(read(&octets[..cut]), expected, "{} of {} octets", cut, octets.len());
        }
    }

    #[test]
    fn that_there_is_no_name_is_said_of_a_whole_hello_only(others in others(), session in 0usize..33) {
        let octets = record(&hello(session, &others));
        for cut in 0..octets.len() {
            prop_assert_eq!(read(&octets[..cut]), Seen::More, "{} of {} octets", cut, octets.len());
        }
        prop_assert_eq!(read(&octets), Seen::NoName);
    }

    #[test]
    fn several_records_have_to_be_joined(
        name in name(), others in others(), at in any::<Index>(), size in 1usize..600,
    ) {
        let message = hello(32, &among(others, at, &name));
        let octets = records(&message, size);
        let first = size.min(message.len());
        let in_first = position(&message, &name) + name.len() <= first;
        let expected = if in_first { named(&name) } else { Seen::Records };
        prop_assert_eq!(read(&octets), expected);
        // Of less than the first record nobody can tell.
        let cut = RECORD_HEADER as usize + first - 1;
        let seen = read(&octets[..cut]);
        prop_assert!(seen == Seen::More || in_first && seen == named(&name), "{seen:?}");
        prop_assert_eq!(read_in::<16384>(&message, true).0, named(&name));
    }

    #[test]
    fn any_octets_are_read_without_harm(octets in prop::collection::vec(any::<u8>(), 0..600)) {
        read(&octets);
        read_in::<4096>(&octets, true);
    }

    #[test]
    fn any_broken_hello_is_read_without_harm(
        name in name(), others in others(), at in any::<Index>(),
        broken in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4), cut in any::<Index>(),
    ) {
        let mut octets = record(&hello(32, &among(others, at, &name)));
        for (at, octet) in broken {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        read(&octets);
        read(&octets[..cut.index(octets.len())]);
    }
}

#[test]
fn a_post_quantum_hello_is_read_in_one_piece_and_up_to_its_name() {
    let share = (KEY_SHARE, vec![5; 1300]);
    let ticket = (PRE_SHARED_KEY, vec![6; 400]);
    for extensions in [
        vec![
            server_name(b"auth.docker.io"),
            share.clone(),
            ticket.clone(),
        ],
        vec![
            (GREASE, vec![]),
            share,
            server_name(b"auth.docker.io"),
            (GREASE, vec![0]),
            ticket,
        ],
    ] {
        let octets = record(&hello(32, &extensions));
        assert!(octets.len() > 1700);
        assert_eq!(read(&octets), named("auth.docker.io"));
    }
}

#[test]
fn beyond_the_kernels_buffer_user_space_reads_on() {
    let octets = record(&hello(
        32,
        &[(KEY_SHARE, vec![5; 5000]), server_name(b"a.example")],
    ));
    assert_eq!(read(&octets), Seen::More);
    assert_eq!(read_in::<16384>(&octets, false).0, named("a.example"));
}

#[test]
fn of_an_encrypted_hello_the_outer_name_counts() {
    let ech = (ENCRYPTED_CLIENT_HELLO, vec![0; 200]);
    let outer = server_name(b"public.example");
    for (extensions, expected) in [
        (
            vec![outer.clone(), ech.clone()],
            (named("public.example"), true),
        ),
        (
            vec![ech.clone(), outer.clone()],
            (named("public.example"), true),
        ),
        (vec![ech], (Seen::NoName, true)),
        (vec![outer], (named("public.example"), false)),
    ] {
        assert_eq!(
            read_in::<4096>(&record(&hello(0, &extensions)), false),
            expected
        );
    }
}

#[test]
fn names_and_what_is_none() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    for (text, expected) in [
        ("registry-1.docker.io", Some("registry-1.docker.io")),
        ("Registry-1.Docker.IO.", Some("Registry-1.Docker.IO")),
        ("_dmarc.example", Some("_dmarc.example")),
        ("localhost", Some("localhost")),
        ("1.2.3.a", Some("1.2.3.a")),
        ("1e100.net", Some("1e100.net")),
        (&longest, Some(&*longest)),
        (&format!("{longest}."), Some(&*longest)),
        (&format!("{longest}b"), None),
        (&format!("{label}a.example"), None),
        ("192.0.2.1", None),
        ("192.0.2.1.", None),
        ("3221225985", None),
        ("2001:db8::1", None),
        ("[2001:db8::1]", None),
        (".", None),
        ("..", None),
        (".example", None),
        ("a..example", None),
        ("a.example..", None),
        ("a.example:443", None),
        ("a example", None),
        ("a.example\0", None),
        ("b\u{fc}cher.example", None),
        ("*.example", None),
    ] {
        let expected = expected.map_or(Seen::NoName, named);
        let octets = record(&hello(
            32,
            &[server_name(text.as_bytes()), (GREASE, vec![])],
        ));
        assert_eq!(read(&octets), expected, "{text:?}");
    }
}

#[test]
fn a_name_of_253_octets_among_many_extensions_takes_no_more_steps_than_the_kernel_has() {
    let name = format!("{}example", "a.".repeat(123));
    let mut extensions = vec![(GREASE, vec![]); 64];
    extensions.push(server_name(name.as_bytes()));
    extensions.extend(vec![(GREASE, vec![]); 32]);
    let mut opening = Opening::<4096>::new();
    opening.fill(&record(&hello(32, &extensions)));
    let mut hello = Hello::new();
    assert_eq!(hello.begin(&opening), Step::On);
    let steps = (1..).find(|_| hello.step(&opening) != Step::On).unwrap();
    assert!(steps <= STEPS, "{steps} steps");
}

#[test]
fn a_hello_of_before_extensions_has_no_name() {
    let mut message = hello(32, &[]);
    message.truncate(message.len() - 2);
    message[3] -= 2;
    assert_eq!(read(&record(&message)), Seen::NoName);
}

#[test]
fn a_list_that_begins_with_another_type_names_no_host() {
    let list = [&[7, 0, 2, b'x', b'y'][..], &[0, 0, 9], b"a.example"].concat();
    let octets = record(&hello(0, &[(SERVER_NAME, with_length::<2>(&list))]));
    assert_eq!(read(&octets), Seen::NoName);
}

#[test]
fn once_found_a_name_stays_found() {
    let twice = [server_name(b"a.example"), server_name(b"b.example")];
    assert_eq!(read(&record(&hello(4, &twice))), named("a.example"));
    let mut octets = record(&hello(4, &[server_name(b"a.example"), (GREASE, vec![1])]));
    let last = octets.len() - 2;
    octets[last] = 99;
    assert_eq!(read(&octets), named("a.example"));
}

#[test]
fn what_is_no_hello() {
    let good = record(&hello(
        4,
        &[server_name(b"a.example"), (GREASE, vec![1, 2, 3])],
    ));
    assert_eq!(read(&good), named("a.example"));
    let suites = 5 + 4 + 2 + 32 + 1 + 4;
    let methods = suites + 2 + 4;
    let extensions = methods + 2;
    let name = extensions + 2;
    for (what, at, octet) in [
        ("an alert", 0, 21),
        ("another version of the record", 1, 2),
        ("an empty record", 4, 0),
        ("a record that is too long", 3, 0x41),
        ("a ServerHello", 5, 2),
        ("a session ID that is too long", 43, 33),
        ("no cipher suites", suites + 1, 0),
        ("half a cipher suite", suites + 1, 3),
        ("cipher suites beyond its end", suites, 1),
        ("no compression method", methods, 0),
        ("compression methods beyond its end", methods, 255),
        ("extensions beyond its end", extensions + 1, 255),
        ("extensions that end before it does", extensions + 1, 1),
        ("an extension beyond its end", name + 3, 99),
        (
            "a list of names of another size than its extension",
            name + 5,
            11,
        ),
        ("a name beyond its list", name + 8, 10),
        ("an empty name", name + 8, 0),
    ] {
        let mut octets = good.clone();
        octets[at] = octet;
        if (at, octet) == (4, 0) {
            octets[3] = 0;
        }
        assert_eq!(read(&octets), Seen::Foreign, "{what}");
    }
    let empty = [(SERVER_NAME, vec![0, 0])];
    assert_eq!(read(&record(&hello(4, &empty))), Seen::Foreign);
    for octets in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"SSH-2.0-x\r\n",
        b"\x16\x02",
        b"\0",
    ] {
        assert_eq!(read(octets), Seen::Foreign, "{octets:?}");
    }
}
