#!/usr/bin/env bash
# Installs what the tests need and a machine with only Rust and Debian lacks. Asks apt only when
# something is missing.
set -euo pipefail

# A command that shows that it is there, and the Debian package that brings it.
needs=(
  "cc build-essential"
  "curl ca-certificates curl"
  "pgrep procps"
  "nsenter util-linux"
  "git git"
  "systemd-analyze systemd"
  "systemd-nspawn systemd-container"
  "sqlite3 sqlite3"
  "python3 python3"
  "node nodejs"
  "npm npm"
  "go golang-go"
  "strace strace"
)
missing=()
for need in "${needs[@]}"; do
  read -r command packages <<<"$need"
  read -ra packages <<<"$packages"
  command -v "$command" >/dev/null || missing+=("${packages[@]}")
done
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing+=(postgresql)
command -v chromium >/dev/null || missing+=(chromium)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
  echo "The tests need packages that are missing. As root: apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# Recommended packages of a browser or of Node would triple the time.
apt-get install -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends "${missing[@]}" >&2
