// SPDX-License-Identifier: GPL-2.0-only
// Boost.Interprocess: a managed segment with its default algorithm, which is a tree and one mutex.
#include <new>

#include <boost/interprocess/managed_external_buffer.hpp>
#include <boost/interprocess/managed_mapped_file.hpp>
#include <sys/mman.h>

#include "heap_bench.h"

using segment = boost::interprocess::basic_managed_external_buffer<
	char,
	boost::interprocess::rbtree_best_fit<boost::interprocess::mutex_family,
					     boost::interprocess::offset_ptr<void>>,
	boost::interprocess::iset_index>;

static segment *bench_segment;

extern "C" {
extern const bool bench_processes = true;

void bench_begin(size_t most)
{
	void *memory = mmap(nullptr, most, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	bench_segment = new segment(boost::interprocess::create_only, memory, most);
}

void *bench_malloc(size_t size)
{
	return bench_segment->allocate(size, std::nothrow);
}

void bench_free(void *block)
{
	if (block)
		bench_segment->deallocate(block);
}

void bench_trim(void)
{
}

size_t bench_resident(void)
{
	return 0;
}
}
