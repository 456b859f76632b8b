// SPDX-License-Identifier: GPL-2.0-only
/*
 * The commands as an ABI: numbers and sizes that cannot change, structs of every
 * length, every flag bit, pointers that lead nowhere, descriptors of every kind.
 * What a command does is tested elsewhere; here each is one variant of the same
 * claims.
 */
#include <sys/stat.h>

#include "ioctl_commands.h"

/* How a command is given, and what a file says that takes none; ioctl_uring_test.c differs. */
#ifndef GIVE
#define GIVE		ioctl
#define NO_COMMANDS	-ENOTTY
#define BY_WATCH(answer)	(answer)
#endif

#define POISON 0xa5

/* A request that succeeds, with @outputs in every byte of its outputs. */
static void prepare_over(const FIXTURE_VARIANT(command) *variant,
			 const FIXTURE_DATA(command) *self, union request *request,
			 unsigned char outputs)
{
	size_t i;

	memset(request, 0, sizeof(*request));
	request->size = variant->size;
	variant->fill(request, self->snapshot);
	for (i = 0; i < ARRAY_SIZE(variant->outputs); i++)
		memset(request->bytes + variant->outputs[i].at, outputs,
		       variant->outputs[i].length);
}

static void prepare(const FIXTURE_VARIANT(command) *variant, const FIXTURE_DATA(command) *self,
		    union request *request)
{
	prepare_over(variant, self, request, 0);
}

static bool same_inputs(const FIXTURE_VARIANT(command) *variant, union request *a,
			union request *b)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(variant->outputs); i++) {
		memset(a->bytes + variant->outputs[i].at, 0, variant->outputs[i].length);
		memset(b->bytes + variant->outputs[i].at, 0, variant->outputs[i].length);
	}
	return !memcmp(a, b, variant->size);
}

/* 0 or -errno; a descriptor that was made is closed again. */
static int call_on(const FIXTURE_VARIANT(command) *variant, int fd, void *request)
{
	int ret = GIVE(fd, variant->cmd, request);

	if (ret < 0)
		return -errno;
	if (variant->makes_fd)
		close(ret);
	else if (ret)
		return ret;
	return 0;
}

static int call(const FIXTURE_VARIANT(command) *variant, const FIXTURE_DATA(command) *self,
		void *request)
{
	return call_on(variant, variant->on_device ? self->dev : self->region, request);
}

TEST_F(command, struct_shorter_than_the_first_version_is_einval)
{
	union request request;
	uint32_t size;

	for (size = 0; size < variant->size_min; size++) {
		prepare(variant, self, &request);
		request.size = size;
		EXPECT_EQ(-EINVAL, call(variant, self, &request)) TH_LOG("size %u", size);
	}
}

TEST_F(command, struct_of_the_first_version_is_enough)
{
	union request request;

	prepare(variant, self, &request);
	request.size = variant->size_min;
	EXPECT_EQ(0, call(variant, self, &request));
	EXPECT_EQ(variant->size_min, request.size);
}

/* By a page and by a chunk: some commands take whole chunks alone. */
TEST_F(command, range_that_leaves_the_region_is_einval)
{
	const uint64_t end = COMMAND_LENGTH;
	const struct { uint64_t offset, length; } bad[] = {
		{ 0, end + PAGE }, { 0, end + CHUNK }, { PAGE, end }, { CHUNK, end },
		{ end - PAGE, 2 * PAGE }, { end - CHUNK, 2 * CHUNK }, { end, PAGE }, { end, CHUNK },
		{ end + PAGE, 0 }, { end + CHUNK, 0 }, { end + PAGE, PAGE }, { end + CHUNK, CHUNK },
		{ CHUNK, -CHUNK }, { -CHUNK, 2 * CHUNK }, { 1ULL << 63, 1ULL << 63 },
	};
	union request request;
	size_t i;

	ASSERT_GT(sizeof(request), variant->range);
	for (i = 0; i < ARRAY_SIZE(bad) && variant->range; i++) {
		prepare(variant, self, &request);
		memcpy(request.bytes + variant->range, &bad[i], sizeof(bad[i]));
		EXPECT_EQ(-EINVAL, call(variant, self, &request))
			TH_LOG("%#lx bytes at %#lx", bad[i].length, bad[i].offset);
	}
}

