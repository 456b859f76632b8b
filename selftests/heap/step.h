/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Victims that are traced: stopped at any instruction of a scenario.
 *
 * A restartable sequence aborts when it is single-stepped, so the instructions of those are found by decoding them, and
 * stopped at by breakpoints.
 */
#ifndef DVSM_HEAP_STEP_H
#define DVSM_HEAP_STEP_H

#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#include "crash_work.h"

#include "../../libdvsm/heap_types.h"

/* What the compiler and the library put there for the kernel: restartable sequences. */
struct section {
	uint32_t version, flags;
	uint64_t start, length, abort;
};
extern struct section __start___rseq_cs[] __attribute__((weak));
extern struct section __stop___rseq_cs[] __attribute__((weak));

#define PLACES_MAX	20000
#define STEPS_MAX	200000

struct scenario {
	const char *name;
	void (*prepare)(struct work *work);
	void (*run)(struct work *work);
	int blocks;			/* on their way at most */
};

static inline void drop(struct work *work, uint32_t first, uint32_t nr)
{
	uint32_t i;

	for (i = first; i < first + nr; i++)
		if (work->cells[i])
			work_free(work, i);
}

/* How many frees are looked at, before they take the fast path. */
static inline void look_at_frees(struct work *work, uint32_t nr)
{
	atomic_store(&work->heap->looks, nr);
	work->heap->fast.size = nr ? 0 : work->heap->size;
}

/* --- one victim --- */

/* Stops itself twice: before the scenario and after it. */
static inline pid_t victim_begin(const struct scenario *scenario, struct work *work)
{
	pid_t pid;
	int status;

	/* How long it takes to get somewhere must not matter. */
	work->heap->header->idle_ms = UINT32_MAX;
	look_at_frees(work, 0);
	drop(work, 0, CELLS);
	pid = child_begin();
	if (!pid) {
		run_on(sched_getcpu());
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		scenario->prepare(work);
		raise(SIGSTOP);
		scenario->run(work);
		raise(SIGSTOP);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return -1;
	ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_EXITKILL);
	return pid;
}

static inline uint64_t victim_at(pid_t pid)
{
	struct user_regs_struct regs;

	return ptrace(PTRACE_GETREGS, pid, 0, &regs) ? 0 : regs.rip;
}

static inline void victim_end(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
}

static inline void victim_poke(pid_t pid, uint64_t place, uint8_t code)
{
	long word = ptrace(PTRACE_PEEKTEXT, pid, place, 0);

	ptrace(PTRACE_POKETEXT, pid, place, (word & ~0xffL) | code);
}

/* Lets it run to the next breakpoint, which it has not passed then. 0: it stopped for another reason. */
static inline uint64_t victim_continue(pid_t pid)
{
	struct user_regs_struct regs;
	int status;

	ptrace(PTRACE_CONT, pid, 0, 0);
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
		return 0;
	ptrace(PTRACE_GETREGS, pid, 0, &regs);
	regs.rip--;
	ptrace(PTRACE_SETREGS, pid, 0, &regs);
	return regs.rip;
}

/* One instruction. False: it stopped for another reason. */
static inline bool victim_step(pid_t pid)
{
	int status;

	return !ptrace(PTRACE_SINGLESTEP, pid, 0, 0) && waitpid(pid, &status, 0) == pid &&
	       WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP;
}

/* Runs it to an instruction. False: it got to the scenario's end without passing there. */
static inline bool victim_run_to(pid_t pid, uint64_t place)
{
	victim_poke(pid, place, 0xcc);
	return victim_continue(pid) == place;
}

/* Runs it to an instruction, past it so many times, and to it again. */
static inline bool victim_run_again(pid_t pid, uint64_t place, uint32_t times)
{
	while (victim_run_to(pid, place)) {
		victim_poke(pid, place, *(const uint8_t *)place);
		if (!times--)
			return true;
		if (!victim_step(pid))
			break;
	}
	return false;
}

/* Runs it to an instruction and so many steps further, or to the scenario's end. Return: how many steps it took. */
static inline size_t victim_run_past(pid_t pid, uint64_t place, size_t nr)
{
	size_t i;

	if (!victim_run_to(pid, place))
		return 0;
	victim_poke(pid, place, *(const uint8_t *)place);
	for (i = 0; i < nr && victim_step(pid); i++)
		;
	return i;
}

/* --- which instructions --- */

struct places {
	uint64_t at[PLACES_MAX];
	size_t nr;
};

extern char __executable_start, etext;

static inline bool is_ours(uint64_t place)
{
	return place >= (uint64_t)&__executable_start && place < (uint64_t)&etext;
}

