#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Everything that can be checked: static checks, host tests, and the selftests in a VM on 6.1, on 6.12 and on the debug kernel.
#   check.sh [JOB...]     (default: all of them but vm-kcsan, which finds data races; names as printed)
# Logs are under build/check/. The last line is "N passed, N failed, N skipped"; the exit status tells whether N failed is 0.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"
# "make -s check" would make the kernel's build say less than what is judged here.
unset MAKEFLAGS MFLAGS
out=$top/build/check
vm=$top/scripts/vm
all_jobs=(vm-debug-1 vm-debug-2 vm-6.12 vm-6.1 module-6.12 module-6.1 clang-6.12 clang-6.1 headers style host host-sanitized host-threads host-valgrind)
jobs=("$@")
[ $# -gt 0 ] || jobs=("${all_jobs[@]}")
begun=$SECONDS

say() { echo "check: $*" >&2; }

# --- results: one line "pass|fail|skip NAME[: WHY]" each, on descriptor 3 of a job ---

pass() { echo "pass $*" >&3; }
fail() { echo "fail $*" >&3; }
skip() { echo "skip $*" >&3; }

# claim NAME COMMAND...: NAME holds if COMMAND succeeds
claim()
{
	local name=$1
	shift
	echo "== $name"
	if "$@"; then pass "$name"; else fail "$name"; fi
}

# nothing: standard input, shown, is empty. (Not "! a | b": with pipefail that succeeds when a fails.)
nothing() { ! grep .; }

# --- static checks ---

kdir() { echo "$("$vm/kernel.sh" "$1")/build"; }

# Warnings of our files; objtool's remarks about clang code in a kernel configured for gcc are not ours.
silent() { nothing < <(grep -E '(warning|error|note):' "$1" | grep -v ' objtool: '); }

build_quietly()
{
	local log=$out/$1.make.log
	shift
	make module W=1 KCFLAGS=-Werror "$@" >"$log" 2>&1 || { tail -n 40 "$log"; return 1; }
	silent "$log"
}

job_module()
{
	rm -rf "$out/kmod-$1"
	claim "gcc W=1 -Werror and sparse C=2 are silent" \
		build_quietly "module-$1" KDIR="$(kdir "$1")" MODULE_OUT="$out/kmod-$1" C=2 CF=-Wsparse-error
	claim "sparse has looked at every file" sparse_ran "$1"
}

sparse_ran()
{
	local checked files
	checked=$(grep -c '^  CHECK  ' "$out/module-$1.make.log" || true)
	files=$(find kmod -name '*.c' | wc -l)
	echo "$checked of $files files"
	[ "$checked" -ge "$files" ]
}

job_clang()
{
	rm -rf "$out/clang-$1"
	claim "clang W=1 -Werror is silent" \
		build_quietly "clang-$1" KDIR="$(kdir "$1")" MODULE_OUT="$out/clang-$1" CC="$top/scripts/clang-module.sh" \
		OBJECT_FILES_NON_STANDARD=y
}

# header_alone COMPILER LANGUAGE WIDTH HEADER: a header compiles alone, twice included
header_alone()
{
	local flags=(-Wall -Wextra -Werror -fsyntax-only -x "$2" "-m$3" -Iinclude/uapi -Iinclude)
	case $4 in
	linux/*) flags+=(-Wpadded) ;;
	esac
	# The 32-bit headers of libc need not be installed: the kernel ABI header must not use any.
	[ "$3" = 64 ] || flags+=(-isystem /usr/include/x86_64-linux-gnu)
	printf '#include <%s>\n#include <%s>\n' "$4" "$4" | "$1" "${flags[@]}" -
}

job_headers()
{
	local header compiler
	for compiler in gcc clang; do
		for header in include/uapi/linux/*.h; do
			header=${header#include/uapi/}
			for width in 32 64; do
				claim "$header alone, C, $compiler -m$width, no padding" header_alone "$compiler" c "$width" "$header"
				claim "$header alone, C++, $compiler -m$width, no padding" header_alone "$compiler" c++ "$width" "$header"
			done
		done
		for header in include/dvsm/*.h; do
			header=${header#include/}
			claim "$header alone, C, $compiler" header_alone "$compiler" c 64 "$header"
			claim "$header alone, C++, $compiler" header_alone "$compiler" c++ 64 "$header"
		done
	done
}

checkpatch_clean()
{
	local tree report status=0
	tree=$("$vm/kernel.sh" kselftest)
	report=$(perl "$tree/scripts/checkpatch.pl" --no-tree --strict --terse --show-types --max-line-length=100 -f "$@") || status=$?
	echo "$report"
	# It fails for a mere CHECK too; then the totals, one for each file that it has something to say about, are what counts.
	[ $status -eq 0 ] || { grep -q '^total: ' <<<"$report" && nothing < <(grep '^total: ' <<<"$report" | grep -v ': 0 errors, 0 warnings, '); }
}

# Each command has a row in the fuzzer's table.
fuzzer_complete()
{
	local command
	nothing < <(grep -o '^#define DVSM_IOC_[A-Z_]*[[:space:]]*_IO' include/uapi/linux/dvsm.h | awk '{ print $2 }' |
		while read -r command; do
			grep -qw "$command" selftests/fuzz/fuzz_command.c || echo "selftests/fuzz/fuzz_command.c lacks $command"
		done)
}

# What git sees of the tree beside build/, file by file.
tree_state() { git status --porcelain --ignored=matching --untracked-files=all | sed '/^!! build\/$/d' | sort; }

# Nothing is new or changed that was not so before the builds.
tree_clean() { nothing < <(comm -13 "$out/tree.before" <(tree_state)); }

# Comes last, whatever the jobs were.
job_tree() { claim "builds and tests leave nothing but build/" tree_clean; }

compat_rule()
{
	nothing < <(grep -nE 'LINUX_VERSION_CODE|KERNEL_VERSION|DVSM_HAVE_' -r kmod --include='*.[ch]' | grep -v '^kmod/compat\.h:')
}

# Each bug of check-seeded.sh still has its place in the code, and there are the tests that are to notice it.
seeds_apply()
{
	local seed name
	nothing < <(for seed in selftests/seeded/*.patch; do
		patch --dry-run -s -f -p1 <"$seed" >/dev/null || echo "$seed does not apply"
		sed -n '/^---/q; s/^Test: [^ ]*//p' "$seed" | grep -oE -- '-[tr] [^ ]+' | sed 's/.*[ .]//' | while read -r name; do
			grep -rqwF --include='*.[ch]' "$name" selftests || echo "$seed names $name, which is no test"
		done
	done)
}

