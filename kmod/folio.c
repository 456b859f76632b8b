// SPDX-License-Identifier: GPL-2.0-only
/* What one folio of a region is and holds: its mark, its losses, its users. */
#include <linux/highmem.h>
#include <linux/memcontrol.h>
#include <linux/pagemap.h>
#include <linux/uaccess.h>

#include "dvsm.h"

/**
 * dvsm_folio_zero - Zero all of a folio.
 * @folio: the folio
 *
 * In one piece where the CPU has fast string operations: it does better the more
 * it is told in advance. __GFP_ZERO tells it 4 KiB at a time, and newer kernels'
 * memset() does not use them on every CPU that has them.
 *
 * Context: any.
 */
void dvsm_folio_zero(struct folio *folio)
{
	long i;

#ifdef CONFIG_X86_64
	if (boot_cpu_has(X86_FEATURE_ERMS)) {
		void *start = folio_address(folio);
		size_t size = folio_size(folio);

		asm volatile("rep stosb" : "+D" (start), "+c" (size) : "a" (0) : "memory");
		return;
	}
#endif
	for (i = 0; i < folio_nr_pages(folio); i++)
		clear_highpage(folio_page(folio, i));
}

/* The hardware lost a page, after which there were @left bytes of @nr_pages with it. */
static int dvsm_pages_lost(struct page *page, unsigned long nr_pages, size_t left)
{
	memory_failure_queue(page_to_pfn(page) + nr_pages - DIV_ROUND_UP(left, PAGE_SIZE), 0);
	return -EHWPOISON;
}

/*
 * What copy_mc_to_kernel() does, by words: returns how many bytes could not be read. A
 * machine check goes on behind the instruction then, with the words that are left in RCX,
 * instead of ending the kernel.
 */
static size_t dvsm_copy_mc(void *to, const void *from, size_t size)
{
#ifdef CONFIG_X86_64
	if (boot_cpu_has(X86_FEATURE_REP_GOOD)) {
		size_t nr_words = size / sizeof(u64);

		asm volatile("1:	rep movsq\n"
			     "2:\n"
			     _ASM_EXTABLE_TYPE(1b, 2b, EX_TYPE_DEFAULT_MCE_SAFE)
			     : "+D" (to), "+S" (from), "+c" (nr_words) : : "memory");
		return nr_words * sizeof(u64);
	}
#endif
	return copy_mc_to_kernel(to, from, size);
}

/**
 * dvsm_pages_copy - Copy pages, which the hardware may turn out to have lost.
 * @dst: the first page to write to, which others follow
 * @src: the first page to read
 * @nr_pages: how many
 *
 * In one piece: 512 calls for 4 KiB are a twentieth of what a chunk's copy costs. Not
 * inlined, as tests answer for it.
 *
 * Context: any.
 * Return: 0; -EHWPOISON with some of it copied, and the kernel told of the page.
 */
noinline int dvsm_pages_copy(struct page *dst, struct page *src, unsigned long nr_pages)
{
	size_t left = dvsm_copy_mc(page_address(dst), page_address(src), nr_pages << PAGE_SHIFT);

	return left ? dvsm_pages_lost(src, nr_pages, left) : 0;
}

/**
 * dvsm_page_check - Find out by reading it whether the hardware has all of a page.
 * @page: the page
 *
 * The kernel marks a page some time after it was told of it. Not inlined either.
 *
 * Context: any.
 * Return: 0; -EHWPOISON, and the kernel told of it.
 */
noinline int dvsm_page_check(struct page *page)
{
#ifdef CONFIG_X86_64
	const void *from = page_address(page);
	size_t nr_words = PAGE_SIZE / sizeof(u64);

	asm volatile("1:	rep lodsq\n"
		     "2:\n"
		     _ASM_EXTABLE_TYPE(1b, 2b, EX_TYPE_DEFAULT_MCE_SAFE)
		     : "+S" (from), "+c" (nr_words) : : "rax", "memory");
	if (nr_words)
		return dvsm_pages_lost(page, 1, nr_words * sizeof(u64));
#endif
	return 0;
}

/**
 * dvsm_folio_is_poisoned - Whether the hardware lost any page of a folio.
 * @folio: the folio
 *
 * Context: any; holds a reference on @folio.
 * Return: true if it has.
 */
bool dvsm_folio_is_poisoned(struct folio *folio)
{
	return folio_test_hwpoison(folio) ||
	       (folio_test_large(folio) && folio_test_has_hwpoisoned(folio));
}

