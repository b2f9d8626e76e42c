#!/bin/bash
# The first process of the machine: lay a copy of the file system over the host's, and become systemd in it.
#
# Nothing that systemd does on boot may reach the host: it gets an overlay instead of the host's files, its own
# /tmp, /run, /dev and /var/log (systemd-tmpfiles empties them), and a /proc and /sys that it cannot write.
set -euo pipefail
scene=$1
layers=$scene/layers root=$scene/root

mount --make-rprivate /
mkdir -p "$layers" "$root"
mount -t tmpfs tmpfs "$layers"
mkdir "$layers/upper" "$layers/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/work" "$root"

mount -t proc proc "$root/proc"
for path in sys sysrq-trigger irq bus; do
  [ -e "$root/proc/$path" ] || continue
  mount --bind "$root/proc/$path" "$root/proc/$path"
  mount -o remount,bind,ro "$root/proc/$path"
done
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"

mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
  touch "$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/shm" "$root/dev/pts"
ln -s /proc/self/fd "$root/dev/fd"
ln -s pts/ptmx "$root/dev/ptmx"

for folder in run tmp var/tmp var/log var/lib/jobsup; do
  mkdir -p "$root/$folder"
  mount -t tmpfs tmpfs "$root/$folder"
done
chmod 1777 "$root/tmp" "$root/var/tmp"

rm -rf "$root"/etc/systemd/system/*.wants "$root"/etc/systemd/system/*.requires
cp -a "$scene/files/." "$root/"
while read -r source target; do
  mkdir -p "$root$target"
  mount --bind "$source" "$root$target"
  mount -o remount,bind,ro "$root$target"
done <"$scene/binds"
if [ -e "$root/etc/ld.so.conf.d/machine.conf" ]; then chroot "$root" ldconfig; fi

cd "$root"
mkdir -p .host
pivot_root . .host
umount -l /.host
exec env -i container=jobsup-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=machine.target --log-target=journal --show-status=no
