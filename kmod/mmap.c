// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mappings of regions, and the faults they take.
 *
 * ->fault hands out the locked folio that holds the page; the core maps it,
 * 2 MiB at once where folio and mapping allow, and counts it. Nothing is kept
 * for a mapping, so there is nothing to pair up when one is split, moved,
 * copied by fork or grown by mremap; but for regions that fork() copies, of which
 * fork.c tells. That is also why a fault checks bounds.
 */
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "dvsm.h"
#include "trace.h"

static void dvsm_fault_count(struct dvsm_region *region, const struct vm_fault *vmf,
			     struct folio *folio, const struct dvsm_found *found)
{
	int here = numa_node_id();

	atomic_long_inc(&region->nodes[here].nr_faults);
	if (folio_nid(folio) != here)
		atomic_long_inc(&region->nodes[here].nr_faults_remote);
	if (found->allocated)
		atomic_long_inc(&region->stats.nr_faults_alloc);
	if (vmf->cow_page)
		atomic_long_inc(&region->stats.nr_faults_private);
	else if (found->parts)
		atomic_long_inc(&region->stats.nr_faults_parts);
}

/*
 * VM_FAULT_OOM is no answer to a lack of memory: without a victim for the OOM
 * killer the fault would be taken again for ever.
 */
static vm_fault_t dvsm_fault_fail(struct dvsm_region *region, struct vm_fault *vmf, int error)
{
	atomic_long_inc(&region->stats.nr_failures);
	trace_dvsm_fault(region->id, vmf->pgoff, vmf->flags, 0, NUMA_NO_NODE, error);
	return error == -EHWPOISON ? VM_FAULT_HWPOISON : VM_FAULT_SIGBUS;
}

/* Whether a fault is for writing to the region, not to a private copy. */
static bool dvsm_fault_is_write(const struct vm_fault *vmf)
{
	return (vmf->flags & FAULT_FLAG_WRITE) && (vmf->vma->vm_flags & VM_SHARED);
}

static struct folio *dvsm_fault_get(struct dvsm_region *region, struct vm_fault *vmf, bool write,
				    struct folio *held, struct dvsm_found *found)
{
	struct dvsm_placing placing = {
		.vma = vmf->vma,
		.addr = vmf->address,
		.here = NUMA_NO_NODE,
		.held = held,
	};
	struct folio *folio;

	down_read(&region->family->lock);
	folio = dvsm_content_get(region, vmf->pgoff, &placing, write, found);
	if (write && !IS_ERR(folio))
		dvsm_folio_mark_written(region, folio);
	up_read(&region->family->lock);
	return folio;
}

/*
 * A read of memory that the region alone reads, and has written to before, maps
 * it for writing at once. It saves a fault for who reads and then writes. And it
 * is what lets an instruction end that reads and writes one chunk: dvsm's huge
 * write-protect fault takes the mapping away, so the instruction's read comes
 * first again, and a read-only mapping for that would have it go round for ever.
 */
static void dvsm_fault_upgrade(struct vm_fault *vmf, struct folio *folio, bool exclusive)
{
	if (exclusive && folio_test_checked(folio) && (vmf->vma->vm_flags & VM_SHARED) &&
	    (vmf->vma->vm_flags & VM_WRITE))
		vmf->flags |= FAULT_FLAG_WRITE;
}

static int dvsm_fault_look_at_pte(pte_t *pte, unsigned long addr, void *arg)
{
	return 0;
}

/*
 * The region reads some pages of the chunk elsewhere, so the folio must not be mapped
 * whole: where there is a page table the core maps pages.
 */
static int dvsm_fault_prepare_parts(struct vm_fault *vmf)
{
	if (!pmd_none(READ_ONCE(*vmf->pmd)))
		return 0;
	return apply_to_page_range(vmf->vma->vm_mm, vmf->address & PAGE_MASK, PAGE_SIZE,
				   dvsm_fault_look_at_pte, NULL);
}

