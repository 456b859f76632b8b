#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Boots a kernel in QEMU, loads dvsm.ko, runs one command as root inside and exits with its exit status. See usage().
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
PATH=$PATH:/usr/sbin:/sbin

# What no command of ours exits with: 0 to 4 are kselftest's, 124 to 127 timeout's and the shell's, 128 and more are signals.
readonly EXIT_RMMOD=95 EXIT_SETUP=96 EXIT_TIMEOUT=97 EXIT_LOST=98 EXIT_SPLAT=99
# init.c writes to the same ports.
readonly PORT_OUTPUT=0xe9 PORT_ERRORS=0xea PORT_STATUS=0xeb PORT_EXIT=0xf4

usage()
{
	cat <<-EOT
	usage: run.sh [OPTIONS] -- COMMAND [ARGUMENT...]

	Boots a VM, loads dvsm.ko, runs COMMAND as root in a child cgroup and exits with its status. Its output is printed as it comes.
	COMMAND, and any ARGUMENT that is an executable file, is found by its path on this machine and packed with the
	shared libraries that it needs; the working directory has the same name inside. busybox gives sh and the usual tools.

	  --kernel KIND      6.12 (default), 6.1, debug, debug-6.1, kcsan: see kernel.sh
	  --nodes N          NUMA nodes (default 1); memory and CPUs are spread evenly
	  --memless-node N   node N has CPUs and no memory
	  --cpuless-node N   node N has memory and no CPU (Linux numbers nodes with CPUs first: give the last ones)
	  --smp N            CPUs (default 4)
	  --mem SIZE         memory of all nodes together, in M or G (default 4G)
	  --root host        this machine's root file system, read-only; /tmp, /run and /dev/shm are writable and empty
	  --icount           the guest's clock counts instructions: reproducible figures, one CPU runs at a time
	  --load M,M,...     load kernel modules first; M is NAME or NAME:PARAM=VALUE[:PARAM=VALUE...]
	  --build DIR        build the module in DIR for the VM's kernel and load it (may be repeated)
	  --no-dvsm          do not load dvsm.ko
	  --dvsm FILE        load this dvsm.ko and do not build one
	  --param P=V        parameter for dvsm.ko (may be repeated)
	  --append ARGS      more kernel arguments (may be repeated)
	  --qemu-arg ARG     one more QEMU argument (may be repeated)
	  --add FILE[:PATH]  pack FILE or folder as PATH (default: its own path) (may be repeated)
	  --timeout S        seconds that the command may take (default 600)
	  --log FILE         keep the kernel's console here
	  --verbose          the kernel's console on stderr

	Exit status beside the command's own:
	  $EXIT_RMMOD  dvsm.ko could not be unloaded afterwards, or a process could not be killed
	  $EXIT_SETUP  the VM could not be set up (bad option, no kernel, a module did not load)
	  $EXIT_TIMEOUT  the command or the VM did not end in time
	  $EXIT_LOST  the VM ended without a word
	  $EXIT_SPLAT  the kernel reported a bug of its own (WARNING, BUG, KASAN, lockdep, leak, panic, ...)
	EOT
}

say() { echo "run.sh: $*" >&2; }
die() { say "$*"; exit "$EXIT_SETUP"; }

