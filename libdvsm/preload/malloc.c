// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * libdvsm-malloc.so: the malloc family of programs that know nothing of dvsm, by LD_PRELOAD.
 *
 * DVSM_MALLOC_FORK=copy (the default): the heap is memory of the process's own, so fork() copies it, as
 * programs expect. Copying needs no backend: the kernel makes it at the very moment of the fork, and the child's
 * first act is to finish, in its copy, what the parent's other threads were in the middle of.
 * DVSM_MALLOC_FORK=share: parent and children have one heap, on the best backend that there is.
 *
 * DVSM_MALLOC_HARDENED=1 (anything but 0): double and wild frees are noticed at once and for certain; slower.
 *
 * The heap's memory is found by its address; a program may close every descriptor that it has.
 */
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "../heap_backing.h"
#include "../heap_fast.h"

#define EXPORT __attribute__((visibility("default")))

/* The heap's flags must be known before its first use, which is before any constructor of ours. */
static __attribute__((noinline)) struct dvsm_heap *heap_first(void)
{
	const char *fork_means, *hardened;

	if (!atomic_load_explicit(&dvsm_default_heap.ready, memory_order_acquire)) {
		fork_means = dvsm_getenv("DVSM_MALLOC_FORK");
		dvsm_default_flags = fork_means && !strcmp(fork_means, "share") ? 0 :
										  DVSM_HEAP_F_PRIVATE;
		hardened = dvsm_getenv("DVSM_MALLOC_HARDENED");
		if (hardened && strcmp(hardened, "0"))
			dvsm_default_flags |= DVSM_HEAP_F_HARDENED;
	}
	return dvsm_heap_default();
}

static inline bool heap_is_ready(void)
{
	return __atomic_load_n(&dvsm_default_heap.fast.limit, __ATOMIC_ACQUIRE);
}

EXPORT DVSM_HOT void *malloc(size_t size)
{
	if (dvsm_unlikely(size >= __atomic_load_n(&dvsm_default_heap.fast.limit, __ATOMIC_ACQUIRE))) {
		if (!heap_is_ready() && !heap_first()) {
			errno = ENOMEM;
			return NULL;
		}
		return dvsm_malloc_large(size, &dvsm_default_heap);
	}
	return dvsm_malloc_small(&dvsm_default_heap, size);
}

EXPORT DVSM_HOT void free(void *address)
{
	dvsm_free_fast(&dvsm_default_heap, address);
}

EXPORT void cfree(void *address)
{
	dvsm_free_fast(&dvsm_default_heap, address);
}

/* C23's; older C libraries have neither. */
EXPORT void free_sized(void *address, size_t size)
{
	(void)size;
	dvsm_free_fast(&dvsm_default_heap, address);
}

EXPORT void free_aligned_sized(void *address, size_t alignment, size_t size)
{
	(void)alignment;
	(void)size;
	dvsm_free_fast(&dvsm_default_heap, address);
}

/* The first call of a program may be any of these. */
#define HEAP_OR(failure)					\
	do {							\
		if (!heap_is_ready() && !heap_first()) {	\
			errno = ENOMEM;				\
			return failure;				\
		}						\
	} while (0)

EXPORT void *calloc(size_t nr, size_t size)
{
	HEAP_OR(NULL);
	return dvsm_heap_calloc(&dvsm_default_heap, nr, size);
}

EXPORT void *realloc(void *address, size_t size)
{
	HEAP_OR(NULL);
	/* As the C library that programs were written for has it. */
	if (address && !size) {
		free(address);
		return NULL;
	}
	return dvsm_heap_realloc(&dvsm_default_heap, address, size);
}

EXPORT void *reallocarray(void *address, size_t nr, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(nr, size, &total)) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(address, total);
}

EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
	HEAP_OR(NULL);
	return dvsm_heap_aligned_alloc(&dvsm_default_heap, alignment, size);
}