static inline bool places_has(const struct places *places, uint64_t place)
{
	size_t i;

	for (i = places->nr; i-- > 0; )
		if (places->at[i] == place)
			return true;
	return false;
}

static inline void places_add(struct places *places, uint64_t place)
{
	if (places->nr < PLACES_MAX && !places_has(places, place))
		places->at[places->nr++] = place;
}

/* Length of an instruction, of the few forms that our sections have. */
static inline size_t instruction_length(const uint8_t *code)
{
	const uint8_t *at = code;
	uint8_t op, modrm;

	while (*at == 0x64 || *at == 0x66 || *at == 0x2e || *at == 0xf3)
		at++;
	if ((*at & 0xf0) == 0x40)
		at++;
	op = *at++;
	if (op == 0x0f && (*at & 0xf0) == 0x80)
		return (size_t)(at + 5 - code);
	if (op == 0x0f)
		op = *at++ == 0x6f || at[-1] == 0x7f ? 0x0f : 0xff;
	if ((op & 0xf0) == 0x70 || op == 0xeb)
		return (size_t)(at + 1 - code);
	if (op == 0xe9)
		return (size_t)(at + 4 - code);
	modrm = *at++;
	if ((modrm & 0xc0) != 0xc0) {
		if ((modrm & 7) == 4 && (*at++ & 7) == 5 && !(modrm & 0xc0))
			at += 4;
		if ((modrm & 0xc7) == 5)
			at += 4;
		at += (modrm & 0xc0) == 0x40 ? 1 : (modrm & 0xc0) == 0x80 ? 4 : 0;
	}
	if (op == 0x83 || op == 0xc1 || op == 0x6b)
		at++;
	else if (op == 0x81 || op == 0x69)
		at += 4;
	return (size_t)(at - code);
}

/* Where a jump goes; 0 for any other instruction. */
static inline uint64_t jump_target(uint64_t place)
{
	const uint8_t *code = (const uint8_t *)place;
	int32_t far;

	if ((code[0] & 0xf0) == 0x70 || code[0] == 0xeb)
		return place + 2 + (uint64_t)(int8_t)code[1];
	if (code[0] == 0xe9) {
		memcpy(&far, code + 1, sizeof(far));
		return place + 5 + (uint64_t)far;
	}
	if (code[0] == 0x0f && (code[1] & 0xf0) == 0x80) {
		memcpy(&far, code + 2, sizeof(far));
		return place + 6 + (uint64_t)far;
	}
	return 0;
}

/* The section that begins right after this instruction. */
static inline const struct section *section_after(uint64_t place)
{
	uint64_t next = place + instruction_length((const uint8_t *)place);
	const struct section *section;

	for (section = __start___rseq_cs; section < __stop___rseq_cs; section++)
		if (section->start == next)
			return section;
	return NULL;
}

/* Through a section at full speed, to whichever of its ends comes. Its instructions become places. */
static inline bool victim_cross(pid_t pid, struct places *places, const struct section *section)
{
	uint64_t end = section->start + section->length, at, exits[16] = { end };
	size_t nr = 1, i;

	for (at = section->start; at < end; at += instruction_length((const uint8_t *)at)) {
		places_add(places, at);
		if (jump_target(at) && jump_target(at) - section->start >= section->length && nr < 16)
			exits[nr++] = jump_target(at);
	}
	for (i = 0; i < nr; i++)
		victim_poke(pid, exits[i], 0xcc);
	at = victim_continue(pid);
	for (i = 0; i < nr; i++)
		victim_poke(pid, exits[i], *(const uint8_t *)exits[i]);
	if (at)
		places_add(places, at);
	return at;
}

/* Adds the instructions that a victim passes from where it is, in so many steps. Return: how many it took. */
static inline size_t places_follow(struct places *places, pid_t pid, size_t nr_steps)
{
	const struct section *section;
	uint64_t at = 0;
	size_t steps;

	for (steps = 0; steps < nr_steps; steps++) {
		section = at ? section_after(at) : NULL;
		if (section ? !victim_cross(pid, places, section) : !victim_step(pid))
			break;
		at = victim_at(pid);
		if (is_ours(at))
			places_add(places, at);
		else
			at = 0;
	}
	return steps;
}

/* Those that it passes on its way through the scenario. Return: how many steps it took. */
static inline size_t places_learn(struct places *places, const struct scenario *scenario, struct work *work)
{
	pid_t pid = victim_begin(scenario, work);
	size_t steps;

	places->nr = 0;
	steps = places_follow(places, pid, STEPS_MAX);
	victim_end(pid);
	return steps;
}

#endif /* DVSM_HEAP_STEP_H */
