//! DNS messages put together octet by octet, so that what no library would write can be written.

use fastrand::Rng;

/// How names are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As labels.
    Plain,
    /// With a pointer to where its longest suffix stands already, if it does.
    Compressed,
    /// The same, and pointers lead to pointers where they can.
    Chained,
}

/// A message that is being written.
pub struct Composer {
    octets: Vec<u8>,
    /// Where a name begins, by a label or by a pointer.
    known: Vec<(Vec<Vec<u8>>, usize)>,
    /// Places of the fields that say how much follows.
    lengths: Vec<usize>,
}

/// The sections of a message, as the places of their counts in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Question = 4,
    Answer = 6,
    Authority = 8,
    Additional = 10,
}

const POINTER: u16 = 0xc000;

impl Composer {
    /// Begins an answer with this ID and these 16 bits of flags.
    pub fn new(id: u16, flags: u16) -> Self {
        let mut octets = Vec::new();
        octets.extend(id.to_be_bytes());
        octets.extend(flags.to_be_bytes());
        octets.extend([0; 8]);
        Self {
            octets,
            known: Vec::new(),
            lengths: Vec::new(),
        }
    }

    /// The message.
    pub fn finish(self) -> Vec<u8> {
        self.octets
    }

    /// Its octets so far.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Counts one more entry of a section.
    pub(super) fn count(&mut self, section: Section) {
        let at = section as usize;
        let count = u16::from_be_bytes([self.octets[at], self.octets[at + 1]]) + 1;
        self.octets[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }

    /// Writes a question.
    pub fn question(&mut self, name: &str, kind: u16) {
        self.count(Section::Question);
        self.name(name, Style::Plain, &mut Rng::with_seed(0));
        self.short(kind);
        self.short(1);
    }

    /// Begins a record; its data follows, then [`Self::end_length`].
    pub(super) fn begin_record(
        &mut self,
        section: Section,
        (owner, style): (&str, Style),
        (kind, class): (u16, u16),
        ttl: u32,
        rng: &mut Rng,
    ) {
        self.count(section);
        self.name(owner, style, rng);
        self.short(kind);
        self.short(class);
        self.octets.extend(ttl.to_be_bytes());
        self.begin_length();
    }

    /// Begins what a length of two octets stands before.
    pub(super) fn begin_length(&mut self) {
        self.lengths.push(self.octets.len());
        self.short(0);
    }

    /// Ends it.
    pub(super) fn end_length(&mut self) {
        let at = self.lengths.pop().expect("a length was begun");
        let length = (self.octets.len() - at - 2) as u16;
        self.octets[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }

    /// Writes octets as they are.
    pub fn raw(&mut self, octets: impl IntoIterator<Item = u8>) {
        self.octets.extend(octets);
    }

    /// Writes a number of two octets.
    pub fn short(&mut self, number: u16) {
        self.octets.extend(number.to_be_bytes());
    }

    /// Writes a pointer to anywhere.
    pub fn pointer(&mut self, to: usize) {
        self.short(POINTER | (to as u16 & !POINTER));
    }

    /// Writes a name.
    pub(super) fn name(&mut self, name: &str, style: Style, rng: &mut Rng) {
        let labels: Vec<Vec<u8>> = name
            .split('.')
            .filter(|label| !label.is_empty())
            .map(|label| label.as_bytes().to_vec())
            .collect();
        for at in 0..labels.len() {
            let suffix = &labels[at..];
            let place = self.octets.len();
            let target = self.target(suffix, style, rng);
            if place < usize::from(POINTER ^ u16::MAX) {
                self.known.push((suffix.to_vec(), place));
            }
            if let Some(to) = target {
                return self.pointer(to);
            }
            self.octets.push(labels[at].len() as u8);
            self.octets.extend(&labels[at]);
        }
        self.octets.push(0);
    }

    fn target(&self, suffix: &[Vec<u8>], style: Style, rng: &mut Rng) -> Option<usize> {
        if style == Style::Plain {
            return None;
        }
        let chained = |at: &usize| self.octets[*at] >= 0xc0;
        let places = self.known.iter().filter(|(known, _)| known == suffix);
        let (pointers, labels): (Vec<_>, Vec<_>) = places.map(|(_, at)| *at).partition(chained);
        let chosen = match style {
            Style::Chained if !pointers.is_empty() => pointers,
            _ => labels,
        };
        (!chosen.is_empty()).then(|| chosen[rng.usize(..chosen.len())])
    }
}