static vm_fault_t dvsm_region_fault(struct vm_fault *vmf)
{
	struct dvsm_region *region = dvsm_vma_region(vmf->vma);
	struct dvsm_found found;
	struct folio *folio;

	if (!region)
		return VM_FAULT_SIGBUS;
	if (vmf->pgoff >= region->nr_pages)
		return dvsm_fault_fail(region, vmf, -EFBIG);

	folio = dvsm_fault_get(region, vmf, dvsm_fault_is_write(vmf), NULL, &found);
	if (IS_ERR(folio))
		return dvsm_fault_fail(region, vmf, PTR_ERR(folio));
	if (dvsm_folio_page_is_poisoned(folio, vmf->pgoff)) {
		folio_unlock(folio);
		folio_put(folio);
		return dvsm_fault_fail(region, vmf, -EHWPOISON);
	}

	dvsm_fault_count(region, vmf, folio, &found);
	trace_dvsm_fault(region->id, vmf->pgoff, vmf->flags, folio_order(folio), folio_nid(folio),
			 0);
	if (found.parts && folio_test_large(folio) && dvsm_fault_prepare_parts(vmf)) {
		folio_unlock(folio);
		folio_put(folio);
		return dvsm_fault_fail(region, vmf, -ENOMEM);
	}
	dvsm_fault_upgrade(vmf, folio, found.exclusive);
	vmf->page = folio_page(folio, vmf->pgoff - folio->index);
	dvsm_delay();
	return VM_FAULT_LOCKED;
}

/*
 * Maps nothing around a fault. It is there because newer kernels then take
 * faults under the VMA's own lock instead of the process's.
 */
static vm_fault_t dvsm_region_map_pages(struct vm_fault *vmf, pgoff_t start, pgoff_t end)
{
	return 0;
}

/*
 * A page that is mapped, or about to be, shall become writable. The folio lock is
 * kept from the look at who shares it until it is mapped: a snapshot that is
 * being taken waits for it, and unmaps afterwards.
 */
static vm_fault_t dvsm_region_page_mkwrite(struct vm_fault *vmf)
{
	struct dvsm_region *region = dvsm_vma_region(vmf->vma);
	struct dvsm_found found;
	struct folio *folio;

	if (!region)
		return VM_FAULT_SIGBUS;
	if (vmf->pgoff >= region->nr_pages)
		return dvsm_fault_fail(region, vmf, -EFBIG);
	folio = dvsm_fault_get(region, vmf, true, page_folio(vmf->page), &found);
	if (IS_ERR(folio))
		return dvsm_fault_fail(region, vmf, PTR_ERR(folio));
	if (folio != page_folio(vmf->page)) {
		/* The region writes elsewhere now. Take the fault again. */
		folio_unlock(folio);
		folio_put(folio);
		return VM_FAULT_NOPAGE;
	}
	folio_put(folio);
	dvsm_delay();
	return VM_FAULT_LOCKED;
}

/*
 * A write to a 2 MiB mapping that is read-only. The core would split it into
 * 4 KiB and notify for each; so the mapping is taken away, for the access to
 * come again as a fault on nothing, which maps 2 MiB for writing, be it a read.
 */
static vm_fault_t dvsm_region_huge_fault(struct vm_fault *vmf, unsigned int order)
{
	struct dvsm_region *region = dvsm_vma_region(vmf->vma);
	struct dvsm_found found;
	struct folio *folio;

	if (order != DVSM_HUGE_FAULT_PMD || pmd_none(vmf->orig_pmd) || !dvsm_fault_is_write(vmf) ||
	    !region || vmf->pgoff >= region->nr_pages)
		return VM_FAULT_FALLBACK;
	folio = dvsm_fault_get(region, vmf, true, NULL, &found);
	if (IS_ERR(folio))
		return dvsm_fault_fail(region, vmf, PTR_ERR(folio));
	/* Another thread of the process may have been faster. */
	if (pmd_same(READ_ONCE(*vmf->pmd), vmf->orig_pmd))
		dvsm_store_unmap_chunk(region, dvsm_page_chunk(vmf->pgoff));
	folio_unlock(folio);
	folio_put(folio);
	return VM_FAULT_NOPAGE;
}

#ifdef CONFIG_NUMA
static struct mempolicy *dvsm_region_get_policy(DVSM_GET_POLICY_ARGS)
{
	return dvsm_balance_policy(vma, addr);
}
#endif

/* Registrable regions: devices write without a fault, so nothing is shared. */
static const struct vm_operations_struct dvsm_region_vm_ops = {
	.fault		= dvsm_region_fault,
	.map_pages	= dvsm_region_map_pages,
#ifdef CONFIG_NUMA
	.get_policy	= dvsm_region_get_policy,
#endif
};