TEST_F(command, nothing_beyond_the_callers_size_is_written)
{
	union request request;
	size_t i;

	prepare(variant, self, &request);
	memset(request.bytes + variant->size_min, POISON, sizeof(request) - variant->size_min);
	request.size = variant->size_min;
	EXPECT_EQ(0, call(variant, self, &request));
	for (i = variant->size_min; i < sizeof(request); i++)
		ASSERT_EQ(POISON, request.bytes[i]);
}

TEST_F(command, longer_struct_with_zero_tail_is_as_good)
{
	union request request;
	uint32_t size;

	for (size = variant->size + 1; size <= PAGE; size += size < variant->size + 16 ? 1 : 97) {
		prepare(variant, self, &request);
		request.size = size;
		EXPECT_EQ(0, call(variant, self, &request)) TH_LOG("size %u", size);
		EXPECT_EQ(size, request.size);
	}
	prepare(variant, self, &request);
	request.size = PAGE;
	EXPECT_EQ(0, call(variant, self, &request));
}

TEST_F(command, longer_struct_with_any_tail_byte_set_is_e2big)
{
	union request request, before;
	size_t i;

	for (i = variant->size; i < PAGE; i += i < variant->size + 32 ? 1 : 61) {
		prepare_over(variant, self, &request, POISON);
		request.size = PAGE;
		request.bytes[i] = 1;
		before = request;
		EXPECT_EQ(-E2BIG, call(variant, self, &request)) TH_LOG("byte %zu", i);
		EXPECT_EQ(0, memcmp(&before, &request, sizeof(request)));
	}
}

TEST_F(command, struct_longer_than_a_page_is_e2big)
{
	static const uint32_t sizes[] = { PAGE + 1, 2 * PAGE, INT32_MAX, UINT32_MAX };
	union request request;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		prepare(variant, self, &request);
		request.size = sizes[i];
		EXPECT_EQ(-E2BIG, call(variant, self, &request));
	}
}

TEST_F(command, every_unknown_flag_is_eopnotsupp_and_changes_nothing)
{
	union request request, before;
	unsigned int bit;

	for (bit = 0; bit < 32; bit++) {
		if (variant->known_flags >> bit & 1)
			continue;
		prepare_over(variant, self, &request, POISON);
		request.flags = 1U << bit;
		before = request;
		EXPECT_EQ(-EOPNOTSUPP, call(variant, self, &request)) TH_LOG("bit %u", bit);
		EXPECT_EQ(0, memcmp(&before, &request, sizeof(request))) TH_LOG("bit %u", bit);
	}
}

TEST_F(command, every_reserved_byte_that_is_set_is_einval)
{
	union request request, before;
	size_t i;

	for (i = 0; i < variant->reserved.length; i++) {
		prepare_over(variant, self, &request, POISON);
		request.bytes[variant->reserved.at + i] = 1;
		before = request;
		EXPECT_EQ(-EINVAL, call(variant, self, &request)) TH_LOG("byte %zu", i);
		EXPECT_TRUE(same_inputs(variant, &before, &request));
	}
}

TEST_F(command, bad_pointers_are_efault_and_leave_no_descriptor)
{
	union request request;
	char *pages;
	int fds;

	prepare(variant, self, &request);
	/* The first call may open what commands are given by, in a hole of memory. */
	EXPECT_EQ(-EFAULT, call(variant, self, NULL));
	fds = nr_open_fds();
	pages = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, pages);
	ASSERT_EQ(0, munmap(pages + PAGE, PAGE));
	EXPECT_EQ(-EFAULT, call(variant, self, NULL));
	EXPECT_EQ(-EFAULT, call(variant, self, (void *)1));
	EXPECT_EQ(-EFAULT, call(variant, self, (void *)~0UL));
	EXPECT_EQ(-EFAULT, call(variant, self, (void *)0xffff888000000000UL));
	EXPECT_EQ(-EFAULT, call(variant, self, pages + PAGE));

	/* Only the size, or all but the last byte, can be read. */
	memcpy(pages + PAGE - 4, &request, 4);
	EXPECT_EQ(-EFAULT, call(variant, self, pages + PAGE - 4));
	memcpy(pages + PAGE - variant->size + 1, &request, variant->size - 1);
	EXPECT_EQ(-EFAULT, call(variant, self, pages + PAGE - variant->size + 1));

	/* It can be read and not written. */
	memcpy(pages, &request, variant->size);
	ASSERT_EQ(0, mprotect(pages, PAGE, PROT_READ));
	EXPECT_EQ(-EFAULT, call(variant, self, pages));
	EXPECT_EQ(fds, nr_open_fds());
}

