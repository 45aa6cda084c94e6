#!/bin/busybox sh
# A guest with a network card and a disk that are served by vhost-user
# backends.  PING n: an answer came; DISK n: a megabyte was written, read back
# and compared; LOST, BAD: it was not so.  "patience=N" of the kernel's words: how
# long to wait for an answer, in seconds.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
for m in $(cat /modules/order); do
	insmod "/modules/$m.ko" || echo "GUEST insmod $m failed"
done
patience=2
for word in $(cat /proc/cmdline); do
	case $word in patience=*) patience=${word#*=} ;; esac
done
count() { # said when it is another number than before
	set -- /sys/class/net/eth0/queues/tx-*
	[ $# = "$queues" ] || echo "QUEUES $#"
	queues=$#
}
if [ -e /sys/class/net/eth0 ]; then
	ip link set eth0 up
	ip address add 10.9.0.1/24 dev eth0
	# The size makes frames of several hundred octets; the pattern is
	# compared by ping itself.
	(
		n=0
		cpus=$(grep -c ^processor /proc/cpuinfo)
		while :; do
			if taskset $((1 << n % cpus)) ping -c 1 -W "$patience" -s 600 -p a5 10.9.0.2 >/tmp/ping 2>&1
			then n=$((n + 1)); echo "PING $n"; count
			else echo "LOST $n"; fi
			usleep 100000
		done
	) &
fi
if [ -e /dev/vda ]; then
	echo "SIZE $(cat /sys/block/vda/size)"
	(
		n=0
		while :; do
			dd if=/dev/urandom of=/tmp/data bs=64k count=16 2>/dev/null
			at=$((n % 16))
			dd if=/tmp/data of=/dev/vda bs=1M seek=$at conv=fsync \
				2>/dev/null || echo "BAD write $n"
			echo 1 >/proc/sys/vm/drop_caches
			dd if=/dev/vda of=/tmp/back bs=1M skip=$at count=1 \
				2>/dev/null || echo "BAD read $n"
			if cmp -s /tmp/data /tmp/back
			then n=$((n + 1)); echo "DISK $n"
			else echo "BAD compare $n"; fi
			usleep 100000
		done
	) &
fi
echo "GUEST up"
while :; do sleep 1000; done