/* Other regions: the first write after a snapshot is noticed. */
static const struct vm_operations_struct dvsm_region_notify_vm_ops = {
	.fault		= dvsm_region_fault,
	.map_pages	= dvsm_region_map_pages,
#ifdef CONFIG_NUMA
	.get_policy	= dvsm_region_get_policy,
#endif
	.huge_fault	= dvsm_region_huge_fault,
	.page_mkwrite	= dvsm_region_page_mkwrite,
};

/* Regions that fork() copies. */
static const struct vm_operations_struct dvsm_region_fork_vm_ops = {
	.open		= dvsm_fork_open,
	.close		= dvsm_fork_close,
	.fault		= dvsm_region_fault,
	.map_pages	= dvsm_region_map_pages,
#ifdef CONFIG_NUMA
	.get_policy	= dvsm_region_get_policy,
#endif
	.huge_fault	= dvsm_region_huge_fault,
	.page_mkwrite	= dvsm_region_page_mkwrite,
};

/**
 * dvsm_region_mmap - ->mmap of a region.
 * @file: one of the region's files
 * @vma: the new mapping
 *
 * A mapping may reach beyond the region's end, as with any file; touching it
 * there is SIGBUS. The core has made the mapping of a read-only file unable to
 * become writable.
 *
 * Context: mmap_lock held for writing.
 * Return: 0; -ENOMEM for a region that fork() copies.
 */
int dvsm_region_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct dvsm_region *region = dvsm_file_region(file);

	if (region->flags & DVSM_REGION_F_REGISTRABLE) {
		vma->vm_ops = &dvsm_region_vm_ops;
	} else if (region->flags & DVSM_REGION_F_FORK_COPY) {
		int ret = dvsm_fork_mmap(file, vma);

		if (ret)
			return ret;
		vma->vm_ops = &dvsm_region_fork_vm_ops;
	} else {
		vma->vm_ops = &dvsm_region_notify_vm_ops;
	}
	return 0;
}

/* Of a device that was opened for reading the region's file is one for reading: it is what mappings hold. */
static struct file *dvsm_context_implicit_locked(struct dvsm_context *context, fmode_t mode)
{
	struct dvsm_policy *policy;
	u32 flags = DVSM_REGION_F_IMPLICIT | DVSM_REGION_F_REGISTRABLE;
	struct file *file, *whole;

	lockdep_assert_held(&context->lock);
	if (context->implicit)
		return context->implicit;
	if (READ_ONCE(dvsm_implicit_pinned))
		flags |= DVSM_REGION_F_PINNED;
	policy = dvsm_policy_create(READ_ONCE(dvsm_implicit_policy), &NODE_MASK_NONE, NULL);
	if (IS_ERR(policy))
		return ERR_CAST(policy);
	file = dvsm_region_create(DVSM_LENGTH_MAX, flags, policy, "implicit");
	dvsm_policy_put(policy);
	if (!IS_ERR(file) && !(mode & FMODE_WRITE)) {
		whole = file;
		file = dvsm_inode_open(file_inode(whole), O_RDONLY);
		fput(whole);
	}
	if (!IS_ERR(file))
		context->implicit = file;
	return file;
}

/**
 * dvsm_context_mmap - ->mmap of /dev/dvsm: the implicit region.
 * @file: an open of the device
 * @vma: the new mapping
 *
 * The mapping becomes one of the region's file, so that everything that follows
 * is as if the region had been made by the command.
 *
 * Context: mmap_lock held for writing.
 * Return: 0; -EINVAL beyond the longest region; what creating and, for a pinned
 * one, populating a region returns.
 */
int dvsm_context_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct dvsm_context *context = file->private_data;
	u64 start = (u64)vma->vm_pgoff << PAGE_SHIFT;
	u64 length = vma->vm_end - vma->vm_start;
	struct file *implicit;

	if (vma->vm_pgoff >= DVSM_LENGTH_MAX >> PAGE_SHIFT || length > DVSM_LENGTH_MAX - start)
		return -EINVAL;

	mutex_lock(&context->lock);
	implicit = dvsm_context_implicit_locked(context, file->f_mode);
	mutex_unlock(&context->lock);
	if (IS_ERR(implicit))
		return PTR_ERR(implicit);

	if (dvsm_file_region(implicit)->flags & DVSM_REGION_F_PINNED) {
		int ret = dvsm_region_pin(dvsm_file_region(implicit), start, start + length, 1,
					  NUMA_NO_NODE);

		if (ret)
			return ret;
	}
	vma_set_file(vma, implicit);
	return dvsm_region_mmap(implicit, vma);
}
