//! Frames that come in on a bridge once more.

use aya::programs::{Program, SchedClassifier};

use super::{
    Datapath,
    error::{Error, hint},
    load_program,
};

const PROGRAM: &str = "reenter";

impl Datapath {
    /// The program that lets a frame come in by an interface once more, loaded when it is first asked for.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub fn reenter(&mut self) -> Result<&SchedClassifier, Error> {
        let missing = || Error::Missing { name: PROGRAM };
        let program = self.ebpf.program_mut(PROGRAM).ok_or_else(missing)?;
        if program.fd().is_err() {
            load_program(program).map_err(|source| Error::Program {
                program: PROGRAM,
                hint: hint(&source),
                source: Box::new(source),
            })?;
        }
        match program {
            Program::SchedClassifier(program) => Ok(program),
            _ => Err(missing()),
        }
    }
}