# What is built is not committed.
text_alone()
{
	local file
	nothing < <(git ls-files | while read -r file; do
		[ ! -s "$file" ] || grep -qI . "$file" || echo "$file is no text"
	done)
}

job_style()
{
	local scripts
	mapfile -t scripts < <(git ls-files -co --exclude-standard -- scripts selftests .ci |
		while read -r file; do head -n 1 "$file" | grep -q '^#!.*sh$' && echo "$file"; done)
	claim "checkpatch --strict finds no error and no warning in kmod/" checkpatch_clean kmod/*.[ch]
	claim "shellcheck finds nothing in our scripts" shellcheck -x "${scripts[@]}"
	claim "kernel versions are told apart in kmod/compat.h and kmod/Kbuild alone" compat_rule
	claim "syzkaller's description has every command, field and flag of the ABI header" scripts/syzkaller/check.sh
	claim "the fuzzer knows every command" fuzzer_complete
	claim "every seed applies and names tests that there are" seeds_apply
	claim "git has text alone" text_alone
}

# --- tests ---

# read_tests EXPECTED...: what run-tests.sh printed, as results
read_tests()
{
	awk -v expected="$*" '
	function result(what, text) { print what " " text }
	/^# RUN / { name = $3; count = plan = bad = empty = 0; seen[name] = 1; next }
	/^# LEFT / { $1 = $2 = $3 = ""; sub(/^ */, ""); result("fail", name ": left behind: " $0); next }
	/^# END / {
		status = $4; ended[name] = 1
		if (status == 137)
			result("fail", name ": did not end in its time")
		else if (empty && status == 0)
			result("skip", name ": none of its tests is left")
		else if (!count)
			result(status == 0 ? "pass" : status == 4 ? "skip" : "fail", name ": exit status " status (last ? ": " last : ""))
		else if (count < plan)
			result("fail", name ": " count " of " plan " tests reported, exit status " status)
		else if (status != 0 && status != 4 && !bad)
			result("fail", name ": exit status " status " although no test failed")
		name = last = ""; next
	}
	!name { next }
	/^# +RUN / { why = ""; next }
	# The first assertion that does not hold, how else it ended (a signal, the time limit), and what repeats a random test.
	/^# .*(:Expected |: Test (terminated by timeout|terminated unexpectedly|exited|ended)|DVSM_SEED=|^# step [0-9]+, )/ && !(/:Expected / && why ~ /:Expected /) { line = $0; sub(/^# */, "", line); sub(/^\/.*\//, "", line); why = why " | " line; next }
	/^1\.\.[0-9]+/ { plan = substr($1, 4) + 0; empty = !plan
		if ($0 ~ /# SKIP/) { count++; plan = 1; text = $0; sub(/.*# SKIP */, "", text); result("skip", name ": " text) }
		next }
	/^(not )?ok [0-9]+/ {
		count++; text = $0; sub(/^(not )?ok [0-9]+ *-? */, "", text)
		if (text ~ /# SKIP/) result("skip", name ": " text)
		else if ($1 == "not") { bad++; result("fail", name ": " text why) }
		else result("pass", name ": " text)
		next
	}
	{ last = $0 }
	END {
		n = split(expected, programs, " ")
		for (i = 1; i <= n; i++) {
			program = programs[i]; sub(/.*(selftests|-sanitized)\//, "", program)
			if (!ended[program]) result("fail", program (seen[program] ? ": began and did not end" : ": did not run"))
		}
	}' >&3
}

selftests() { sed "s|^|build/selftests/|" build/selftests/TESTS; }
# Folders of selftests/ with a Makefile of their own: tests of the library, for the host and for the VM.
folders() { for makefile in selftests/*/Makefile; do basename "$(dirname "$makefile")"; done; }
library_tests() { for folder in $(folders); do find "build/selftests/$folder" -maxdepth 1 -name '*_test' | sort; done; }

# It single-steps every instruction of the heap: seconds on the host, an hour in an emulator, where the fixture for the
# device kills at some of them.
host_only='-F step'
# They need fault injection or KCOV, which Debian's kernels lack.
debug_only=(build/selftests/fail_test build/selftests/fail_worker_test build/selftests/module_fail_test build/selftests/fuzz_test)
# What does much at once: worth the time on a kernel that looks for data races.
racing='/(race|race_storm|snapshot_race|migrate_load|module|many|life|share|events|populate|async)_test$'

# ioctl_test once more, by the ring; async_test has that way on the debug kernel, where this takes five minutes. And
# libdvsm-malloc.so, whose heaps are private memory: no code of ours runs in the kernel for them.
stock_only=(build/selftests/ioctl_uring_test build/selftests/heap/interpose_test)

without() { grep -vxF "${@/#/-e}"; }

# What a machine cannot have is left out instead of skipped, by the harness's own options (see run-tests.sh): fixtures and
# variants have the names of the backends that they are for.
host_filter()
{
	[ -e /dev/dvsm ] || printf '%s ' -F device -V device
	[ "$(cat /proc/sys/vm/nr_hugepages)" -gt 0 ] || printf '%s ' -F memfd_hugetlb -V memfd_hugetlb
}

# Every *_test.c is among the programs that run.
nothing_forgotten()
{
	local source test
	nothing < <(find selftests -name '*_test.c' | while read -r source; do
		test=build/${source%.c}
		[[ " $* " == *" $test "* ]] || [[ " $* " == *" build/selftests/${test##*/} "* ]] || echo "$source does not run"
	done)
}

