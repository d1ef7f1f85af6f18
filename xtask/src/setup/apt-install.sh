# Installs packages without starting their services, now or at the next boot.
# Usage, as root: sh apt-install.sh PACKAGE...
set -eu

policy=/usr/sbin/policy-rc.d
saved=$policy.before-steer
mark='# Written by steer while it installs packages.'
units='docker.service docker.socket containerd.service docker-registry.service nginx.service openvpn.service squid.service'

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
exec 9>/run/steer-setup.lock
flock 9

put_back() {
	rm -f "$policy"
	if [ -e "$saved" ]; then mv "$saved" "$policy"; fi
}
trap put_back EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# A policy with our mark is left from a run that was killed: what it saved is still the original.
if [ -e "$policy" ] && ! grep -qF "$mark" "$policy"; then mv "$policy" "$saved"; fi
# 101: "action forbidden by policy", for every service.
printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
chmod 755 "$policy"

before=''
for unit in $units; do
	if [ -e "/lib/systemd/system/$unit" ] || [ -e "/etc/systemd/system/$unit" ]; then before="$before $unit"; fi
done

apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "$@" </dev/null

if command -v systemctl >/dev/null; then
	for unit in $units; do
		case " $before " in *" $unit "*) continue ;; esac
		if [ -e "/lib/systemd/system/$unit" ]; then systemctl disable "$unit" </dev/null || true; fi
	done
fi