kernel=6.12 nodes=1 smp=4 mem=4G root='' icount='' load='' dvsm=build timeout=600 log='' verbose=''
memless='' cpuless=''
params=() append=() qemu_args=() adds=() builds=()
while [ $# -gt 0 ]; do
	case $1 in
	--kernel | --nodes | --smp | --mem | --root | --timeout | --log | --memless-node | --cpuless-node | --load | --dvsm | \
		--param | --append | --qemu-arg | --add | --build)
		[ $# -ge 2 ] || die "$1 needs a value"
		;;
	esac
	case $1 in
	--kernel) kernel=$2; shift ;;
	--nodes) nodes=$2; shift ;;
	--smp) smp=$2; shift ;;
	--mem) mem=$2; shift ;;
	--root) root=$2; shift ;;
	--timeout) timeout=$2; shift ;;
	--log) log=$(realpath -m "$2"); shift ;;
	--memless-node) memless+=" $2 "; shift ;;
	--cpuless-node) cpuless+=" $2 "; shift ;;
	--load) load+=",$2"; shift ;;
	--dvsm) dvsm=$2; shift ;;
	--param) params+=("$2"); shift ;;
	--append) append+=("$2"); shift ;;
	--qemu-arg) qemu_args+=("$2"); shift ;;
	--add) adds+=("$2"); shift ;;
	--build) builds+=("$2"); shift ;;
	--icount) icount=yes ;;
	--no-dvsm) dvsm='' ;;
	--verbose) verbose=yes ;;
	-h | --help) usage; exit 0 ;;
	--) shift; break ;;
	*) usage >&2; die "unknown option $1 (a command begins after --)" ;;
	esac
	shift
done
[ $# -gt 0 ] || { usage >&2; die "no command"; }
[[ $nodes =~ ^[1-9][0-9]*$ && $smp =~ ^[1-9][0-9]*$ && $timeout =~ ^[0-9]+$ ]] || die "--nodes, --smp and --timeout take numbers"
case $mem in
*[0-9]G) mem=$((${mem%G} * 1024)) ;;
*[0-9]M) mem=${mem%M} ;;
*) die "--mem takes a number with M or G" ;;
esac
[ -z "$root" ] || [ "$root" = host ] || die "--root knows only host"
command -v qemu-system-x86_64 >/dev/null || die "no qemu-system-x86_64: install qemu-system-x86 (scripts/deps.sh vm)"

tmp=$(mktemp -d "${TMPDIR:-/tmp}/dvsm-vm.XXXXXX")
qemu_pid='' tail_pid=''
# shellcheck disable=SC2317 # the trap calls it
cleanup()
{
	[ -z "$qemu_pid" ] || kill -9 "$qemu_pid" 2>/dev/null || true
	[ -z "$tail_pid" ] || kill "$tail_pid" 2>/dev/null || true
	rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
stage=$tmp/stage
mkdir -p "$stage/vm" "$stage/bin" "$stage/root" "$stage"/{proc,sys,dev,tmp,run}

kdir=$("$here/kernel.sh" "$kernel") || exit "$EXIT_SETUP"
release=$(cat "$kdir/release")

# --- the initramfs ---

# pack FILE [PATH]: FILE at PATH, with the interpreter or the libraries that it needs
pack()
{
	local file=$1 path=${2:-$(realpath -s "$1")} magic library interpreter

	[ -e "$file" ] || die "no file $file"
	[ -e "$stage$path" ] && return
	mkdir -p "$stage$(dirname "$path")"
	cp -rL "$file" "$stage$path"
	[ -f "$file" ] && [ -x "$file" ] || return 0
	IFS= read -r magic < <(head -c 200 "$file" | head -n 1 | tr -d '\0') || true
	case $magic in
	'#!'*)
		read -r interpreter _ <<<"${magic#\#!}"
		[ "$interpreter" = /bin/sh ] || [ "$interpreter" = /usr/bin/env ] || pack "$interpreter"
		;;
	*ELF*)
		while read -r library; do
			[ -e "$stage$library" ] && continue
			mkdir -p "$stage$(dirname "$library")"
			cp -L "$library" "$stage$library"
		done < <(ldd "$file" 2>/dev/null | grep -o '/[^ ]*')
		;;
	esac
}

pack_command()
{
	local argument name

	case $1 in
	*/*) ;;
	*)	busybox --list | grep -qxF -- "$1" || { name=$(command -v "$1") && pack "$name"; } || true
		;;
	esac
	for argument; do
		case $argument in
		/bin/* | /sbin/* | /usr/* | /proc/* | /sys/* | /dev/*) ;;
		*/*) [ -f "$argument" ] && [ -x "$argument" ] && pack "$argument" ;;
		esac
	done
	return 0
}