/* Rounds alignments up to a power of two, as the C library's does. */
EXPORT void *memalign(size_t alignment, size_t size)
{
	HEAP_OR(NULL);
	if (alignment > SIZE_MAX / 2 + 1) {
		errno = EINVAL;
		return NULL;
	}
	if (alignment & (alignment - 1))
		alignment = 1UL << (64 - __builtin_clzl(alignment));
	return dvsm_heap_aligned_alloc(&dvsm_default_heap, alignment ? alignment : 16, size);
}

EXPORT int posix_memalign(void **address, size_t alignment, size_t size)
{
	HEAP_OR(ENOMEM);
	return dvsm_posix_memalign(address, alignment, size);
}

EXPORT void *valloc(size_t size)
{
	HEAP_OR(NULL);
	return dvsm_heap_aligned_alloc(&dvsm_default_heap, DVSM_PAGE_SIZE, size);
}

EXPORT void *pvalloc(size_t size)
{
	HEAP_OR(NULL);
	if (size > PTRDIFF_MAX) {
		errno = ENOMEM;
		return NULL;
	}
	return dvsm_heap_aligned_alloc(&dvsm_default_heap, DVSM_PAGE_SIZE,
				       dvsm_align_up(size ? size : 1, DVSM_PAGE_SIZE));
}

EXPORT size_t malloc_usable_size(void *address)
{
	return address ? dvsm_heap_usable_size(&dvsm_default_heap, address) : 0;
}

EXPORT int malloc_trim(size_t keep)
{
	HEAP_OR(0);
	return dvsm_heap_trim(&dvsm_default_heap, keep) > 0;
}

EXPORT int mallopt(int parameter, int value)
{
	(void)parameter;
	(void)value;
	return 1;
}

EXPORT struct mallinfo2 mallinfo2(void)
{
	struct dvsm_heap_stats stats = { .size = sizeof(stats) };
	struct mallinfo2 info = { 0 };

	HEAP_OR(info);
	dvsm_heap_stats(&dvsm_default_heap, &stats);
	info.arena = stats.out_chunks - stats.out_huge;
	info.hblkhd = stats.out_huge;
	info.uordblks = stats.out_live;
	info.fordblks = stats.out_chunks - stats.out_live;
	info.keepcost = stats.out_retained;
	return info;
}

EXPORT struct mallinfo mallinfo(void)
{
	struct mallinfo2 info = mallinfo2();

	return (struct mallinfo){
		.arena = (int)info.arena, .hblkhd = (int)info.hblkhd,
		.uordblks = (int)info.uordblks, .fordblks = (int)info.fordblks,
		.keepcost = (int)info.keepcost,
	};
}

EXPORT void malloc_stats(void)
{
	if (heap_is_ready())
		dvsm_heap_print(&dvsm_default_heap, STDERR_FILENO);
}

/* The elements that the C library's has, of one heap; the stream may be one in memory, and may allocate. */
EXPORT int malloc_info(int options, FILE *stream)
{
	struct dvsm_heap_class_stats classes[DVSM_CLASSES];
	struct dvsm_heap_stats stats = { .size = sizeof(stats) };
	int nr, i;

	if (options)
		return EINVAL;
	HEAP_OR(ENOMEM);
	dvsm_heap_stats(&dvsm_default_heap, &stats);
	nr = dvsm_heap_stats_classes(&dvsm_default_heap, classes, DVSM_CLASSES);
	fputs("<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n", stream);
	for (i = 0; i < nr; i++)
		if (classes[i].slabs)
			fprintf(stream,
				"  <size from=\"%llu\" to=\"%llu\" total=\"%llu\" count=\"%llu\"/>\n",
				(unsigned long long)(i ? classes[i - 1].block_size + 1 : 0),
				(unsigned long long)classes[i].block_size,
				(unsigned long long)(classes[i].free + classes[i].cached) *
					classes[i].block_size,
				(unsigned long long)(classes[i].free + classes[i].cached));
	fprintf(stream,
		"</sizes>\n<total type=\"live\" count=\"%llu\" size=\"%llu\"/>\n"
		"<total type=\"mmap\" count=\"0\" size=\"%llu\"/>\n"
		"<system type=\"current\" size=\"%llu\"/>\n<aspace type=\"total\" size=\"%llu\"/>\n"
		"</heap>\n</malloc>\n",
		(unsigned long long)stats.out_live_blocks, (unsigned long long)stats.out_live,
		(unsigned long long)stats.out_huge,
		(unsigned long long)(stats.out_chunks + stats.out_retained),
		(unsigned long long)stats.out_reserved);
	return 0;
}

