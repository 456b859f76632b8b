#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The demo program on texts made to break it: TAP. Usage: wordcount_test.sh PROGRAM [OPTION...]
# shellcheck disable=SC2016,SC2317  # checks are called by name
set -u

program=${1:-build/libdvsm/examples/wordcount}
[ $# -gt 0 ] && shift
# shellcheck source=selftests/lib/tap.sh
. "$(dirname "$0")/tap.sh"

count() { "$program" -q -o "$work/words" "$@"; }
says() { count "$@" && grep -q "$expected" "$work/said"; }
words_are() { expected_words=$1; shift; count "$@" && [ "$(tr -s ' ' <"$work/words" | tr '\n' ',')" = "$expected_words" ]; }
exits() { expected_status=$1; shift; "$program" -q "$@"; [ $? -eq "$expected_status" ]; }

# letters N: that many
letters() { head -c "$1" /dev/zero | tr '\0' 'x'; }
block=262144

mkdir "$work/text"
echo "TAP version 13"

printf 'The cat and THE dog, the end' >"$work/text/small"
check "case_is_folded_and_ends_are_words" \
	words_are " 1 and, 1 cat, 1 dog, 1 end, 3 the," --verify=sort "$@" "$work/text/small"
check "pipe_agrees" count --verify=pipe "$@" "$work/text/small"

letters 1000000 >"$work/text/one-long-word"
check "one_word_over_many_blocks_is_one_word" count --verify=sort -w 4 "$@" "$work/text/one-long-word"
check "it_is_counted_once" words_are " 1 $(cat "$work/text/one-long-word")," -w 4 "$@" "$work/text/one-long-word"

{ letters $((block - 3)); printf ' begun'; letters $((block - 7)); printf ' b'; } >"$work/text/crossing"
check "words_that_cross_blocks" count --verify=sort -w 4 "$@" "$work/text/crossing"
{ letters $block; printf ' a'; } >"$work/text/exact"
check "a_word_that_ends_with_its_block" count --verify=sort -w 2 "$@" "$work/text/exact"
{ letters $((block - 1)); printf ' next'; } >"$work/text/space"
check "a_word_that_begins_with_its_block" count --verify=sort -w 2 "$@" "$work/text/space"

printf '1234 !? \n\n' >"$work/text/none"
check "no_word_at_all" words_are "" --verify=sort "$@" "$work/text/none"
: >"$work/text/empty"
printf 'a\0b' >"$work/text/binary"
expected="1 files of text, 2 others passed over"
check "empty_and_binary_files_are_passed_over" \
	says "$@" "$work/text/empty" "$work/text/binary" "$work/text/small"
check "nothing_to_count_is_an_error" exits 2 "$@" "$work/text/empty"

# More words than the first table holds.
awk 'BEGIN { for (i = 0; i < 300000; i++) { s = ""; for (j = i; j; j = int(j / 26)) s = s sprintf("%c", 97 + j % 26); print s "q" } }' \
	>"$work/text/distinct"
check "a_table_that_is_too_small_is_made_larger" count --verify=sort -w 3 "$@" "$work/text/distinct"

check "many_workers_on_everything" count --verify=sort -w 32 "$@" "$work/text"
cp "$work/words" "$work/many"
check "one_worker_gets_the_same" count -w 1 "$@" "$work/text"
check "exactly_the_same" cmp "$work/many" "$work/words"
check "pipe_agrees_on_everything" count --verify=pipe -w 2 "$@" "$work/text"
check "populated_first" count --verify=sort -P "$@" "$work/text"
expected="4 KiB  *16\|counted .*, 0.0 MiB"
check "the_size_limit_cuts_the_last_file" says -s 1000 --verify=sort "$@" "$work/text/one-long-word"

# Nothing but two words, so that all workers add to the same counts all the time.
yes 'hot hotter' | head -c 6000000 >"$work/hot"
check "no_count_is_lost_when_all_add_to_the_same_word" count --verify=sort -w 4 "$@" "$work/hot"

# A uniq that counts one too many, and one that forgets a word.
mkdir "$work/bin"
path=$PATH
printf '#!/bin/sh\nPATH=%s\nuniq "$@" | sed "3s/ 1 / 2 /"\n' "$path" >"$work/bin/uniq"
chmod +x "$work/bin/uniq"
PATH=$work/bin:$path
check "a_count_that_differs_is_a_mismatch" exits 1 --verify=pipe "$@" "$work/text/small"
printf '#!/bin/sh\nPATH=%s\nuniq "$@" | sed "\$d"\n' "$path" >"$work/bin/uniq"
check "a_word_that_is_missing_is_a_mismatch" exits 1 --verify=pipe "$@" "$work/text/small"
PATH=$path

check "unknown_options_are_an_error" exits 2 --no-such-option
check "unknown_backends_are_an_error" exits 2 -b diskette "$work/text/small"
check "a_bad_number_of_workers_is_an_error" exits 2 -w 0 "$work/text/small"

echo "1..$n"
exit $failed