/**
 * dvsm_folio_page_is_poisoned - Whether the hardware lost a page of a folio.
 * @folio: the folio
 * @index: the page, one of the folio's
 *
 * Context: any; holds a reference on @folio.
 * Return: true if the page must not be touched.
 */
bool dvsm_folio_page_is_poisoned(struct folio *folio, pgoff_t index)
{
	if (folio_test_large(folio) && !folio_test_has_hwpoisoned(folio))
		return false;
	return PageHWPoison(folio_page(folio, index - folio->index));
}

/**
 * dvsm_folio_is_written - Whether a folio may hold anything but zeroes.
 * @folio: the folio
 * @arg: unused
 *
 * For dvsm_store_walk().
 *
 * Context: any; holds a reference on @folio.
 * Return: true if it may; without meaning in a registrable region.
 */
bool dvsm_folio_is_written(struct folio *folio, void *arg)
{
	return folio_test_checked(folio);
}

/**
 * dvsm_folio_mark_written - Note that a folio is about to be written to.
 * @region: whose
 * @folio: the folio
 *
 * A folio without the mark holds zeroes, as a hole does: it was only read, or
 * populated. Not kept for registrable regions, which devices write to.
 *
 * Context: the family is locked, so that a command that asks who was written has all
 * answers; holds a reference on @folio.
 */
void dvsm_folio_mark_written(struct dvsm_region *region, struct folio *folio)
{
	if (folio_test_checked(folio))
		return;
	folio_set_checked(folio);
	dvsm_family_note_first(region->family, dvsm_page_chunk(folio->index));
}

/**
 * dvsm_folio_copy_pages - Copy pages of a folio, and what dvsm_folio_mark_written() noted.
 * @dst: to where, locked
 * @src: from where; a reference is held
 * @start: first page; both folios have it and the others
 * @end: the page after the last
 *
 * Context: any.
 * Return: 0; -EHWPOISON with some of it copied.
 */
int dvsm_folio_copy_pages(struct folio *dst, struct folio *src, pgoff_t start, pgoff_t end)
{
	/* First, so that half of a copy has it too. */
	if (folio_test_checked(src) && !folio_test_checked(dst))
		folio_set_checked(dst);
	return dvsm_pages_copy(folio_page(dst, start - dst->index),
			       folio_page(src, start - src->index), end - start);
}

/**
 * dvsm_folio_settle - Wait for a fault that is about to map a folio.
 * @folio: the folio
 * @arg: bool, becomes true if dvsm_folio_is_written()
 *
 * For dvsm_store_walk(). A fault hands its folio to the core locked, and the core unlocks
 * it when it is mapped.
 *
 * Context: may sleep; holds a reference on @folio.
 * Return: false.
 */
bool dvsm_folio_settle(struct folio *folio, void *arg)
{
	folio_lock(folio);
	*(bool *)arg |= dvsm_folio_is_written(folio, NULL);
	folio_unlock(folio);
	return false;
}

/**
 * dvsm_folio_memcg_get - The cgroup that pays for a folio.
 * @folio: the folio
 *
 * Context: may sleep; the folio is not locked by the caller.
 * Return: the cgroup, with a reference, or NULL.
 */
struct mem_cgroup *dvsm_folio_memcg_get(struct folio *folio)
{
	struct mem_cgroup *memcg = NULL;

#ifdef CONFIG_MEMCG
	folio_lock(folio);
	memcg = folio_memcg(folio);
	if (memcg)
		css_get(&memcg->css);
	folio_unlock(folio);
#endif
	return memcg;
}

/**
 * dvsm_folio_is_referenced - Whether anybody uses a folio unmapped.
 * @folio: the folio, in no mapping; the caller has a reference
 * @held: a folio that the caller has one more reference on, or NULL
 *
 * Context: any.
 * Return: true if somebody may; a passing reference is taken for a user.
 */
bool dvsm_folio_is_referenced(struct folio *folio, void *held)
{
	bool lru = folio_test_lru(folio);
	int refs = folio_ref_count(folio);

	/*
	 * Of a page that the hardware lost the core keeps a reference; and nobody reads there
	 * what is written.
	 */
	if (!folio_test_large(folio) && dvsm_folio_is_poisoned(folio))
		return false;
	/*
	 * A folio on its way to a list of the LRU has a reference for that. If it
	 * arrives between the looks, the count may be of before or after.
	 */
	if (!lru && !folio_test_lru(folio))
		refs--;
	/* The page cache's, this walk's, and what the caller knows of. */
	return refs > folio_nr_pages(folio) + 1 + (folio == held);
}
