//! One run in a network namespace, whatever its folders; needs root.

#[path = "route/netns.rs"]
#[expect(dead_code, reason = "the tests of routing need more of it")]
mod netns;

use std::os::fd::AsRawFd as _;

use anyhow::Result;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use steer::instance::Name;

#[test]
fn a_run_with_another_folder_is_told_of_the_first() -> Result<()> {
    netns::run(async || {
        let first = Name::take()?;
        let own = std::process::id();
        for _ in 0..10 {
            assert_eq!(
                Name::take().map(drop).unwrap_err().to_string(),
                format!(
                    "steer is running already in this network namespace, with another --run-dir (process {own}); stop it first"
                )
            );
        }
        netns::run(async || Ok(Name::take().map(drop)?))?;
        drop(first);
        Name::take().map(drop)?;
        Ok(())
    })
}

#[test]
fn somebody_else_who_has_the_name_keeps_no_run_away() -> Result<()> {
    netns::run(async || {
        // Of this thread alone, as the C library's call is not.
        let become_user = |user: u32| {
            // SAFETY: the call takes numbers and no pointer.
            let failed = unsafe { libc::syscall(libc::SYS_setresuid, -1, user, -1) };
            assert_eq!(failed, 0);
        };
        become_user(65534);
        let theirs = Name::take()?;
        become_user(0);
        Name::take().map(drop)?;
        drop(theirs);
        // Who does not listen cannot be asked who it is.
        let deaf = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::empty(),
            None,
        )?;
        bind(deaf.as_raw_fd(), &UnixAddr::new_abstract(b"steer")?)?;
        Name::take().map(drop)?;
        Ok(())
    })
}
