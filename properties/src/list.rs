//! Lists of rules that others keep.

use steer::rules::list::{Format, Parsed, Selector, parse};

use crate::domain::assert_is_a_sentence;

/// Complaints that are kept of a list.
const KEPT: usize = 5;

/// A first octet that chooses a format, and a list: what is passed over is counted and said in a few sentences with
/// lines that the list has. A list of lines says what its halves say.
pub fn check(octets: &[u8]) {
    let Some((&format, octets)) = octets.split_first() else {
        return;
    };
    Format::guess(octets);
    let format = Format::ALL[usize::from(format) % Format::ALL.len()];
    if format == Format::Geosite {
        let selectors: Vec<Selector> = ["geosite:test", "geosite:test@ads"]
            .map(|text| text.parse().expect("it selects"))
            .into();
        match parse(format, octets, &selectors) {
            Ok(parsed) => check_parsed(&parsed, 0),
            Err(error) => assert_is_a_sentence(&error.to_string()),
        }
        return;
    }
    let whole = lines(format, octets);
    let number = octets.split(|&octet| octet == b'\n').count();
    check_parsed(&whole, number);
    assert!(whole.skipped.count <= number, "{:?}", whole.skipped);
    let middle = octets.len() / 2;
    let end = octets[middle..].iter().position(|&octet| octet == b'\n');
    let halves = end.map(|end| (&octets[..middle + end], &octets[middle + end + 1..]));
    if let Some((first, second)) = halves
        && !second.starts_with(b"\xef\xbb\xbf")
    {
        let parts = [lines(format, first), lines(format, second)];
        assert_eq!(
            size(&whole),
            parts.iter().map(size).sum::<usize>(),
            "rules of two halves"
        );
        let skipped = parts.iter().map(|part| part.skipped.count).sum::<usize>();
        assert_eq!(whole.skipped.count, skipped, "passed over in two halves");
    }
}

fn lines(format: Format, octets: &[u8]) -> Parsed {
    parse(format, octets, &[]).expect("a list of lines is read whatever it says")
}

fn size(parsed: &Parsed) -> usize {
    parsed.len() + parsed.includes.len()
}

fn check_parsed(parsed: &Parsed, lines: usize) {
    assert!(parsed.skipped.first.len() <= KEPT.min(parsed.skipped.count));
    for complaint in &parsed.skipped.first {
        assert_is_a_sentence(&complaint.why);
        assert!(
            complaint.line as usize <= lines,
            "{complaint:?} of {lines} lines"
        );
    }
    for (name, _, line) in parsed.names.iter().chain(parsed.exceptions.iter()) {
        assert!(line as usize <= lines, "{name} in line {line} of {lines}");
        let read: Result<steer::rules::Domain, _> = name.parse();
        assert_eq!(read.expect("a name is one").as_str(), name);
    }
}