TEST_F(command, struct_at_the_very_end_of_memory_works_at_any_alignment)
{
	union request request;
	unsigned int shift;
	char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);

	ASSERT_NE(MAP_FAILED, pages);
	ASSERT_EQ(0, munmap(pages + PAGE, PAGE));
	for (shift = 0; shift < 8; shift++) {
		char *at = pages + PAGE - variant->size - shift;

		prepare(variant, self, &request);
		memcpy(at, &request, variant->size);
		EXPECT_EQ(0, call(variant, self, at)) TH_LOG("shift %u", shift);
	}
}

TEST_F(command, inputs_stay_as_they_were_on_success)
{
	union request request, before;

	prepare(variant, self, &request);
	before = request;
	EXPECT_EQ(0, call(variant, self, &request));
	EXPECT_TRUE(same_inputs(variant, &before, &request));
}

TEST_F(command, outputs_do_not_depend_on_what_was_there)
{
	union request zeroes, ones;

	/* So that the second call finds what the first one found. */
	ASSERT_EQ(0, region_populate(self->region, 0, CHUNK, NULL));
	if (variant->cmd == DVSM_IOC_REGION_DISCARD || variant->cmd == DVSM_IOC_REGION_SPLIT) {
		ASSERT_EQ(0, region_discard(self->region, 0, 0, NULL));
	}
	ASSERT_EQ(0, region_migrate(self->region, 0, 0, first_node, NULL));
	prepare(variant, self, &zeroes);
	ASSERT_EQ(0, call(variant, self, &zeroes));
	prepare_over(variant, self, &ones, 0xff);
	ASSERT_EQ(0, call(variant, self, &ones));
	EXPECT_EQ(0, memcmp(&zeroes, &ones, variant->size));
}

TEST_F(command, read_only_descriptor_serves_all_but_commands_that_write)
{
	union request request, before;
	uint64_t resident;

	if (variant->on_device)
		return;
	prepare_over(variant, self, &request, POISON);
	before = request;
	resident = region_resident(self->region);
	EXPECT_EQ(variant->writes ? -EBADF : 0, call_on(variant, self->read_only, &request));
	if (variant->writes) {
		EXPECT_EQ(0, memcmp(&before, &request, sizeof(request)));
	}
	EXPECT_EQ(resident, region_resident(self->region));
}

TEST_F(command, descriptor_that_only_looks_serves_commands_that_look)
{
	union request request, before;
	uint64_t resident;

	prepare_over(variant, self, &request, POISON);
	before = request;
	resident = region_resident(self->region);
	EXPECT_EQ(BY_WATCH(variant->on_device ? -ENOTTY : variant->looks ? 0 : -EBADF),
		  call_on(variant, self->watch, &request));
	if (!variant->looks) {
		EXPECT_EQ(0, memcmp(&before, &request, sizeof(request)));
	}
	EXPECT_EQ(resident, region_resident(self->region));
}

TEST_F(command, other_descriptors_do_not_know_it)
{
	int full = open("/dev/full", O_RDWR), other = memfd_create("other", 0), pipe_fds[2];
	union request request;

	ASSERT_LE(0, full);
	ASSERT_LE(0, other);
	ASSERT_EQ(0, pipe(pipe_fds));
	prepare(variant, self, &request);
	EXPECT_EQ(NO_COMMANDS, call_on(variant, full, &request));
	EXPECT_EQ(NO_COMMANDS, call_on(variant, other, &request));
	EXPECT_EQ(NO_COMMANDS, call_on(variant, pipe_fds[0], &request));
	EXPECT_EQ(-EBADF, call_on(variant, -1, &request));
	EXPECT_EQ(variant->on_device ? -ENOTTY : -ENOENT,
		  call_on(variant, variant->on_device ? self->region : self->dev, &request));
}

