// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs of the first release go on working: abi_first.h is what they were built
 * against, and the calls below send what they send.
 */
#include "fixture.h"

struct first {
	const char *name;
	const char *field;		/* NULL: the struct itself */
	size_t at, size;		/* in the first release */
	size_t now_at, now_size;
};

#define STRUCT(type, length)	{ #type, NULL, 0, length, 0, sizeof(struct type) },
#define FIELD(type, name, offset, length)				\
	{ #type, #name, offset, length, offsetof(struct type, name),	\
	  sizeof(((struct type *)0)->name) },
#define NUMBER(name, value)
static const struct first firsts[] = {
#include "abi_first.h"
};
#undef STRUCT
#undef FIELD
#undef NUMBER

struct number {
	const char *name;
	unsigned long long first, now;
};

#define STRUCT(type, length)
#define FIELD(type, name, offset, length)
#define NUMBER(name, value)	{ #name, value, name },
static const struct number numbers[] = {
#include "abi_first.h"
};

/* Elements of arrays whose size no caller tells. */
static const char * const fixed[] = {
	"dvsm_chunk", "dvsm_range", "dvsm_name", "dvsm_member",
};

static bool is_fixed(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fixed); i++)
		if (!strcmp(fixed[i], name))
			return true;
	return false;
}

TEST(structs_have_grown_at_their_ends_if_at_all)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(firsts); i++) {
		const struct first *first = &firsts[i];

		if (!first->field && !is_fixed(first->name)) {
			EXPECT_LE(first->size, first->now_size) TH_LOG("%s", first->name);
			continue;
		}
		EXPECT_EQ(first->size, first->now_size)
			TH_LOG("%s %s", first->name, first->field ? : "");
		EXPECT_EQ(first->at, first->now_at)
			TH_LOG("%s %s", first->name, first->field ? : "");
	}
}

TEST(numbers_are_what_they_were)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		const struct number *number = &numbers[i];

		EXPECT_EQ(number->first, number->now) TH_LOG("%s", number->name);
	}
}

DVSM_FIXTURE(old_program);

/* A struct of so many bytes, behind which there is no memory. */
static void *old_struct(size_t size)
{
	char *page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED || munmap(page + PAGE, PAGE))
		abort();
	*(uint32_t *)(page + PAGE - size) = size;
	return page + PAGE - size;
}

static uint64_t *word(void *old, size_t at)
{
	return (uint64_t *)((char *)old + at);
}

TEST_F(old_program, lives_as_it_did)
{
	void *info = old_struct(80), *create = old_struct(64), *told = old_struct(128);
	void *populate = old_struct(40), *discard = old_struct(32), *residency = old_struct(48);
	void *nodes = old_struct(24), *reopen = old_struct(8), *stats = old_struct(56);
	unsigned char chunks[4 * 24];
	char *map;
	int fd, twin;

	ASSERT_EQ(0, ioctl(self->dev, 0xd500, info));
	EXPECT_EQ(7, *word(info, 16) & 7);
	EXPECT_EQ(CHUNK, *word(info, 24));
	*word(create, 8) = 4 * CHUNK;
	fd = ioctl(self->dev, 0xd501, create);
	ASSERT_LE(0, fd);
	*word(populate, 16) = 2 * CHUNK;
	ASSERT_EQ(0, ioctl(fd, 0xd512, populate));
	EXPECT_EQ(2 * CHUNK, *word(populate, 32));
	ASSERT_EQ(0, ioctl(fd, 0xd510, told));
	EXPECT_EQ(4 * CHUNK, *word(told, 8));
	EXPECT_EQ(2 * CHUNK, *word(told, 32));
	*word(residency, 24) = (uintptr_t)chunks;
	*(uint32_t *)((char *)residency + 32) = 4;
	ASSERT_EQ(0, ioctl(fd, 0xd514, residency));
	EXPECT_EQ(2, *(uint32_t *)((char *)residency + 36));
	EXPECT_EQ(CHUNK, *word(chunks, 24));
	*word(nodes, 8) = (uintptr_t)stats;
	*(uint32_t *)((char *)nodes + 16) = 1;
	ASSERT_EQ(0, ioctl(fd, 0xd511, nodes));
	EXPECT_LE(1, *(uint32_t *)((char *)nodes + 20));
	map = region_map(fd, 4 * CHUNK, 0);
	ASSERT_NE(MAP_FAILED, map);
	stamp(map, CHUNK, 1);
	stamp(map + CHUNK, 3 * CHUNK, 2);
	twin = ioctl(fd, 0xd515, reopen);
	ASSERT_LE(0, twin);
	*word(discard, 16) = CHUNK;
	ASSERT_EQ(0, ioctl(twin, 0xd513, discard));
	EXPECT_EQ(CHUNK, *word(discard, 24));
	EXPECT_TRUE(is_zero(map, CHUNK));
	EXPECT_EQ(0, stamps_wrong(map + CHUNK, 3 * CHUNK, 2));
}

TEST_HARNESS_MAIN
