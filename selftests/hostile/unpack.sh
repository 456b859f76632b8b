#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# A corpus as text, one input a line in hexadecimal, becomes files of a folder: unpack.sh FILE FOLDER
set -eu

mkdir -p "$2"
grep -v '^#' "$1" | perl -e 'while (<STDIN>) {
	chomp;
	open(my $file, ">", sprintf("%s/kept-%04d", $ARGV[0], $.)) or die;
	print $file pack("H*", $_);
}' "$2"
