// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which basic blocks of dvsm.ko have run, by anybody: tasks, workers, interrupts.
 *
 * dvsm.ko is built with -fsanitize-coverage=trace-pc and calls this module instead of
 * KCOV (see coverage.h), so it works on kernels without KCOV. The addresses that it
 * was called from are read from debugfs, dvsm_coverage.
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/vmalloc.h>

/* Wide enough for the module, wherever the loader puts its parts. */
#define WINDOW		(64UL << 20)

void dvsm_coverage_hit(void);

static unsigned long window;	/* its first address; 0: nobody has called */
static unsigned long *blocks;	/* a bit for each address of the window */

notrace void dvsm_coverage_hit(void)
{
	unsigned long ip = _RET_IP_;

	if (!READ_ONCE(window))
		cmpxchg(&window, 0, ip - WINDOW / 2);
	ip -= READ_ONCE(window);
	if (ip < WINDOW && !test_bit(ip, blocks))
		set_bit(ip, blocks);
}
EXPORT_SYMBOL(dvsm_coverage_hit);

static int coverage_show(struct seq_file *seq, void *unused)
{
	unsigned long bit;

	for_each_set_bit(bit, blocks, WINDOW)
		seq_printf(seq, "hit %lx\n", window + bit);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(coverage);

static struct dentry *coverage_file;

static int __init coverage_init(void)
{
	blocks = vzalloc(WINDOW / BITS_PER_BYTE);
	if (!blocks)
		return -ENOMEM;
	coverage_file = debugfs_create_file("dvsm_coverage", 0400, NULL, NULL, &coverage_fops);
	return 0;
}

static void __exit coverage_exit(void)
{
	debugfs_remove(coverage_file);
	vfree(blocks);
}

module_init(coverage_init);
module_exit(coverage_exit);
MODULE_DESCRIPTION("Coverage of dvsm.ko");
MODULE_LICENSE("GPL");
