#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Inside the VM: programs that know nothing of dvsm and can "use a file as memory", given /dev/dvsm; and README's. TAP.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
cd /tmp || exit 1
# smaps of Linux 6.1 leaves out the huge pages that NUMA balancing waits to see used.
echo 0 >/proc/sys/kernel/numa_balancing
n=0 failed=0

# result NAME STATUS: tell, and show the log of what failed
result()
{
	n=$((n + 1))
	if [ "$2" -eq 0 ]; then
		echo "ok $n $1"
	else
		failed=1
		echo "not ok $n $1"
		tail -n 30 log | sed 's/^/# /'
	fi
}

nothing_left()
{
	for _ in $(seq 600); do
		grep -E '^(regions|pages|pinned_pages) [1-9]' /sys/kernel/debug/dvsm/stats || return 0
		sleep 0.1
	done
	return 1
}

# All memory of a guest, allocated before it starts, in huge pages.
guest_memory()
{
	local pid memory status=1

	qemu-system-x86_64 -nodefaults -display none -machine q35,memory-backend=memory,accel=tcg -m 64 -S \
		-object memory-backend-file,id=memory,size=64M,mem-path=/dev/dvsm,share=on,prealloc=on,align=2M &
	pid=$!
	for _ in $(seq 600); do
		memory=$(awk '/^[0-9a-f]+-/ { ours = /dvsm:implicit/ } ours && /^FilePmdMapped/ { kb += $2 } END { print kb + 0 }' "/proc/$pid/smaps")
		[ "$memory" -eq 65536 ] && { status=0; break; }
		kill -0 "$pid" || break
		sleep 0.2
	done
	[ $status -eq 0 ] || grep -A30 dvsm: "/proc/$pid/smaps"
	kill "$pid" && wait "$pid"
	return $status
}

# verify ENGINE OPTION...: data written from and read back to the device's memory, checked
verify()
{
	local engine=$1
	shift
	fio --name=verify --filename=/dev/ram0 --size=8M --bs=64k --rw=randwrite --verify=crc32c --do_verify=1 --direct=1 \
		--ioengine="$engine" --iodepth=8 --iomem=mmapshared:/dev/dvsm "$@"
}

# Linux 6.1 refuses to register memory of any file but shmem and hugetlb.
fixed_buffers()
{
	local status=0 said

	said=$(verify io_uring --fixedbufs=1 2>&1) || status=$?
	echo "$said"
	case $(uname -r) in
	6.1.*) [ $status -ne 0 ] && [[ $said == *"Operation not supported"* ]] ;;
	*) return $status ;;
	esac
}

python_mmap()
{
	python3 - <<-'END'
	import mmap, os
	file = os.open("/dev/dvsm", os.O_RDWR)
	length = 5 << 20 | 4096
	memory = mmap.mmap(file, length)
	for worker in range(4):
	    if not os.fork():
	        memory[worker::4] = bytes([worker + 1]) * len(range(worker, length, 4))
	        os._exit(0)
	for worker in range(4):
	    assert os.wait()[1] == 0
	again = mmap.mmap(file, length)
	assert again[:] == (b"\1\2\3\4" * length)[:length]
	again.flush()
	private = mmap.mmap(file, length, flags=mmap.MAP_PRIVATE)
	private[0] = 77
	assert memory[0] == 1 and private[0] == 77
	END
}

# numactl_places PAGES-ON-0 PAGES-ON-1 OPTION: where 32 MiB are that a program touches which knows nothing of nodes
numactl_places()
{
	numactl "$3" python3 - "$1" "$2" <<-'END'
	import mmap, os, re, sys
	length = 32 << 20
	memory = mmap.mmap(os.open("/dev/dvsm", os.O_RDWR), length)
	for chunk in range(0, length, 2 << 20):
	    memory[chunk] = 1
	line = [line for line in open("/proc/self/numa_maps") if "dvsm:implicit" in line][0]
	print(line)
	pages = dict(re.findall(r" N(\d)=(\d+)", line))
	assert [pages.get("0", "0"), pages.get("1", "0")] == sys.argv[1:], pages
	END
}

# All of them, the one too that is left out where there is no device.
readme_programs()
{
	"$top/selftests/lib/readme_test.sh" >said || { cat said; return 1; }
	cat said
	! grep -q SKIP said && grep -q '^# device: .* in 2 MiB pages$' said
}

echo 1..9
guest_memory >log 2>&1
result "QEMU: a guest's memory, in huge pages" $?
verify psync >log 2>&1
result "fio: O_DIRECT" $?
verify io_uring >log 2>&1
result "fio: O_DIRECT by io_uring" $?
fixed_buffers >log 2>&1
result "fio: O_DIRECT by io_uring from fixed buffers, or the kernel's refusal" $?
python_mmap >log 2>&1
result "python3: mmap, shared by forked workers" $?
{ numactl_places 8192 0 --membind=0 && numactl_places 0 8192 --membind=1; } >log 2>&1
result "numactl --membind: all on that node" $?
numactl_places 4096 4096 --interleave=all >log 2>&1
result "numactl --interleave: half on each node" $?
readme_programs >log 2>&1
result "README's programs" $?
nothing_left >log 2>&1
result "nothing is left" $?
exit $failed
