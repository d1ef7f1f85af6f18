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

/// What the VPN is like.
pub(super) fn vpn(up: bool, direct: bool) {
    let status = match (up, direct) {
        (true, _) => "steering",
        (false, false) => "the VPN is down: what must take it is blocked until it is back",
        (false, true) => "the VPN is down: what should take it goes direct until it is back",
    };
    tell(&[NotifyState::Status(status)]);
}

/// Who does not listen misses nothing that matters here.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("the service manager could not be told: {error}");
    }
}