# load_module NAME[:PARAM=VALUE...]: the module and what it depends on, in loading order
load_module()
{
	local name=${1%%:*} words='' what file base

	[ "$name" = "$1" ] || words=$(tr : ' ' <<<"${1#*:}")
	modprobe -C /dev/null -d "$kdir" -S "$release" -D "$name" >"$tmp/depends" 2>"$tmp/modprobe" ||
		die "kernel $release has no module $name: $(cat "$tmp/modprobe")"
	while read -r what file _; do
		[ "$what" = insmod ] || continue
		base=$(basename "$file")
		base=${base%.xz}
		[ ! -e "$stage/vm/$base" ] || continue
		case $file in
		*.xz) xz -dc "$file" >"$stage/vm/$base" ;;
		*) cp "$file" "$stage/vm/$base" ;;
		esac
		if [ "$(tr - _ <<<"${base%.ko}")" = "$(tr - _ <<<"$name")" ]; then
			echo "$base $words" >>"$stage/vm/modules"
		else
			echo "$base" >>"$stage/vm/modules"
		fi
	done <"$tmp/depends"
}

build_init()
{
	local init=$top/build/vm/init

	mkdir -p "$top/build/vm"
	if [ ! -x "$init" ] || [ "$here/init.c" -nt "$init" ] || [ "$here/splats.h" -nt "$init" ]; then
		gcc -O2 -static -Wall -Wextra -Werror -o "$init.$$" "$here/init.c" || die "init.c does not compile"
		mv "$init.$$" "$init"
	fi
	cp "$init" "$stage/init"
}

# Under one lock with the copy: another run.sh may want to link the same file anew.
build_dvsm()
{
	mkdir -p "$top/build/vm"
	exec 7>"$top/build/vm/$release.lock"
	flock 7
	make -s -C "$top" module KDIR="$kdir/build" >"$tmp/make.log" 2>&1 7>&- ||
		{ cat "$tmp/make.log" >&2; die "dvsm.ko does not build for $release"; }
	cp "$top/build/kmod/$release/dvsm.ko" "$stage/vm/dvsm.ko"
	exec 7>&-
}

