//! What the service manager is told, if one started steer and wants to know (sd_notify(3)).

use sd_notify::NotifyState;

/// Everything is attached.
pub(super) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("steering")]);
}

/// The event loop goes round.
pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// The host is put back.
pub(super) fn stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("putting the host back"),
    ]);
}

/// What the VPNs are like: which is down, by its name where there are several, and whether its flows go direct.
pub(super) fn vpn(down: Option<(Option<&str>, bool)>) {
    let Some((name, direct)) = down else {
        return tell(&[NotifyState::Status("steering")]);
    };
    let name = name.map_or_else(String::new, |name| format!(" {name}"));
    let meanwhile = if direct {
        "should take it goes direct"
    } else {
        "must take it is blocked"
    };
    let status = format!("the VPN{name} is down: what {meanwhile} until it is back");
    tell(&[NotifyState::Status(&status)]);
}

/// Who does not listen misses nothing that matters here.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("the service manager could not be told: {error}");
    }
}
