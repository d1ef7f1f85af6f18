//! Programs of a few instructions, as the kernel's machine has them (RFC 9669).

/// An instruction.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: i32,
}

const fn of(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Instruction {
    Instruction {
        code,
        registers: to | from << 4,
        offset,
        value,
    }
}

const fn set(to: u8, value: i32) -> Instruction {
    of(0xb7, to, 0, 0, value)
}

const fn copy(to: u8, from: u8) -> Instruction {
    of(0xbf, to, from, 0, 0)
}

const fn add(to: u8, value: i32) -> Instruction {
    of(0x07, to, 0, 0, value)
}

/// Two of them: the address of a map by its file.
const fn map(to: u8, file: i32) -> [Instruction; 2] {
    /// `BPF_PSEUDO_MAP_FD`.
    const BY_FILE: u8 = 1;
    [of(0x18, to, BY_FILE, 0, file), of(0, 0, 0, 0, 0)]
}

const fn call(helper: i32) -> Instruction {
    of(0x85, 0, 0, 0, helper)
}

const END: Instruction = of(0x95, 0, 0, 0, 0);

/// Returns that, and does nothing else.
pub fn empty(result: i32) -> Vec<Instruction> {
    vec![set(0, result), END]
}

/// What plays a tape: where its rows go in a packet, and the files of its maps.
#[derive(Clone, Copy, Debug)]
pub struct Player {
    /// The number of the row that is next.
    pub turn: i32,
    /// The rows.
    pub rows: i32,
    /// The program to go on with.
    pub then: i32,
    /// How many rows there are.
    pub count: i32,
    /// Octets before a row.
    pub at: i32,
    /// Octets of a row.
    pub size: i32,
}

/// What a player returns that could not go on: no program of steer's returns it.
pub const STUCK: i32 = 77;

impl Player {
    /// Writes the next row into the packet and goes on with the other program.
    pub fn code(&self) -> Vec<Instruction> {
        /// Numbers of the helpers.
        const LOOKUP: i32 = 1;
        const STORE: i32 = 9;
        const TAIL_CALL: i32 = 12;
        let key = [copy(2, 10), add(2, -4)];
        let mut code = vec![copy(6, 1), of(0x62, 10, 0, -4, 0)];
        code.extend(map(1, self.turn));
        code.extend(key);
        code.push(call(LOOKUP));
        let first = code.len();
        code.push(of(0x15, 0, 0, 0, 0));
        code.extend([
            of(0x79, 7, 0, 0, 0),
            copy(8, 7),
            add(8, 1),
            // Over the next if there are more.
            of(0xa5, 8, 0, 1, self.count),
            set(8, 0),
            of(0x7b, 0, 8, 0, 0),
            of(0x63, 10, 7, -4, 0),
        ]);
        code.extend(map(1, self.rows));
        code.extend(key);
        code.push(call(LOOKUP));
        let second = code.len();
        code.push(of(0x15, 0, 0, 0, 0));
        code.extend([
            copy(1, 6),
            set(2, self.at),
            copy(3, 0),
            set(4, self.size),
            set(5, 0),
            call(STORE),
            copy(1, 6),
        ]);
        code.extend(map(2, self.then));
        code.extend([set(3, 0), call(TAIL_CALL)]);
        let end = code.len();
        for jump in [first, second] {
            // Counted from behind the jump; the program has some forty instructions.
            code[jump].offset = (end - jump - 1) as i16;
        }
        code.extend([set(0, STUCK), END]);
        code
    }
}
