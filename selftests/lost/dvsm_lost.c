// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that is lost while it is copied, for tests: functions of dvsm.ko answer what they
 * would after a machine check, instead of doing anything.
 *
 *   /sys/module/dvsm_lost/parameters/copy    Y: no copy succeeds
 *   /sys/module/dvsm_lost/parameters/check   Y: no page can be read where that is tried
 *
 * The kernel's own fail_function asks for random numbers, which the probe must not where it is
 * an INT3: lockdep says so. And distributions' kernels do not have it.
 */
#include <linux/errno.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

struct lost {
	const char *function;
	struct kprobe probe;
	bool on;
};

/* Returns to who called what it takes the place of. */
static noinline int lost_answer(void)
{
	return -EHWPOISON;
}

static int lost_enter(struct kprobe *probe, struct pt_regs *regs)
{
	instruction_pointer_set(regs, (unsigned long)lost_answer);
	return 1;
}

/* Never called. That there is one says that the other changes where it goes on. */
static void lost_leave(struct kprobe *probe, struct pt_regs *regs, unsigned long flags)
{
}

static int lost_switch(struct lost *lost, bool on)
{
	int ret = 0;

	if (on == lost->on)
		return 0;
	if (on) {
		lost->probe = (struct kprobe) {
			.symbol_name = lost->function,
			.pre_handler = lost_enter,
			.post_handler = lost_leave,
		};
		ret = register_kprobe(&lost->probe);
	} else {
		unregister_kprobe(&lost->probe);
	}
	if (!ret)
		lost->on = on;
	return ret;
}

static int lost_set(const char *value, const struct kernel_param *kp)
{
	bool on;
	int ret = kstrtobool(value, &on);

	return ret ? ret : lost_switch(kp->arg, on);
}

static int lost_get(char *text, const struct kernel_param *kp)
{
	return sysfs_emit(text, "%c\n", ((struct lost *)kp->arg)->on ? 'Y' : 'N');
}

static const struct kernel_param_ops lost_ops = {
	.set = lost_set,
	.get = lost_get,
};

static struct lost lost_copy = { .function = "dvsm_pages_copy" };
static struct lost lost_check = { .function = "dvsm_page_check" };

module_param_cb(copy, &lost_ops, &lost_copy, 0600);
MODULE_PARM_DESC(copy, "whether every copy meets lost memory");
module_param_cb(check, &lost_ops, &lost_check, 0600);
MODULE_PARM_DESC(check, "whether every page that is tried is lost");

static int __init lost_init(void)
{
	return 0;
}

static void __exit lost_exit(void)
{
	lost_switch(&lost_copy, false);
	lost_switch(&lost_check, false);
}

module_init(lost_init);
module_exit(lost_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Lost memory in dvsm's copies, for tests");
