#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Unmodified programs under libdvsm-malloc.so say what they say without it. Programs that are not there are skipped.
# The programs are quoted for the shell that runs them.
# shellcheck disable=SC2016
set -u

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
library=${LIBO:-$top/build/libdvsm}/libdvsm-malloc.so
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
number=0
failed=0

echo "TAP version 13"
if [ ! -e "$library" ]; then
	echo "1..0 # SKIP $library is not built"
	exit 4
fi

# Beside other tests a program may take ten times as long as alone.
limit=${SECONDS_EACH:-250}
export PGCTLTIMEOUT=$limit

# same NAME PROGRAM COMMAND: the shell command's output and status are the same with the library and without it
same()
{
	local name=$1 program=$2 command=$3 with without
	number=$((number + 1))
	if ! command -v "$program" >/dev/null; then
		echo "ok $number $name # SKIP no $program"
		return
	fi
	without=$(cd "$work" && timeout "$limit" bash -c "$command" 2>&1; echo "status $?")
	with=$(cd "$work" && LD_PRELOAD=$library timeout "$limit" bash -c "$command" 2>&1
		echo "status $?")
	if [ "$with" = "$without" ] && [[ $with == *"status 0" ]]; then
		echo "ok $number $name"
	else
		echo "# with: ${with:0:300}"
		echo "# without: ${without:0:300}"
		echo "not ok $number $name"
		failed=1
	fi
}

for folder in /usr/lib/postgresql/*/bin; do
	PATH=$PATH:$folder
done
seq 1 300000 | sort -R >"$work/numbers"

same "sort with threads" sort 'sort -n -S 20M --parallel=4 numbers | md5sum'
same "a shell that forks and closes descriptors" bash \
	'exec 3>&- 4>&- 5>&-; for i in $(seq 60); do (echo "$i" | cat); done | md5sum'
same "perl that closes every descriptor first" perl \
	'perl -e "use POSIX; POSIX::close(\$_) for 3..255; my %h; \$h{\$_} = [1..20] for 1..20000; print scalar keys %h"'
same "git" git 'git -c init.defaultBranch=main init -q repo && cd repo && cp ../numbers . && git add . && git write-tree && git gc -q; rm -rf ../repo'
same "gcc" gcc 'echo "int main(void) { return 0; }" >a.c && gcc -O2 -o a a.c && ./a'
same "python3 with processes and threads" python3 'python3 -c "
import json, multiprocessing, subprocess, threading
data = [{str(i): [i] * 10} for i in range(20000)]
assert json.loads(json.dumps(data)) == data
def work(n): return sum(len(bytes(k)) for k in range(n))
with multiprocessing.get_context(\"fork\").Pool(4) as pool: print(sum(pool.map(work, range(200))))
threads = [threading.Thread(target=work, args=(2000,)) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(subprocess.run([\"true\"]).returncode)
"'
same "awk with pipes" awk \
	'awk "BEGIN { while (n++ < 50) { \"echo \" n | getline x; close(\"echo \" n); s += x } print s }"'
same "sqlite3" sqlite3 'rm -f db; sqlite3 db "create table t(a integer primary key, b text); with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000) insert into t select i, hex(i * 7919) from n; create index x on t(b); select count(*), sum(length(b)) from t where b > 4; pragma integrity_check"'
same "redis-server that forks to save" redis-server '
	rm -f dump.rdb socket
	redis-server --port 0 --unixsocket socket --save "" --dir . >/dev/null 2>&1 & pid=$!
	for i in $(seq 1000); do redis-cli -s socket ping >/dev/null 2>&1 && break; sleep 0.1; done
	seq 1 20000 | sed "s/.*/SET key:& value:&/" | redis-cli -s socket | sort | uniq -c
	redis-cli -s socket bgsave >/dev/null
	seq 1 2 20000 | sed "s/.*/DEL key:&/" | redis-cli -s socket | sort | uniq -c
	redis-cli -s socket dbsize
	redis-cli -s socket shutdown nosave; wait $pid'
same "PostgreSQL with clients and parallel queries" initdb '
	rm -rf pg && mkdir pg && cd pg
	# It runs as anybody but root, who may not read where the library was built.
	[ -z "${LD_PRELOAD:-}" ] || { cp "$LD_PRELOAD" malloc.so && export LD_PRELOAD=$PWD/malloc.so; }
	as=
	[ "$(id -u)" -ne 0 ] || { as="setpriv --reuid=65534 --regid=65534 --clear-groups"; chmod 711 .. && chown 65534:65534 .; }
	export HOME=$PWD PGHOST=$PWD PGDATA=$PWD/data PGUSER=postgres PGDATABASE=postgres LC_ALL=C
	$as initdb -N -U postgres -A trust >initdb.log 2>&1 || { cat initdb.log; exit 1; }
	trap "$as pg_ctl -s -m immediate stop 2>/dev/null" EXIT
	$as pg_ctl -w -s -l server.log -o "-h \"\" -k $PWD -F" start || { cat server.log; exit 1; }
	$as pgbench -i -q >/dev/null 2>&1 && $as pgbench -c 4 -j 2 -t 250 2>&1 | grep -E "^number of (transactions|failed)"
	$as psql -At -v ON_ERROR_STOP=1 <<-END
	SELECT sum(abalance) = (SELECT sum(delta) FROM pgbench_history), count(*) FROM pgbench_accounts;
	SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET work_mem = "1MB";
	SELECT count(*), md5(string_agg(a.aid || b.filler, \$\$,\$\$ ORDER BY a.aid)) FROM pgbench_accounts a JOIN pgbench_accounts b USING (aid) WHERE a.aid % 7 = 0;
	CREATE INDEX ON pgbench_accounts (md5(aid::text)); VACUUM (PARALLEL 2) pgbench_accounts;
	END
	status=$?
	$as pg_ctl -w -s -m fast stop || status=1
	! grep -E "PANIC|terminated by signal|dvsm" server.log && exit $status'
same "node" node 'node -e "let m = new Map(); for (let i = 0; i < 200000; i++) m.set(i, \"v\".repeat(i % 50)); let s = 0; for (let v of m.values()) s += v.length; console.log(s)"'
same "gcc with C++" g++ 'printf "#include <map>\n#include <string>\n#include <iostream>\nint main() { std::map<std::string, int> m; for (int i = 0; i < 99999; i++) m[std::to_string(i)] = i; std::cout << m.size(); }" >b.cc && g++ -O1 -o b b.cc && ./b'
same "tar and compression" tar 'tar cf - numbers | gzip -n | gunzip | tar xOf - | md5sum'

echo "1..$number"
exit $failed
