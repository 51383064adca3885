# shellcheck shell=sh
# Sourced by the scripts beside it, from the top of the checkout.

# Everything that is worth keeping between checkouts: the engine's data, and with it the images.
PHASEGATE_CACHE=${PHASEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/phasegate}
# The one choice of image. A name under phasegate/ is built here from packages; any other is pulled.
PHASEGATE_IMAGE=${PHASEGATE_IMAGE:-phasegate/postgres:16}
export PHASEGATE_CACHE PHASEGATE_IMAGE

say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

die() {
    say "$*"
    exit 1
}

# Install Debian packages, given that this is Debian and we may.
apt_install() {
    command -v apt-get >/dev/null || die "$* not found, and no apt-get to install it with; install it and run again"
    [ "$(id -u)" -eq 0 ] || die "$* not found; run as root once, or: sudo apt-get install $*"
    say "installing from Debian: $*"
    apt_log=$(mktemp)
    if apt-get -q update </dev/null >"$apt_log" 2>&1 &&
        DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$@" </dev/null >>"$apt_log" 2>&1; then
        rm -f "$apt_log"
        return
    fi
    tail -n 20 "$apt_log" >&2
    rm -f "$apt_log"
    die "apt-get failed; the end of its output is above"
}