#ifndef AT_RSEQ_FEATURE_SIZE
#define AT_RSEQ_FEATURE_SIZE	27
#endif

/* Kernels that give restartable sequences more than 32 bytes punish who writes to the CPU number. */
__attribute__((visibility("hidden"))) bool dvsm_vfork_is_fork;

/* Before main(), so that no child of vfork() makes the heap. */
__attribute__((constructor)) static void heap_begin(void)
{
	dvsm_vfork_is_fork = getauxval(AT_RSEQ_FEATURE_SIZE) > 32;
	heap_first();
}

/* The C library's own names for these. Programs that call both kinds free one's blocks by the other. */
#define ALSO(name)	asm(".globl __libc_" #name "\n.set __libc_" #name ", " #name "\n")
ALSO(malloc);
ALSO(free);
ALSO(cfree);
ALSO(calloc);
ALSO(realloc);
ALSO(reallocarray);
ALSO(memalign);
ALSO(valloc);
ALSO(pvalloc);
ALSO(mallopt);
ALSO(mallinfo);

/*
 * A child of vfork() runs in its parent's thread area, and the kernel does not register restartable sequences for it: the CPU
 * number there is the parent's, and nothing would restart the child. So the child says that it has none, and takes
 * the way without stacks. The parent's number is what it was when that goes on, unless the kernel has written it anew, as
 * most do. As the function returns twice, the return address must not stay on the stack.
 */
asm(".pushsection .text\n"
    ".globl vfork\n"
    ".type vfork, @function\n"
    ".balign 16\n"
    "vfork:\n\t"
    ".cfi_startproc\n\t"
    "endbr64\n\t"
    "cmpb $0, dvsm_vfork_is_fork(%rip)\n\t"
    "jne fork@PLT\n\t"
    "movq dvsm_rseq_offset(%rip), %rsi\n\t"
    "movl %fs:4(%rsi), %edx\n\t"
    "popq %rdi\n\t"
    ".cfi_adjust_cfa_offset -8\n\t"
    ".cfi_register %rip, %rdi\n\t"
    "movl $58, %eax\n\t"
    "syscall\n\t"
    "pushq %rdi\n\t"
    ".cfi_adjust_cfa_offset 8\n\t"
    ".cfi_rel_offset %rip, 0\n\t"
    "testq %rax, %rax\n\t"
    "jz 1f\n\t"
    "js 2f\n\t"
    "testq %rsi, %rsi\n\t"
    "jz 3f\n\t"
    "movq %rax, %rcx\n\t"
    "orl $-1, %eax\n\t"
    "cmpxchgl %edx, %fs:4(%rsi)\n\t"
    "movq %rcx, %rax\n\t"
    "ret\n"
    "1:\n\t"
    "testq %rsi, %rsi\n\t"
    "jz 3f\n\t"
    "movl $-1, %fs:4(%rsi)\n"
    "3:\n\t"
    "ret\n"
    "2:\n\t"
    "negl %eax\n\t"
    "movq errno@gottpoff(%rip), %rcx\n\t"
    "movl %eax, %fs:(%rcx)\n\t"
    "orq $-1, %rax\n\t"
    "ret\n\t"
    ".cfi_endproc\n\t"
    ".size vfork, . - vfork\n\t"
    ".popsection\n"
    ".globl __vfork\n"
    ".set __vfork, vfork\n");
