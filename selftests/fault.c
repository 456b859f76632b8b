// SPDX-License-Identifier: GPL-2.0-only
/*
 * Touching memory that may not be there, and telling what memory holds.
 */
#include <setjmp.h>
#include <signal.h>

#include "common.h"

static sigjmp_buf fault_env;
static volatile int fault_code;

static void fault_handler(int sig, siginfo_t *info, void *context)
{
	(void)context;
	fault_code = info->si_code;
	siglongjmp(fault_env, sig);
}

struct fault_actions {
	struct sigaction bus, segv;
};

static void fault_catch(struct fault_actions *old)
{
	struct sigaction action = { .sa_sigaction = fault_handler, .sa_flags = SA_SIGINFO };

	sigaction(SIGBUS, &action, &old->bus);
	sigaction(SIGSEGV, &action, &old->segv);
}

static void fault_restore(const struct fault_actions *old)
{
	sigaction(SIGBUS, &old->bus, NULL);
	sigaction(SIGSEGV, &old->segv, NULL);
}

/* Returns 0, SIGBUS or SIGSEGV. */
int read_at(const volatile void *addr)
{
	struct fault_actions old;
	int sig;

	fault_catch(&old);
	sig = sigsetjmp(fault_env, 1);
	if (!sig)
		(void)*(const volatile unsigned char *)addr;
	fault_restore(&old);
	return sig;
}

/* Returns 0, SIGBUS or SIGSEGV. */
int write_at(volatile void *addr, unsigned char value)
{
	struct fault_actions old;
	int sig;

	fault_catch(&old);
	sig = sigsetjmp(fault_env, 1);
	if (!sig)
		*(volatile unsigned char *)addr = value;
	fault_restore(&old);
	return sig;
}

/* si_code of the last signal: BUS_ADRERR, BUS_MCEERR_AR, SEGV_ACCERR... */
int last_signal_code(void)
{
	return fault_code;
}

static uint64_t stamp_word(uint64_t seed, size_t offset)
{
	return (seed + 1) * 0x9e3779b97f4a7c15ULL + offset;
}

/* Stamps the first and the last word of every page. */
void stamp(void *addr, size_t length, uint64_t seed)
{
	size_t offset;

	for (offset = 0; offset < length; offset += PAGE) {
		*(volatile uint64_t *)((char *)addr + offset) = stamp_word(seed, offset);
		*(volatile uint64_t *)((char *)addr + offset + PAGE - 8) =
			~stamp_word(seed, offset);
	}
}

/* How many pages do not hold what stamp() wrote with the same arguments. */
size_t stamps_wrong(const void *addr, size_t length, uint64_t seed)
{
	size_t offset, wrong = 0;

	for (offset = 0; offset < length; offset += PAGE) {
		const volatile uint64_t *first = (const void *)((const char *)addr + offset);
		const volatile uint64_t *last =
			(const void *)((const char *)addr + offset + PAGE - 8);

		wrong += *first != stamp_word(seed, offset) || *last != ~stamp_word(seed, offset);
	}
	return wrong;
}

/* Looks at every byte. */
bool is_zero(const void *addr, size_t length)
{
	const uint64_t *word = addr;
	uint64_t any = 0;
	size_t i;

	for (i = 0; i < length / sizeof(*word); i++)
		any |= word[i];
	return !any;
}