TEST_F(command, path_descriptor_does_not_know_it)
{
	int path = fd_reopen(variant->on_device ? self->dev : self->region, O_PATH);
	union request request;

	ASSERT_LE(0, path);
	prepare(variant, self, &request);
	EXPECT_EQ(-EBADF, call_on(variant, path, &request));
}

TEST_F(command, other_encodings_of_its_number_are_enotty)
{
	const unsigned int nr = _IOC_NR(variant->cmd);
	const unsigned int cmds[] = {
		_IOC(_IOC_READ, DVSM_IOC_MAGIC, nr, variant->size),
		_IOC(_IOC_WRITE, DVSM_IOC_MAGIC, nr, variant->size),
		_IOC(_IOC_READ | _IOC_WRITE, DVSM_IOC_MAGIC, nr, variant->size),
		_IOC(_IOC_NONE, DVSM_IOC_MAGIC, nr, variant->size),
		_IO(DVSM_IOC_MAGIC - 1, nr), _IO(DVSM_IOC_MAGIC + 1, nr),
	};
	union request request;
	size_t i;

	prepare(variant, self, &request);
	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		errno = 0;
		EXPECT_EQ(-1, GIVE(self->dev, cmds[i], &request));
		EXPECT_EQ(ENOTTY, errno) TH_LOG("%#x", cmds[i]);
		errno = 0;
		EXPECT_EQ(-1, GIVE(self->region, cmds[i], &request));
		EXPECT_EQ(ENOTTY, errno) TH_LOG("%#x", cmds[i]);
	}
}

TEST_F(command, new_descriptor_is_close_on_exec)
{
	union request request;
	int fd;

	if (!variant->makes_fd)
		return;
	prepare(variant, self, &request);
	fd = ioctl(variant->on_device ? self->dev : self->region, variant->cmd, &request);
	ASSERT_LE(0, fd);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
}

DVSM_FIXTURE(ioctl);

TEST_F(ioctl, every_unknown_number_is_enotty)
{
	static const unsigned int known[] = { 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x10, 0x11,
					      0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19,
					      0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x20, 0x21,
					      0x22, 0x23, 0x06, 0x07, 0x24, 0x25, 0x26, 0x27,
					      0x08 };
	int region = region_create(self->dev, CHUNK, 0);
	union request request;
	unsigned int nr, i;

	ASSERT_LE(0, region);
	for (nr = 0; nr < 256; nr++) {
		for (i = 0; i < ARRAY_SIZE(known) && known[i] != nr; i++)
			;
		if (i < ARRAY_SIZE(known))
			continue;
		memset(&request, 0, sizeof(request));
		request.size = 8;
		errno = 0;
		EXPECT_EQ(-1, GIVE(self->dev, _IO(DVSM_IOC_MAGIC, nr), &request));
		EXPECT_EQ(ENOTTY, errno) TH_LOG("number %#x", nr);
		errno = 0;
		EXPECT_EQ(-1, GIVE(region, _IO(DVSM_IOC_MAGIC, nr), &request));
		EXPECT_EQ(ENOTTY, errno) TH_LOG("number %#x", nr);
	}
}

TEST_F(ioctl, device_is_a_character_device_that_strangers_cannot_open)
{
	struct stat st;
	pid_t pid;

	ASSERT_EQ(0, fstat(self->dev, &st));
	EXPECT_TRUE(S_ISCHR(st.st_mode));
	EXPECT_EQ(0, st.st_mode & 07);
	pid = child_start();
	if (!pid)
		_exit(become_nobody() || device_open(O_RDWR) != -EACCES);
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(ioctl, device_cannot_be_read_or_written)
{
	char byte = 0;

	EXPECT_EQ(-1, read(self->dev, &byte, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, write(self->dev, &byte, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ftruncate(self->dev, CHUNK));
}

TEST_HARNESS_MAIN
