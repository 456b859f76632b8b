/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The only place that knows kernels apart. The source is written for the newest
 * kernel; on an older one this header supplies the newer names. Kbuild looks
 * into the target tree and defines DVSM_HAVE_*. Force-included.
 */
#ifndef DVSM_COMPAT_H
#define DVSM_COMPAT_H

#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/splice.h>
#ifdef DVSM_HAVE_URING_CMD
#include <linux/io_uring/cmd.h>
#else
#include <linux/io_uring.h>
#include <linux/io_uring_types.h>
#endif

#ifndef DVSM_HAVE_VM_FLAGS_SET
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}
#endif

/* An absent folio is an error pointer since 6.3, NULL before. */
#ifndef DVSM_HAVE_GET_FOLIO_ERR
static inline struct folio *dvsm_compat_get_folio(struct address_space *mapping, pgoff_t index)
{
	struct folio *folio = filemap_get_folio(mapping, index);

	return folio ? folio : ERR_PTR(-ENOENT);
}

static inline struct folio *dvsm_compat_lock_folio(struct address_space *mapping, pgoff_t index)
{
	struct folio *folio = filemap_lock_folio(mapping, index);

	return folio ? folio : ERR_PTR(-ENOENT);
}

#define filemap_get_folio dvsm_compat_get_folio
#define filemap_lock_folio dvsm_compat_lock_folio
#endif

#ifndef DVSM_HAVE_COPY_SPLICE_READ
#define copy_splice_read generic_file_splice_read
#endif

/* a_ops->error_remove_folio was error_remove_page, with the page. */
#ifndef DVSM_HAVE_ERROR_REMOVE_FOLIO
#define error_remove_folio error_remove_page
#define dvsm_error_remove_arg page
#define generic_error_remove_folio generic_error_remove_page
#define dvsm_error_remove_of(folio) (&(folio)->page)
#else
#define dvsm_error_remove_arg folio
#define dvsm_error_remove_of(folio) (folio)
#endif

/* i_op->setattr's first argument. */
#ifndef DVSM_HAVE_MNT_IDMAP
#define mnt_idmap user_namespace
#endif

/* vm_ops->huge_fault's second argument was an enum; C takes it for unsigned int. */
#ifdef DVSM_HAVE_HUGE_FAULT_ORDER
#define DVSM_HUGE_FAULT_PMD	PMD_ORDER
#else
#define DVSM_HUGE_FAULT_PMD	PE_SIZE_PMD
#endif

/* A command by io_uring knew the 16 bytes, not the whole SQE. */
#ifdef DVSM_HAVE_URING_CMD
#define dvsm_uring_sqe sqe
#else
#define dvsm_uring_sqe cmd
#define io_uring_sqe_cmd(cmd) (cmd)
#define io_uring_cmd_to_pdu(ioucmd, pdu_type) ((pdu_type *)(ioucmd)->pdu)
#endif

/* vm_ops->get_policy's arguments. */
#ifdef DVSM_HAVE_GET_POLICY_ILX
#define DVSM_GET_POLICY_ARGS	struct vm_area_struct *vma, unsigned long addr, pgoff_t *ilx
#else
#define DVSM_GET_POLICY_ARGS	struct vm_area_struct *vma, unsigned long addr
#endif

/*
 * Before 6.5 io_uring took no fixed buffers in files but shmem and hugetlb. It
 * looked at the mappings that pin_user_pages() told it; that argument went away
 * together with the rule.
 */
#ifdef DVSM_HAVE_PIN_VMAS
#define DVSM_KERNEL_FIXED_BUFFERS false
#else
#define DVSM_KERNEL_FIXED_BUFFERS true
#endif

/*
 * Since 6.11 the kernel moves folios with copy_mc_to_kernel(), which copies by bytes; by
 * words before.
 */
#ifdef DVSM_HAVE_FOLIO_MC_COPY
#define DVSM_KERNEL_MOVES_BY_BYTES true
#else
#define DVSM_KERNEL_MOVES_BY_BYTES false
#endif

#endif /* DVSM_COMPAT_H */
