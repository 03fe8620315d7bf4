#!/usr/bin/env bash
# A machine of its own for one test: a real systemd as PID 1 over an overlay of this machine's root.
# Nothing of it reaches the disk. It lives as long as standard input stays open, so that it goes
# away with the test, however that ends.
# usage: machine.sh BINARY REPOSITORY   prints "root DIR" and "leader PID" once it is up
set -euo pipefail
binary=$1 repository=$2
top=$(mktemp -d)
root=$top/root
nspawn=
group=
clean() {
  set +e
  if [ -n "$nspawn" ]; then
    # SIGTERM to nspawn is an orderly power-off; a machine that hangs gets no longer than this.
    kill -TERM "$nspawn" 2>/dev/null
    for _ in $(seq 100); do kill -0 "$nspawn" 2>/dev/null || break; sleep 0.05; done
    kill -KILL "$nspawn" 2>/dev/null
    wait "$nspawn" 2>/dev/null
  fi
  # Left behind by systemd inside, deepest first.
  [ -z "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
  umount "$root" 2>/dev/null || umount -l "$root"
  umount "$top/upper" 2>/dev/null || umount -l "$top/upper"
  rm -rf --one-file-system "$top"
}
trap clean EXIT

mkdir "$root" "$top/upper"
mount -t tmpfs -o size=512m tmpfs "$top/upper"
mkdir "$top/upper/files" "$top/upper/work"
mount -t overlay overlay \
  -o "lowerdir=/,upperdir=$top/upper/files,workdir=$top/upper/work" "$root"

rm -rf "$root/etc/outcomed" "$root/var/lib/outcomed"
units=$root/usr/lib/systemd/system
install -D -m 644 -t "$units" "$repository"/systemd/outcomed.{service,socket}
install -D -m 644 "$repository/systemd/credentials.conf" \
  "$root/etc/systemd/system/outcomed.service.d/credentials.conf"
install -D -m 644 "$repository/systemd/outcomed.sysusers" "$root/usr/lib/sysusers.d/outcomed.conf"
install -D -m 644 "$repository/systemd/outcomed.tmpfiles" "$root/usr/lib/tmpfiles.d/outcomed.conf"

# A cgroup of its own: machines that share their caller's would find each other's processes in
# `system.slice/outcomed.service`.
cgroups=/sys/fs/cgroup
[ ! -d "$cgroups/unified" ] || cgroups=$cgroups/unified
group=$cgroups/outcomed-test-$$
mkdir "$group"

# The second variable is nspawn's own filter, which would hide the unit's.
(
  echo "$BASHPID" >"$group/cgroup.procs"
  export UNIFIED_CGROUP_HIERARCHY=1 SYSTEMD_SECCOMP=0
  exec systemd-nspawn -q -D "$root" -M "outcomed-test-$$" -b \
    --register=no --keep-unit --capability=all --private-network --resolv-conf=off --timezone=off \
    --link-journal=no --console=pipe --bind-ro="$binary:/usr/bin/outcomed" \
    -- --unit=basic.target
) >"$top/console" 2>&1 </dev/null &
nspawn=$!

for _ in $(seq 600); do
  kill -0 "$nspawn" 2>/dev/null || { cat "$top/console" >&2; exit 1; }
  leader=$(pgrep -P "$nspawn" | head -1 || true)
  if [ -n "$leader" ] && nsenter -t "$leader" -a systemctl is-system-running --wait 2>/dev/null |
    grep -qE 'running|degraded'; then
    # What the package's installation does.
    nsenter -t "$leader" -a systemd-sysusers /usr/lib/sysusers.d/outcomed.conf
    nsenter -t "$leader" -a systemd-tmpfiles --create /usr/lib/tmpfiles.d/outcomed.conf
    echo "root $root"
    echo "leader $leader"
    exec 3<&0
    cat <&3 >/dev/null || true
    exit 0
  fi
  sleep 0.05
done
cat "$top/console" >&2
exit 1
