use super::*;
use proptest::prelude::*;

/// What a list says: each rule as a user would write it with its line, exceptions with `!`, then what was passed over.
fn read(format: Format, text: &str) -> (Vec<String>, Vec<String>) {
    shown(&parse_text(
        format,
        text.as_bytes(),
        &Filter::default(),
        &Unseen,
    ))
}

fn shown(parsed: &Parsed) -> (Vec<String>, Vec<String>) {
    let names = |names: &Names, mark: &str| -> Vec<String> {
        names
            .iter()
            .map(|(name, scope, line)| format!("{line} {mark}{}{name}", scope.prefix()))
            .collect()
    };
    let mut rules = names(&parsed.names, "");
    rules.extend(names(&parsed.exceptions, "!"));
    rules.extend(
        parsed
            .nets
            .iter()
            .map(|(net, line)| format!("{line} {net}")),
    );
    rules.extend(
        parsed
            .texts
            .iter()
            .map(|(text, line)| format!("{line} {text}")),
    );
    let skipped = parsed.skipped.first.iter();
    let skipped = skipped.map(|Complaint { line, why }| format!("{line} {why}"));
    (rules, skipped.collect())
}

#[test]
fn plain_names_mean_all_below_them() {
    let text = "\u{feff}# a list\r\na.example\r\n\n  B.example. # why\n*.c.example\n.d.example\nbücher.example\n203.0.113.0/24\n2001:db8::1\nkeyword:track\nregex:^a#b #c\n";
    let (rules, skipped) = read(Format::Plain, text);
    assert_eq!(
        rules,
        [
            "2 .a.example",
            "4 .b.example",
            "5 *.c.example",
            "6 .d.example",
            "7 .xn--bcher-kva.example",
            "8 203.0.113.0/24",
            "9 2001:db8::1/128",
            "10 keyword:track",
            "11 regex:^a#b",
        ]
    );
    assert!(skipped.is_empty(), "{skipped:?}");
}

#[test]
fn a_bad_line_is_told_with_its_number_and_counted() {
    let text = "a b.example\na..b\nhttps://x.example/\n203.0.113.1/24\nok.example\n\x1b[2J.example\n-\nx y\n";
    let parsed = parse_text(Format::Plain, text.as_bytes(), &Filter::default(), &Unseen);
    let (rules, skipped) = shown(&parsed);
    assert_eq!(rules, ["5 .ok.example", "7 .-"]);
    assert_eq!(parsed.skipped.count, 6);
    assert_eq!(
        skipped,
        [
            "1 \"a b.example\" is not a domain: ' ' cannot be part of a name; letters, digits, hyphens and underscores can",
            "2 \"a..b\" is not a domain: it has an empty label between two dots",
            "3 \"https://x.example/\" is not a domain: give the host name alone, without a scheme such as https://",
            "4 \"203.0.113.1/24\" is not a range of addresses: it has bits beyond its prefix; write 203.0.113.0/24 for the range, or the address without a slash for it alone",
            "6 \"\\u{1b}[2J.example\" is not a domain: '\\u{1b}' cannot be part of a name; letters, digits, hyphens and underscores can",
        ]
    );
    let parsed = parse_text(
        Format::Plain,
        b"a.example\n\xff.example\n",
        &Filter::default(),
        &Unseen,
    );
    assert_eq!(shown(&parsed).1, ["2 it is not UTF-8"]);
}

#[test]
fn hosts_mean_the_name_alone() {
    let text = "127.0.0.1 localhost\n::1 ip6-localhost ip6-loopback\nfe80::1%lo0 localhost\n0.0.0.0 0.0.0.0\n0.0.0.0 a.example b.example # two\n\t127.0.0.1\tC.example\n:: d.example\nexample.com\n0.0.0.0 e_.example bad..name f.example\n";
    let (rules, skipped) = read(Format::Hosts, text);
    assert_eq!(
        rules,
        [
            "5 a.example",
            "5 b.example",
            "6 c.example",
            "7 d.example",
            "9 e_.example",
            "9 f.example",
        ]
    );
    assert_eq!(
        skipped,
        [
            "8 \"example.com\" is no address; expected one and then names, as in 0.0.0.0 example.com",
            "9 \"bad..name\" is not a domain: it has an empty label between two dots",
        ]
    );
}

