//! The parser of HTTP/1 requests: whole, cut off anywhere, and what is none.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

use proptest::prelude::*;
use steer_common::{
    http::{Request, STEPS},
    opening::{Opening, Step},
};

/// What reading comes to.
#[derive(Debug, PartialEq)]
enum Seen {
    Name(String),
    NoName,
    More,
    Foreign,
}

fn named(name: &str) -> Seen {
    Seen::Name(name.to_owned())
}

fn read_in<const SIZE: usize>(octets: &[u8]) -> Seen {
    let mut opening = Box::new(Opening::<SIZE>::new());
    opening.fill(octets);
    let mut request = Request::new();
    request.begin();
    let mut step = Step::On;
    let mut steps = 0;
    while step == Step::On {
        step = request.step(&opening);
        steps += 1;
        assert!(
            steps <= 2 * SIZE,
            "it ends after twice as many steps as there are octets"
        );
    }
    match step {
        Step::Name(name) => named(std::str::from_utf8(opening.text(name)).unwrap()),
        Step::NoName => Seen::NoName,
        Step::More => Seen::More,
        Step::Foreign => Seen::Foreign,
        Step::On | Step::Records => panic!("{step:?}"),
    }
}

/// As the kernel does; what fits in its buffer, user space reads alike.
fn read(octets: impl AsRef<[u8]>) -> Seen {
    let octets = octets.as_ref();
    let kernel = read_in::<4096>(octets);
    if octets.len() <= 4096 || kernel != Seen::More {
        assert_eq!(kernel, read_in::<16384>(octets));
    }
    kernel
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_-]{1,63}(\\.[a-zA-Z0-9_-]{1,63}){0,2}\\.[a-z]{2,10}"
}

fn fields() -> impl Strategy<Value = String> {
    prop::collection::vec("[A-GI-Za-gi-z-]{1,20}: ?[ -~\u{80}-\u{ff}]{0,60}\r\n", 0..8)
        .prop_map(|fields| fields.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_host_is_found_as_soon_as_it_is_here_whole(
        method in "GET|POST|M-SEARCH|BASELINE-CONTROL", path in "/[!-~]{0,80}", before in fields(), after in fields(),
        field in "[Hh][Oo][Ss][Tt]:[ \t]{0,3}", name in name(), port in "(\\.)?(:[0-9]{1,5})?[ \t]{0,2}",
    ) {
        let head = format!("{method} {path} HTTP/1.1\r\n{before}{field}{name}");
        let request = format!("{head}{port}\r\n{after}\r\n");
        // A dot at the end may be the root's or that of a further label.
        let dot = usize::from(port.starts_with('.'));
        for cut in 0..=request.len() {
            let expected = if cut <= head.len() + dot { Seen::More } else { named(&name) };
            prop_assert_eq!(read(&request.as_bytes()[..cut]), expected, "{:?}", &request.as_bytes()[..cut]);
        }
    }

    #[test]
    fn that_there_is_no_name_is_said_of_a_whole_head_only(path in "/[!-~]{0,80}", fields in fields()) {
        let request = format!("GET {path} HTTP/1.0\r\n{fields}\r\n");
        for cut in 0..request.len() {
            prop_assert_eq!(read(&request.as_bytes()[..cut]), Seen::More);
        }
        prop_assert_eq!(read(request), Seen::NoName);
    }

    #[test]
    fn the_target_in_absolute_form_counts(
        scheme in "https?|HTTP|ftp", user in "([a-z]{1,5}(:[a-z]{0,5})?@)?", name in name(), rest in "(:[0-9]{0,5})?([/?#][!-~]{0,40})?",
    ) {
        let line = format!("GET {scheme}://{user}{name}{rest} HTTP/1.1\r\n");
        let request = format!("{line}Host: other.example\r\n\r\n");
        for cut in 0..request.len() {
            let expected = if cut < line.len() { Seen::More } else { named(&name) };
            prop_assert_eq!(read(&request.as_bytes()[..cut]), expected);
        }
    }

    #[test]
    fn any_octets_are_read_without_harm(octets in prop::collection::vec(any::<u8>(), 0..600)) {
        read(octets);
    }

    #[test]
    fn any_text_is_read_without_harm(start in "(GET |POST /|PUT http://)?", text in "[ -~\r\n\t]{0,300}") {
        read(start + &text);
    }
}

#[test]
fn requests() {
    for (request, expected) in [
        ("GET / HTTP/1.1\r\nHost: a.example\r\n", Some("a.example")),
        ("GET / HTTP/1.1\nhost:a.example\n", Some("a.example")),
        (
            "\r\n\r\nGET / HTTP/1.1\r\nHOST: \ta.example:8080\r\n",
            Some("a.example"),
        ),
        (
            "GET / HTTP/1.1\r\nX-Host: b.example\r\nHost2: c.example\r\nHost: a.example.\r\n",
            Some("a.example"),
        ),
        (
            "GET / HTTP/1.1\r\nHos\r\nHost: a.example\r\n",
            Some("a.example"),
        ),
        ("GET / HTTP/1.1\r\nHost: a.example, b.example\r\n", None),
        (
            "CONNECT b.example:443 HTTP/1.1\r\nHost: a.example:443\r\n",
            Some("a.example"),
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n",
            Some("a.example"),
        ),
        (
            "GET /http://b.example/ HTTP/1.1\r\nHost: a.example\r\n",
            Some("a.example"),
        ),
        (
            "GET urn:x HTTP/1.1\r\nHost: a.example\r\n",
            Some("a.example"),
        ),
        (
            "GET http:/b.example/ HTTP/1.1\r\nHost: a.example\r\n",
            Some("a.example"),
        ),
        (
            "GET http://[2001:db8::1]:80/ HTTP/1.1\r\nHost: a.example\r\n",
            None,
        ),
        ("GET http:///x HTTP/1.1\r\nHost: a.example\r\n", None),
        ("GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n", None),
        ("GET / HTTP/1.1\r\nHost: 192.0.2.1:8080\r\n", None),
        ("GET / HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n", None),
        ("GET / HTTP/1.1\r\nHost:\r\n", None),
        ("GET / HTTP/1.1\r\nHost: \r\nHost: a.example\r\n", None),
        ("GET / HTTP/1.0\r\n\r\nHost: a.example\r\n", None),
    ] {
        assert_eq!(
            read(request),
            expected.map_or(Seen::NoName, named),
            "{request:?}"
        );
    }
}

#[test]
fn what_is_no_request() {
    for octets in [
        &b"\x16\x03\x01\x02"[..],
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"EHLO mail.example\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\r\n",
        b"GET / HTTP/1.x\r\n",
        b"GET / HTTP/1.1 \r\n",
        b"GET http://a.example\r\n",
        b"get / HTTP/1.1\r\n",
        b" / HTTP/1.1\r\n",
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZ / HTTP/1.1\r\n",
    ] {
        assert_eq!(read(octets), Seen::Foreign, "{octets:?}");
    }
}

#[test]
fn a_host_behind_4000_octets_of_cookies_takes_no_more_steps_than_the_kernel_has() {
    let cookie = "c".repeat(3900);
    let request = format!("GET / HTTP/1.1\r\nCookie: {cookie}\r\nHost: a.example\r\n");
    let mut opening = Opening::<4096>::new();
    opening.fill(request.as_bytes());
    let mut request = Request::new();
    request.begin();
    let steps = (1..).find(|_| request.step(&opening) != Step::On).unwrap();
    assert!(steps <= STEPS, "{steps} steps");
}
