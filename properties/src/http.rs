//! The server's name in an HTTP/1 request.

use steer_common::{http::Request, opening::Step};

use crate::opening::{SIZE, Seen, check_cut, read};

/// Octets as the first ones of a flow, the last octet as where they are cut: what is said depends on the octets alone,
/// and stays true when more come. A name stands behind `Host:` or `://`.
pub fn check(octets: &[u8]) {
    let Some((&cut, octets)) = octets.split_last() else {
        return;
    };
    let octets = &octets[..octets.len().min(SIZE)];
    let seen = request(octets, 0);
    assert_eq!(
        seen,
        request(octets, 0xff),
        "octets behind the request tell"
    );
    check_cut(octets, cut, |octets| request(octets, 0));
    if let Seen::Named(name) = seen {
        let text = octets.to_ascii_lowercase();
        let marks: [&[u8]; 2] = [b"host:", b"://"];
        let found = marks.iter().any(|mark| {
            let ends = (0..text.len()).filter(|&at| text[at..].starts_with(mark));
            ends.map(|at| &text[at + mark.len()..])
                .any(|rest| rest.windows(name.len()).any(|part| part == name.as_bytes()))
        });
        assert!(found, "{name}");
    }
}

fn request(octets: &[u8], leftover: u8) -> Seen {
    read(octets, leftover, |opening| {
        let mut request = Request::new();
        request.begin();
        let mut step = Step::On;
        // An octet is looked at four times at most: where a stage passes it on to the next.
        for _ in 0..8 * SIZE {
            if step != Step::On {
                break;
            }
            step = request.step(opening);
        }
        step
    })
}
