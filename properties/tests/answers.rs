//! Made-up answers of the DNS: steer-common and the model over hickory-proto learn the same.

use std::collections::BTreeMap;

use fastrand::Rng;
use steer_properties::dns::{Kind, Leniency, expected, generate, learned};

const ANSWERS: usize = 10_000;

#[test]
fn made_up_answers_teach_what_the_model_says() {
    let mut rng = Rng::with_seed(0x5eed);
    let mut leniencies = BTreeMap::<Leniency, usize>::new();
    let mut kinds = BTreeMap::<(Kind, String), usize>::new();
    for number in 0..ANSWERS {
        let made = generate(&mut rng);
        let (lesson, reading) = expected(&made.question(), &made.octets);
        let ours = learned(&made.question(), &made.octets);
        assert_eq!(
            ours, lesson,
            "answer {number}: {made:?}, read as {reading:?}"
        );
        for leniency in reading.leniencies {
            *leniencies.entry(leniency).or_default() += 1;
        }
        *kinds
            .entry((made.kind, format!("{:?}", lesson.outcome)))
            .or_default() += 1;
    }
    println!("{kinds:?}\n{leniencies:?}");
}