# job_vm KERNEL[-1|-2]: all selftests, or every second one: the debug kernel is slow, and two machines use both cores
job_vm()
{
	local name=$1 kernel=${1%-[12]} smp status=0 filter=$host_only programs begin=() settings=() extra=(--append hugepages=64)
	local limit=900 total=2700	# seconds: a program, all of them
	# Two machines of four CPUs on two cores wait for one another's interrupts most of the time.
	smp=$(($(nproc) < 4 ? 2 : 4))
	case $kernel in
	debug*) total=3600; export DVSM_KCOV=1 ;;
	# The core's own races are not ours to report: selftests/kcsan.sh says whose are.
	# What is counted by node races only where a node has two CPUs; this machine is alone.
	kcsan) total=3600 smp=4; extra+=(--append kcsan.early_enable=0); begin=(selftests/kcsan.sh) ;;
	# Debian's kernels zero every page otherwise, which hides who does not. 6.12 runs as Debian has it, debug zeroes nothing.
	6.1) extra+=(--append init_on_alloc=0) ;;
	esac
	mapfile -t programs < <(selftests; library_tests)
	claim "every test there is runs" nothing_forgotten "${programs[@]}"
	if [[ $kernel == debug* ]]; then
		# They take minutes, and no code of ours runs in the kernel for them.
		filter+=" -V memfd_thp -V memfd_4k -V memfd_hugetlb"
		# With files on the NVMe disk lib_dma_test takes 14 minutes there beside another VM; nvme_test has that disk.
		settings=(DVSM_TEST_FILES=/tmp)
		mapfile -t programs < <(printf '%s\n' "${programs[@]}" | without "${stock_only[@]}")
	else
		mapfile -t programs < <(printf '%s\n' "${programs[@]}" | without "${debug_only[@]}")
	fi
	# Whoever loads the module anew ends the watch: kcsan.sh has named its functions by their addresses.
	[ "$kernel" != kcsan ] || mapfile -t programs < <(printf '%s\n' "${programs[@]}" | grep -E "$racing" | without build/selftests/module_test; echo build/selftests/module_test)
	[ "$name" = "$kernel" ] ||
		mapfile -t programs < <(printf '%s\n' "${programs[@]}" | awk -v rest="$((${name#"$kernel"-} - 1))" 'NR % 2 == rest')
	[ ! -r selftests/vm-options ] || mapfile -t -O ${#extra[@]} extra < <(grep -v '^#' selftests/vm-options)
	"$vm/run.sh" --kernel "$kernel" --nodes 2 --smp $smp --timeout $total --log "$out/vm-$name.console" "${extra[@]}" -- \
		env DVSM_TEST_SECONDS=5 DVSM_TEST_FILTER="$filter" "${settings[@]}" "${begin[@]}" "$vm/run-tests.sh" $limit "${programs[@]}" >"$out/vm-$name.output" || status=$?
	tr -d '\r' <"$out/vm-$name.output" | read_tests "${programs[@]}"
	vm_ended $status "$out/vm-$name.log"
	case $name in 6.*) odd_nodes "$name"; movable_node "$name" ;; esac
}

