//! Names asked for over TCP alone: their answers teach as those over UDP do.

use anyhow::Result;
use steer_tests::{
    client::Lookup,
    fixture::{Shared, fresh, lookup, open, resolve, server},
    lab::plan::Path,
};

#[test]
fn a_name_asked_over_tcp_alone_is_steered() -> Result<()> {
    let mut lab = Shared::steered()?;
    let asked = lab.resolver.asked().len();
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            let number = lab.numbers(2)?;
            for (number, zone, right) in [
                (number, "fresh", Path::Vpn),
                (number + 1, "plain", Path::Direct),
            ] {
                let question = Lookup {
                    tcp: true,
                    ..lookup(number, zone, v6)
                };
                assert_eq!(resolve(client, question)?, [fresh(number, v6)], "{who}");
                let (_, path) = open(client, server(number, v6))?;
                assert_eq!(path, right, "{who}, v6 {v6}, {zone}");
            }
        }
    }
    assert_eq!(lab.resolver.asked().len(), asked, "questions by UDP");
    lab.done()
}
