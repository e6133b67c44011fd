# shellcheck shell=bash disable=SC2034
# Functions and paths for the other scripts. It is sourced, never run.

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=$ROOT/.venv/bin/python

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$@"
    exit 1
}

# Whether a program is installed.
has() { PATH=$PATH:/usr/sbin:/sbin type -P "$1" >/dev/null; }

# Installs packages. Asks first if there is a terminal and `yes` is empty.
install_packages() {
    local apt=(apt-get install --yes --no-install-recommends -o Dpkg::Use-Pty=0 "$@")
    if ((EUID != 0)); then
        die "These packages are missing. Install them, then run this again:" "  sudo apt-get install --no-install-recommends $*"
    fi
    has apt-get || die "These are missing, and there is no apt-get to install them: $*"
    if [[ -z ${yes:-} && -t 0 && -t 2 ]]; then
        local answer
        read -rp "Install the packages $*? [Y/n] " answer
        [[ ${answer:-y} == [yY]* ]] || die "Nothing was installed."
    fi
    say "Installing $*"
    export DEBIAN_FRONTEND=noninteractive
    # Debian's package of PostgreSQL creates and starts a database cluster unless this is set.
    if [[ " $* " == *' postgresql '* ]]; then
        local quiet=/etc/postgresql-common/createcluster.d/strongroom-setup.conf
        mkdir -p "${quiet%/*}"
        echo 'create_main_cluster = false' >"$quiet"
        trap "rm -f '$quiet'" EXIT
    fi
    # Package lists may be missing or too old: refresh them only if the installation fails.
    "${apt[@]}" </dev/null >/dev/null 2>&1 || { apt-get update </dev/null >/dev/null && "${apt[@]}" </dev/null >/dev/null; } ||
        die "The packages could not be installed: $*"
}