# build_module DIR: its one module, in a mirror as dvsm.ko; loaded after what the kernel brings
build_module()
{
	local mirror file

	mirror=$top/build/modules/$release/$(basename "$1")
	mkdir -p "$mirror"
	exec 7>"$mirror.lock"
	flock 7
	for file in "$(realpath "$1")"/*; do
		ln -sf "$file" "$mirror/"
	done
	make -s -C "$kdir/build" M="$mirror" modules >"$tmp/make.log" 2>&1 7>&- ||
		{ cat "$tmp/make.log" >&2; die "the module in $1 does not build for $release"; }
	cp "$mirror"/*.ko "$stage/vm/"
	basename "$mirror"/*.ko >>"$stage/vm/modules"
	exec 7>&-
}

case $dvsm in
build) build_dvsm ;;
?*) cp "$dvsm" "$stage/vm/dvsm.ko" || die "no module $dvsm" ;;
esac
build_init
printf '%s\0' "$@" >"$stage/vm/argv"
printf '%s' "$PWD" >"$stage/vm/cwd"
printf '%s' "$timeout" >"$stage/vm/timeout"
printf '%s' "${params[*]}" >"$stage/vm/params"
printf '%s' "$root" >"$stage/vm/root"
: >"$stage/vm/modules"
[ -z "$root" ] || load=",virtio_pci,9pnet_virtio,9p$load"
for module in ${load//,/ }; do
	load_module "$module"
done
for build in "${builds[@]}"; do
	build_module "$build"
done
if [ -z "$root" ]; then
	busybox=$(command -v busybox) || die "no busybox: install busybox-static (scripts/deps.sh vm)"
	pack "$busybox" /bin/busybox
	mkdir -p "$stage$PWD"
	pack_command "$@"
	for add in "${adds[@]}"; do
		case $add in
		*:*) pack "${add%%:*}" "${add#*:}" ;;
		*) pack "$add" ;;
		esac
	done
elif [ ${#adds[@]} -gt 0 ]; then
	die "--add is for the initramfs: with --root host every file is there already"
fi
(cd "$stage" && find . -print0 | cpio -0 -o -H newc -R 0:0 --quiet) >"$tmp/initramfs"
rm -rf "$stage"

# --- the machine ---

has() { [[ $1 == *" $2 "* ]]; }	# LIST NODE

numa_args()
{
	local node other socket=0 cpu_nodes=0 mem_nodes=0 each distance

	for ((node = 0; node < nodes; node++)); do
		has "$cpuless" $node || cpu_nodes=$((cpu_nodes + 1))
		has "$memless" $node || mem_nodes=$((mem_nodes + 1))
	done
	[ $((cpu_nodes * mem_nodes)) -gt 0 ] || die "some node must have CPUs, and some node memory"
	[ $((smp % cpu_nodes)) -eq 0 ] || die "--smp $smp does not spread evenly over $cpu_nodes nodes"
	machine+=(-smp "$smp,sockets=$cpu_nodes,cores=$((smp / cpu_nodes)),threads=1")
	each=$((mem / mem_nodes))
	machine+=(-m "$((each * mem_nodes))M")
	[ "$nodes" -gt 1 ] || return 0
	for ((node = 0; node < nodes; node++)); do
		if has "$memless" $node; then
			machine+=(-numa "node,nodeid=$node")
		else
			machine+=(-object "memory-backend-ram,id=mem$node,size=${each}M" -numa "node,nodeid=$node,memdev=mem$node")
		fi
	done
	for ((node = 0; node < nodes; node++)); do
		has "$cpuless" $node || machine+=(-numa "cpu,node-id=$node,socket-id=$((socket++))")
		for ((other = 0; other < nodes; other++)); do
			distance=$((node == other ? 10 : 10 + 10 * (node > other ? node - other : other - node)))
			machine+=(-numa "dist,src=$node,dst=$other,val=$distance")
		done
	done
}

machine=(-machine "q35,sata=off,smbus=off")
cpu=max,la57=off
if [ -n "$icount" ]; then
	machine+=(-accel "tcg,thread=single" -icount "shift=0,sleep=off")
else
	machine+=(-accel "tcg,thread=multi")
	case $kernel in
	# An emulator does "rep stosb" byte by byte: without it these zero memory by words, and tests see that path too.
	debug* | kcsan) cpu+=,erms=off,fsrm=off ;;
	esac
fi
machine+=(-cpu "$cpu")
numa_args
if [ -n "$root" ]; then
	machine+=(-fsdev "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"
		-device "virtio-9p-pci,fsdev=host,mount_tag=host")
fi
# loglevel=5: warnings and worse reach the console, for the case that the VM does not live to read its own log.
arguments="console=ttyS0 loglevel=5 panic=-1 oops=panic panic_on_warn=1 log_buf_len=8M mitigations=off random.trust_cpu=on"
arguments+=" rcupdate.rcu_cpu_stall_timeout=180 watchdog_thresh=60 nokaslr numa_balancing=enable"
case $kernel in
# Who allocated a page that is told of costs a test 8 %. page_poison=1 makes it twice as slow, so that stays off.
debug*) arguments+=" page_owner=on" ;;
esac
[ ${#append[@]} -eq 0 ] || arguments+=" ${append[*]}"

mkfifo "$tmp/output" "$tmp/errors"
cat <"$tmp/output" &
output_pid=$!
cat <"$tmp/errors" >&2 &
errors_pid=$!
exec 8>"$tmp/output" 9>"$tmp/errors"	# so that a second start finds the readers still there

reached() { grep -qs "^$1" "$tmp/status"; }

# boot: one life of the VM. Sets killed where it had to be ended from outside.
boot()
{
	local deadline phase=boot started=$SECONDS

	: >"$tmp/status"
	: >"$tmp/console"
	killed=''
	qemu-system-x86_64 -nodefaults -no-user-config -display none -vga none -nic none -no-reboot \
		"${machine[@]}" \
		-serial "file:$tmp/console" \
		-chardev "file,id=output,path=$tmp/output,append=on" -device "isa-debugcon,iobase=$PORT_OUTPUT,readback=$PORT_OUTPUT,chardev=output" \
		-chardev "file,id=errors,path=$tmp/errors,append=on" -device "isa-debugcon,iobase=$PORT_ERRORS,readback=$PORT_ERRORS,chardev=errors" \
		-chardev "file,id=status,path=$tmp/status" -device "isa-debugcon,iobase=$PORT_STATUS,readback=$PORT_STATUS,chardev=status" \
		-device "isa-debug-exit,iobase=$PORT_EXIT,iosize=1" \
		-kernel "$kdir/vmlinuz" -initrd "$tmp/initramfs" -append "$arguments" \
		"${qemu_args[@]}" </dev/null >"$tmp/qemu" 2>&1 8>&- 9>&- &
	qemu_pid=$!
	if [ -n "$verbose" ]; then
		tail -n +1 -f --pid="$qemu_pid" "$tmp/console" >&2 &
		tail_pid=$!
	fi
	# 300 s until the command runs; then its time, and a minute for init to end it; then 300 s to judge (kmemleak is slow).
	deadline=$((started + 300))
	while kill -0 "$qemu_pid" 2>/dev/null; do
		if [ $phase = boot ] && reached run; then
			phase=run
			deadline=$((timeout ? SECONDS + timeout + 60 : 0))
		elif [ $phase = run ] && { reached exit || reached timeout; }; then
			phase=judge
			deadline=$((SECONDS + 300))
		fi
		if [ "$deadline" -ne 0 ] && [ "$SECONDS" -gt "$deadline" ]; then
			killed=yes
			kill -9 "$qemu_pid" 2>/dev/null || true
		fi
		sleep 0.1
	done
	wait "$qemu_pid" 2>/dev/null || true
	qemu_pid=''
}

boot
if ! reached boot; then
	if [ -s "$tmp/qemu" ] && [ ! -s "$tmp/console" ]; then
		cat "$tmp/qemu" >&2
		die "QEMU did not start"
	fi
	say "the VM died before its first process; the end of its console was:"
	tail -n 15 "$tmp/console" >&2
	say "starting it once more"
	boot
fi
exec 8>&- 9>&-
wait "$output_pid" "$errors_pid" 2>/dev/null || true
[ -z "$log" ] || cp "$tmp/console" "$log"

# --- the verdict: what the kernel did first, then what the command said ---

# verdict STATUS MESSAGE: the log's tail, the message and the exit
verdict()
{
	[ -n "$verbose" ] || { echo "--- the kernel's log, last lines ---"; tail -n "${DVSM_VM_TAIL:-60}" "$tmp/console" | tr -d '\r'; echo "---"; } >&2
	[ ! -s "$tmp/qemu" ] || cat "$tmp/qemu" >&2
	say "$2"
	exit "$1"
}

word() { sed -n "s/^$1 //p" "$tmp/status" | head -n 1; }

sed -n 's/^"\(.*\)",$/\1/p' "$here/splats.h" >"$tmp/splats"
if reached splat; then
	grep '^splat ' "$tmp/status" >&2
	verdict "$EXIT_SPLAT" "the kernel reported a bug: $(word splat)"
fi
if ! reached end; then
	if found=$(grep -m 1 -F -f "$tmp/splats" "$tmp/console"); then
		verdict "$EXIT_SPLAT" "the kernel reported a bug: $(tr -d '\r' <<<"$found")"
	fi
	[ -z "$killed" ] || verdict "$EXIT_TIMEOUT" "the VM hung"
	verdict "$EXIT_LOST" "the VM was lost"
fi
! reached setup || verdict "$EXIT_SETUP" "$(word setup)"
! reached timeout || verdict "$EXIT_TIMEOUT" "the command did not end within $(word timeout) s"
! reached stuck || verdict "$EXIT_RMMOD" "$(word stuck)"
! reached rmmod || verdict "$EXIT_RMMOD" "dvsm.ko could not be unloaded: $(word rmmod)"
exit "$(word exit)"
