//! The stages of a start, each of which may fail and then leaves the host as it was.

use super::Error;

macro_rules! stages {
    ($($name:ident = $text:literal),+ $(,)?) => {
        /// A stage of the start.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Stage {
            $($name,)+
        }

        impl Stage {
            const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

stages! {
    Lock = "lock",
    Discover = "discover",
    Load = "load",
    Rules = "rules",
    Pin = "pin",
    Routing = "routing",
    Cgroups = "cgroups",
    Bridges = "bridges",
    Ready = "ready",
}

impl Stage {
    /// Begins the stage. A debug build fails here where `STEER_FAULT` names the stage, so that tests see each failure.
    pub(super) fn begin(self) -> Result<(), Error> {
        tracing::debug!("start: {}", self.name());
        if cfg!(debug_assertions) && std::env::var("STEER_FAULT").as_deref() == Ok(self.name()) {
            return Err(Error::Fault(self.name()));
        }
        Ok(())
    }
}
