#!/usr/bin/env bash
# Makes the virtual environment from the lock: create_venv.sh PYTHON FOLDER. Called by `make setup`; safe to repeat.
set -euo pipefail
python=$1 venv=$2

say() { printf '%s\n' "$*" >&2; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  say "Python 3.11 or newer is needed, $("$python" --version 2>&1) is what \`$python\` starts."
  say "Next: make setup PYTHON=/path/to/python3.11"
  exit 2
}

# Debian's python3 comes without the module that makes virtual environments.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo -n)
  say "Installing python3-venv, which $python lacks."
  "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=300 -qq update || true
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends python3-venv || {
    say "python3-venv could not be installed."
    say "Next: install it as root (apt-get install python3-venv), then run make setup again."
    exit 1
  }
fi

[ -x "$venv/bin/python" ] && "$venv/bin/python" -c '' 2>/dev/null || "$python" -m venv --clear "$venv"

# uv installs the rest; its own version and hashes come from the same lock.
uv_lock=$(mktemp)
trap 'rm -f "$uv_lock"' EXIT
awk '/^uv==/ { take = 1 } take { print } take && !/\\$/ { exit }' requirements-dev.txt >"$uv_lock"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r "$uv_lock"
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements-dev.txt
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps -e .