# vm_ended STATUS LOG: what a VM's end says of kernel and module
vm_ended()
{
	if [ "$1" -eq 0 ]; then
		pass "the kernel log is clean and the module unloads"
	else
		fail "the VM ended with status $1: see $2"
	fi
}

# odd_nodes KERNEL: what is about nodes, on four of them: one has CPUs and no memory, one memory and no CPU. Left out is what
# would be the same on any.
odd_nodes()
{
	local name=vm-$1-odd-nodes status=0
	local programs=(build/selftests/{place,policy,populate,migrate,move,balance,promote,residency}_test)
	"$vm/run.sh" --kernel "$1" --nodes 4 --memless-node 1 --cpuless-node 3 --smp 3 --timeout 900 --append hugepages=64 \
		--log "$out/$name.console" -- \
		env DVSM_TEST_FILTER="-F shared -F promote -T no_huge_page_on_the_target_leaves_the_chunk_where_it_is" \
		"$vm/run-tests.sh" 300 "${programs[@]}" >"$out/$name.output" || status=$?
	# These have run before, on two nodes.
	tr -d '\r' <"$out/$name.output" | sed 's/^# \(RUN\|LEFT\|END\) /&odd-nodes:/' | read_tests "${programs[@]/#*\//odd-nodes:}"
	vm_ended $status "$out/vm-$1.log"
}

clang_tests()
{
	local built=$out/clang-tests folder
	make -s -C selftests CC=clang O="$built" LIBDVSM="$top/build/libdvsm/libdvsm.a" >"$out/clang-tests.log" 2>&1 || { tail -n 40 "$out/clang-tests.log"; return 1; }
	for folder in lib heap; do
		make -s -C "selftests/$folder" CC=clang O="$built/$folder" LIBO="$top/build/libdvsm" >"$out/clang-tests.log" 2>&1 ||
			{ tail -n 40 "$out/clang-tests.log"; return 1; }
	done
}