#[test]
fn dnsmasq_lines_mean_all_below_their_domains() {
    let text = "# list\nserver=/a.example/b.example/1.1.1.1#53\nipset=/c.example/vpn,vpn6\nnftset=/d.example/4#inet#fw4#vpn4\naddress=/*.e.example/0.0.0.0 # none\nlocal=/f.example/\nserver=1.1.1.1\ncache-size=1000\naddress=/#/0.0.0.0\nserver=//1.1.1.1\n--server=/g.example/\n";
    let (rules, skipped) = read(Format::Dnsmasq, text);
    assert_eq!(
        rules,
        [
            "2 .a.example",
            "2 .b.example",
            "3 .c.example",
            "4 .d.example",
            "5 *.e.example",
            "6 .f.example",
            "11 .g.example",
        ]
    );
    assert_eq!(
        skipped,
        [
            "7 it names no domains; expected them between slashes, as in server=/example.com/…",
            "8 \"cache-size\" names no domains; expected server=/example.com/…, local=, address=, ipset= or nftset=",
            "9 # means every name, which is no rule",
            "10 an empty domain means names without dots, which is no rule",
        ]
    );
}

#[test]
fn adblock_rules_of_whole_domains_are_rules() {
    let text = "[Adblock Plus 2.0]\n! title\n||a.example^\n||b.example^$important\n||c.example^|\n@@||d.a.example^\n||*.e.example^\n||f.example^$third-party\n||g.example/path^\n||h.example\nexample.com##.ad\n/banner[0-9]/\n||i.example^*/ad.js\n";
    let parsed = parse_text(
        Format::Adblock,
        text.as_bytes(),
        &Filter::default(),
        &Unseen,
    );
    let (rules, skipped) = shown(&parsed);
    assert_eq!(
        rules,
        [
            "3 .a.example",
            "4 .b.example",
            "5 .c.example",
            "7 *.e.example",
            "6 !.d.a.example",
        ]
    );
    assert_eq!(
        skipped,
        [
            "8 its option \"third-party\" makes it narrower than a domain",
            "9 \"g.example/path\" is not a domain: give the host name alone, without a path",
            "10 it is not about a whole domain; expected ||example.com^",
            "11 it is not about a domain; expected ||example.com^",
            "12 it is not about a domain; expected ||example.com^",
        ]
    );
    assert_eq!(parsed.skipped.count, 6);
}

const V2FLY: &str = "\
# comment
include:other @ads @-cn
example.com
domain:a.example @cn @!cn # both
full:b.example @ads &elsewhere
keyword:Track @cn
regexp:^cdn\\d\\.example$
full:c.example:@ads,@cn
colour:red
domain:d.example junk
include:../secret
";

#[test]
fn v2fly_lists_have_four_kinds_of_rules() {
    let (rules, skipped) = read(Format::V2fly, V2FLY);
    assert_eq!(
        rules,
        [
            "3 .example.com",
            "4 .a.example",
            "5 b.example",
            "8 c.example",
            "6 keyword:track",
            "7 regex:^cdn\\d\\.example$",
        ]
    );
    assert_eq!(
        skipped,
        [
            "9 \"colour:\" is unknown; expected domain:, full:, keyword:, regexp: or include:",
            "10 \"junk\" is neither an attribute (@name) nor an affiliation (&list)",
            "11 \"../secret\" cannot be included; expected the name of a list in the same folder, then attributes",
        ]
    );
    let parsed = parse_text(Format::V2fly, V2FLY.as_bytes(), &Filter::default(), &Unseen);
    assert_eq!(
        parsed.includes,
        [Include {
            name: "other".to_owned(),
            conditions: vec![
                Condition::Has("ads".to_owned()),
                Condition::Lacks("cn".to_owned())
            ],
            line: 2
        }]
    );
}

