#!/bin/bash
# Give the machine a cgroup of its own and run it there; take the cgroup away when it has ended.
# Runs in a mount namespace of its own, so that what it mounts is gone with it. Argument: the scene's folder.
set -euo pipefail
scene=$1

mkdir -p "$scene/cgroup"
mount -t cgroup2 cgroup2 "$scene/cgroup"

remove() { find "$1" -depth -type d -exec rmdir {} + 2>/dev/null; }
for left in "$scene"/cgroup/jobsup-boot-*; do # of a run that was killed
  [ -e "/proc/${left##*-}" ] || remove "$left" || true
done

own=$scene/cgroup/jobsup-boot-$$
mkdir "$own"
leave() {
  for _ in {1..50}; do # the kernel may still be burying the last processes
    ! remove "$own" || break
    sleep 0.1
  done
}
trap leave EXIT

(
  # Each waits for the next, and each dies with the one before: nothing is left whoever of them is killed.
  echo "$BASHPID" >"$own/cgroup.procs"
  exec setpriv --pdeathsig KILL timeout -k 5 "${MACHINE_LIFE_S:-300}" \
    setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child --uts --ipc --net --cgroup \
    bash "${BASH_SOURCE[0]%/*}/inner.sh" "$scene"
) </dev/null