# movable_node KERNEL: a node with nothing but memory that can be taken away
movable_node()
{
	local name=vm-$1-movable-node status=0
	local programs=(build/selftests/offline_test)
	"$vm/run.sh" --kernel "$1" --nodes 3 --memless-node 2 --cpuless-node 2 --smp 2 --mem 1G --timeout 300 \
		--append memhp_default_state=online_movable --qemu-arg -m --qemu-arg slots=1,maxmem=8G \
		--qemu-arg -object --qemu-arg memory-backend-ram,id=dimm,size=512M \
		--qemu-arg -device --qemu-arg pc-dimm,id=dimm0,memdev=dimm,node=2 \
		--log "$out/$name.console" -- "$vm/run-tests.sh" 250 "${programs[@]}" >"$out/$name.output" || status=$?
	# This is skipped where there is no such node.
	tr -d '\r' <"$out/$name.output" | sed 's/^# \(RUN\|LEFT\|END\) /&movable-node:/' | read_tests "${programs[@]/#*\//movable-node:}"
	vm_ended $status "$out/vm-$1.log"
}

job_host()
{
	local programs
	mapfile -t programs < <(library_tests; find selftests -name '*_test.sh')
	DVSM_TEST_FILTER=$(host_filter) "$vm/run-tests.sh" 1200 "${programs[@]}" >"$out/host.output" || true
	read_tests "${programs[@]}" <"$out/host.output"
	claim "clang builds the library without a warning" make -s -C libdvsm CC=clang O="$out/libdvsm-clang"
	claim "clang builds the tests without a warning" clang_tests
	claim "the demo counts the same words natively and in a VM" scripts/demo.sh --size-limit=2M
	claim "the heap's tests notice a heap that does not log what it does" \
		make -s -C selftests/heap check-broken O="$top/build/selftests/heap" LIBO="$top/build/libdvsm"
}

job_host-sanitized()
{
	local programs sanitize=address,undefined built=$out/host-sanitized
	if ! make -s -C libdvsm SANITIZE=$sanitize O="$built/libdvsm" ||
		! make -s -C selftests/lib SANITIZE=$sanitize O="$built/lib" LIBO="$built/libdvsm" ||
		! make -s -C selftests/heap SANITIZE=$sanitize O="$built/heap" LIBO="$built/libdvsm"; then
		fail "the library and its tests build with -fsanitize=$sanitize"
		return
	fi
	# Of the heap without those that kill and step processes, which have sanitizers of their own kind: audits.
	mapfile -t programs < <(find "$built/lib" "$built/heap" -maxdepth 1 -name '*_test' | grep -v '/\(kill\|step\|ctl\)_test$' | sort)
	DVSM_TEST_FILTER=$(host_filter) ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1 \
		"$vm/run-tests.sh" 600 "${programs[@]}" >"$out/host-sanitized.output" || true
	read_tests "${programs[@]}" <"$out/host-sanitized.output"
}

# What threads do at once, under ThreadSanitizer: it does not see what other processes put between two threads.
thread_tests=(threads_may_free_each_others_blocks_and_die fork_at_any_moment a_cancelled_thread_makes_nobody_wait
	threads_hand_blocks_around private_heaps_come_and_go_in_threads a_private_heap_is_copied_by_fork)

# What neither kills nor steps, and takes valgrind seconds. There are no restartable sequences there.
valgrind_tests=(zero_sizes_give_distinct_blocks too_much_is_ENOMEM realloc_keeps_contents alignments
	posix_memalign_returns_its_error the_whole_family_works_on_a_heap free_keeps_errno
	what_the_program_does_not_know_is_lost an_owners_blocks_go_and_others_stay realloc_keeps_the_owner
	recovery_stays_in_the_table numbers_that_lead_out_are_refused)

# some_tests JOB TEST...: of the programs that heap_build has built for a job, those tests
some_tests()
{
	local job=$1 programs filter
	shift
	mapfile -t programs < <(find "$out/$job-sanitized" -maxdepth 2 -name '*_test' | sort)
	filter=$(printf -- '-t %s ' "$@")
	DVSM_TEST_FILTER=$filter DVSM_TEST_SECONDS=4 "$vm/run-tests.sh" 300 "${programs[@]}" >"$out/$job.output" || true
	read_tests "${programs[@]}" <"$out/$job.output"
}