fn selectors(texts: &[&str]) -> Vec<Selector> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn attributes_select() {
    for (select, expected) in [
        (&["@ads"][..], &["5 b.example", "8 c.example"][..]),
        (&["@ads@-cn"], &["5 b.example"]),
        (&["@!cn"], &["4 .a.example"]),
        (&["@ads@-cn", "@!cn"], &["4 .a.example", "5 b.example"]),
        (
            &["@-cn"],
            &[
                "3 .example.com",
                "5 b.example",
                "7 regex:^cdn\\d\\.example$",
            ],
        ),
        (&["@none"], &[]),
    ] {
        let filter = Filter::of(&selectors(select));
        let parsed = parse_text(Format::V2fly, V2FLY.as_bytes(), &filter, &Unseen);
        assert_eq!(shown(&parsed).0, expected, "{select:?}");
    }
}

#[test]
fn selectors_read_and_print() {
    for (text, printed) in [
        ("geosite:Docker", "geosite:docker"),
        ("google@ads@-CN", "geosite:google@ads@-cn"),
        ("@!cn", "@!cn"),
    ] {
        assert_eq!(text.parse::<Selector>().unwrap().to_string(), printed);
    }
    for text in ["", "geosite:", "a@", "@-", "../a", "geosite:a/b"] {
        let refusal = text.parse::<Selector>().unwrap_err().to_string();
        assert!(refusal.contains("selects no part of a list"), "{refusal}");
    }
}

/// A protocol buffer's field of octets.
fn field(number: u8, octets: &[u8]) -> Vec<u8> {
    let mut encoded = vec![number << 3 | 2];
    let mut length = octets.len();
    while length > 0x7f {
        encoded.push(length as u8 | 0x80);
        length >>= 7;
    }
    encoded.push(length as u8);
    encoded.extend(octets);
    encoded
}

fn domain(kind: u8, value: &str, attributes: &[&str]) -> Vec<u8> {
    let mut encoded = vec![1 << 3, kind];
    encoded.extend(field(2, value.as_bytes()));
    for attribute in attributes {
        let mut pair = field(1, attribute.as_bytes());
        pair.extend([2 << 3, 1]);
        encoded.extend(field(3, &pair));
    }
    field(2, &encoded)
}

fn geosite(categories: &[(&str, Vec<Vec<u8>>)]) -> Vec<u8> {
    let site = |(code, domains): &(&str, Vec<Vec<u8>>)| {
        let mut encoded = field(1, code.as_bytes());
        encoded.extend(domains.concat());
        field(1, &encoded)
    };
    categories.iter().flat_map(site).collect()
}

fn sample() -> Vec<u8> {
    let many = (0..40).map(|n| domain(2, &format!("d{n}.example"), &[]));
    geosite(&[
        (
            "DOCKER",
            vec![
                domain(2, "docker.example", &[]),
                domain(3, "hub.docker.example", &["cn"]),
                domain(0, "dckr", &["ads"]),
                domain(1, r"^registry-\d", &[]),
                domain(9, "odd.example", &[]),
                domain(2, "not a name", &[]),
            ],
        ),
        ("GOOGLE", vec![domain(2, "google.example", &["ads", "!cn"])]),
        ("MANY", many.collect()),
    ])
}

#[test]
fn geosite_categories_are_selected() {
    let octets = sample();
    assert_eq!(Format::guess(&octets), Format::Geosite);
    let parsed = parse(Format::Geosite, &octets, &selectors(&["geosite:docker"])).unwrap();
    let (rules, skipped) = shown(&parsed);
    assert_eq!(
        rules,
        [
            "0 .docker.example",
            "0 hub.docker.example",
            "0 keyword:dckr",
            "0 regex:^registry-\\d",
        ]
    );
    assert_eq!(
        skipped,
        [
            "0 \"odd.example\" is of the unknown type 9",
            "0 \"not a name\" is not a domain: ' ' cannot be part of a name; letters, digits, hyphens and underscores can",
        ]
    );
    for (select, expected) in [
        (
            &["docker@cn", "geosite:google@!cn"][..],
            &["0 hub.docker.example", "0 .google.example"][..],
        ),
        (
            &["docker@cn", "docker@ads"],
            &["0 hub.docker.example", "0 keyword:dckr"],
        ),
    ] {
        let parsed = parse(Format::Geosite, &octets, &selectors(select)).unwrap();
        assert_eq!(shown(&parsed).0, expected, "{select:?}");
    }
    let parsed = parse(Format::Geosite, &octets, &selectors(&["many"])).unwrap();
    assert_eq!(parsed.names.len(), 40);
}

