#!/bin/busybox sh
# The guest's first process. It mounts what there is, and then does what it is told on the control channel:
#   run ID BASE64      a shell command; its output comes back as `out ID LINE`, its end as `end ID STATUS`
#   signal ID SIGNAL   to the command and everything that it started
# With `vring.host` on the kernel's command line, commands see the host's own file system: what they write to it stays in
# the guest's memory. With `vring.shell` there is a shell on the console, and the guest ends with it.

/bin/busybox mkdir -p /proc /sys /dev /run /tmp /host /sbin /rw
/bin/busybox --install /bin
export PATH=/bin HOME=/root TERM=linux
ln -s /bin/busybox /sbin/modprobe # the kernel asks for modules here

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
mkdir -p /dev/pts /dev/shm /dev/hugepages
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t hugetlbfs hugetlbfs /dev/hugepages
mount -t tmpfs tmpfs /run
modprobe virtio_pci
modprobe virtio_console

option() { grep -qw "vring.$1" /proc/cmdline; }

enter=
if option host; then
  modprobe 9pnet_virtio
  modprobe 9p
  modprobe overlay
  mount -t tmpfs tmpfs /rw
  mkdir /rw/lower /rw/upper /rw/work
  mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,ro,cache=loose host /rw/lower || poweroff -f
  mount -t overlay -o lowerdir=/rw/lower,upperdir=/rw/upper,workdir=/rw/work overlay /host || poweroff -f
  mkdir -p /host/lib/modules
  mount -t tmpfs tmpfs /host/run
  mkdir /host/run/guest
  for each in /proc /sys /dev /dev/pts /dev/shm /dev/hugepages /lib/modules; do mount --bind $each /host$each; done
  mount --bind /bin /host/run/guest # what the host has not, above all modprobe
  enter="chroot /host"
  path=${vring_path:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}:/run/guest
else
  path=/bin:/sbin
fi
ip link set lo up

if option shell; then
  dmesg -n 1
  env -i HOME=/root TERM=linux PATH="$path" setsid cttyhack $enter sh -c "cd '${vring_cwd:-/}'; exec \${SHELL:-sh}"
  poweroff -f
fi

run() {
  command=$(echo "$2" | base64 -d)
  {
    env -i HOME=/root TERM=dumb PATH="$path" setsid sh -c 'echo $$ >/run/$0.pid; exec "$@"' "$1" \
      $enter sh -c "cd '${vring_cwd:-/}'; $command" </dev/null 3<&- 2>&1
    echo $? >/run/$1.status
  } | awk -v id="$1" '{ print "out " id " " $0; fflush() }' >&3
  echo "end $1 $(cat /run/$1.status)" >&3
  rm /run/$1.status /run/$1.pid
}

for port in /sys/class/virtio-ports/*; do
  [ "$(cat $port/name)" = control ] && exec 3<>/dev/${port##*/}
done
echo "hello $(uname -r)" >&3
while read -r verb id argument <&3; do
  case $verb in
    run) run $id $argument & ;;
    signal) kill -s $argument -- -$(cat /run/$id.pid) ;;
  esac
done
poweroff -f