# heap_build JOB PROGRAM... -- FLAG...: some of the heap's tests in a build of their own
heap_build()
{
	local built=$out/$1-sanitized programs=()
	shift
	for ((; $# > 0; )); do
		[ "$1" != -- ] || { shift; break; }
		programs+=("$built/heap/$1")
		shift
	done
	make -s -C libdvsm O="$built/libdvsm" "$@" "$built/libdvsm/libdvsm.a" &&
		make -s -C selftests/heap O="$built/heap" LIBO="$built/libdvsm" "$@" "${programs[@]}"
}

job_host-threads()
{
	heap_build host-threads semantics_test share_test -- SANITIZE=thread ||
		{ fail "the heap and its tests build with -fsanitize=thread"; return; }
	TSAN_OPTIONS=halt_on_error=1 some_tests host-threads "${thread_tests[@]}"
}

job_host-valgrind()
{
	command -v valgrind >/dev/null || { skip "host-valgrind: no valgrind"; return; }
	heap_build host-valgrind semantics_test account_test owner_test damage_test -- STATIC= ||
		{ fail "the heap's tests build without -static"; return; }
	DVSM_TEST_UNDER="valgrind -q --error-exitcode=9" some_tests host-valgrind "${valgrind_tests[@]}"
}

# --- the jobs, two at a time ---

run_job()
{
	local job=$1 kind=${1%%-6.*} started=$SECONDS
	kind=${kind%-[12]} kind=${kind%-debug} kind=${kind%-kcsan}
	exec 3>"$out/$job.results"
	if ! "job_$kind" "${job#"$kind"-}" >"$out/$job.log" 2>&1; then
		fail "the job itself broke off: see $out/$job.log"
	fi
	exec 3>&-
	printf 'check: %-14s %s (%d s)\n' "$job" "$(summary "$out/$job.results")" $((SECONDS - started)) >&2
	sed -n "s|^fail |check:   FAILED $job: |p" "$out/$job.results" >&2
}

summary()
{
	cat "$@" | awk '{ n[$1]++ } END { printf "%d passed, %d failed, %d skipped\n", n["pass"], n["fail"], n["skip"] }'
}

wanted() { [[ " ${jobs[*]} " == *" $1"* ]]; }

rm -rf "$out"/*.results
mkdir -p "$out"
tree_state >"$out/tree.before"
groups=(build)
! wanted vm- || groups+=(vm)
if wanted vm-debug || wanted vm-kcsan; then
	groups+=(debug-kernel check)
fi
if wanted module- || wanted clang- || wanted headers || wanted style || wanted host; then
	groups+=(check vm)
fi
! wanted host || groups+=(rdma cluster drm)
scripts/deps.sh "${groups[@]}"

# What several jobs use is made once, before them: kernels, library, tests, and the module for each VM.
for kind in kselftest 6.12 6.1; do
	"$vm/kernel.sh" "$kind" >/dev/null
done
if wanted vm- || wanted host; then
	make -s -j"$(nproc)" tests >"$out/build.log" 2>&1 || { tail -n 40 "$out/build.log" >&2; say "the library or the tests do not build"; exit 1; }
fi
# With a cold cache this takes all cores for some ten minutes.
! wanted vm-debug || "$vm/kernel.sh" debug >/dev/null
! wanted vm-kcsan || "$vm/kernel.sh" kcsan >/dev/null

# Each job in a process group of its own, so that all of it can be ended.
set -m
trap 'for job in $(jobs -p); do kill -- "-$job" 2>/dev/null; done' EXIT
trap 'exit 130' INT TERM HUP
for job in "${jobs[@]}"; do
	while [ "$(jobs -rp | wc -l)" -ge 2 ]; do
		wait -n || true
	done
	run_job "$job" &
done
wait
trap - EXIT
run_job tree

results=()
for job in "${jobs[@]}" tree; do
	results+=("$out/$job.results")
done
grep -h '^skip ' "${results[@]}" | sed 's/^.*# SKIP *//; s/^skip //' | sort | uniq -c |
	sed 's/^ *\([0-9]*\) /check: skipped \1: /' >&2 || true
! wanted host || say "left out on this machine: $(host_filter)"
# Once more, where whoever reads the end alone sees it.
grep -H '^fail ' "${results[@]}" | sed 's|^.*/\(.*\)\.results:fail |check: FAILED \1: |' >&2 || true
say "$((SECONDS - begun)) s; logs in $out"
summary "${results[@]}"
! grep -qh '^fail ' "${results[@]}"