#[test]
fn a_category_that_is_not_there_gets_the_nearest() {
    let refusal = |octets: &[u8], select: &[&str]| {
        parse(Format::Geosite, octets, &selectors(select))
            .unwrap_err()
            .to_string()
    };
    let octets = sample();
    assert_eq!(
        refusal(&octets, &["geosite:dokcer"]),
        "there is no category \"dokcer\"; did you mean \"docker\"?"
    );
    assert_eq!(
        refusal(&octets, &["microsoft"]),
        "there is no category \"microsoft\""
    );
    let nothing =
        "a geosite.dat holds many lists; say which are meant, as in select = [\"geosite:docker\"]";
    assert_eq!(refusal(&octets, &[]), nothing);
    assert_eq!(refusal(&octets, &["@ads"]), nothing);
    for cut in [octets.len() - 1, 30, 3] {
        assert_eq!(
            refusal(&octets[..cut], &["docker"]),
            "it is no geosite.dat, or is damaged; fetch it again"
        );
    }
}

#[test]
fn formats_are_told_by_their_lines() {
    for (text, format) in [
        ("", Format::Plain),
        (
            "# x\na.example\n203.0.113.0/24\n203.0.113.7 # one\n",
            Format::Plain,
        ),
        ("# x\n0.0.0.0 a.example\n", Format::Hosts),
        ("server=/a.example/1.1.1.1\n", Format::Dnsmasq),
        ("! x\n||a.example^\n", Format::Adblock),
        ("a.example\nb.example @ads\n", Format::V2fly),
        ("a.example\ninclude:b\n", Format::V2fly),
        ("\n\n\na.example\n", Format::Plain),
    ] {
        assert_eq!(Format::guess(text.as_bytes()), format, "{text}");
    }
    for format in Format::ALL {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
    assert_eq!(
        "host".parse::<Format>().unwrap_err().to_string(),
        "there is no format \"host\"; did you mean \"hosts\"?"
    );
}

fn any_format() -> impl Strategy<Value = Format> {
    prop::sample::select(Format::ALL.to_vec())
}

fn check(parsed: &Parsed) -> Result<(), TestCaseError> {
    for (name, _, _) in parsed.names.iter().chain(parsed.exceptions.iter()) {
        prop_assert!((1..=253).contains(&name.len()), "{}", name);
        prop_assert_eq!(&name.to_ascii_lowercase(), name);
        for label in name.split('.') {
            prop_assert!((1..=63).contains(&label.len()), "{}", name);
        }
    }
    for complaint in &parsed.skipped.first {
        prop_assert!(!complaint.why.contains(char::is_control));
    }
    Ok(())
}

proptest! {
    #[test]
    fn whatever_is_read_of_octets_fits_a_dns_name(format in any_format(), octets in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(parsed) = parse(format, &octets, &selectors(&["docker"])) {
            check(&parsed)?;
        }
        Format::guess(&octets);
    }

    #[test]
    fn whatever_is_read_of_lines_fits_a_dns_name(
        format in any_format(),
        text in r"((0\.0\.0\.0 |server=/|@@|\|\||domain:|full:|regexp:|keyword:|include:|\*\.|\.)?([a-zA-Z0-9ü_-]{0,70}\.){0,5}[a-zü]{0,8}(\^|/| @a|/x|:@b| &c|\$all)?(\r)?\n){0,12}",
    ) {
        check(&parse_text(format, text.as_bytes(), &Filter::default(), &Unseen))?;
    }

    #[test]
    fn a_broken_geosite_is_no_panic(place in 0usize..900, octet: u8, cut in 0usize..1200) {
        let mut octets = sample();
        let place = place % octets.len();
        octets[place] = octet;
        octets.truncate(cut);
        if let Ok(parsed) = parse(Format::Geosite, &octets, &selectors(&["docker", "many@-x"])) {
            check(&parsed)?;
        }
    }
}
