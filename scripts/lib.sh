# shellcheck shell=bash disable=SC2034
# What every verb shares: where the project is, and words for the person. Sourced, never run.

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=$ROOT/.venv/bin/python

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$@"
    exit 1
}

# Programs that are run by this project and come from packages of the system.
has() { PATH=$PATH:/usr/sbin:/sbin type -P "$1" >/dev/null; }
