// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Files into and out of regions.
 *
 * The range is mapped and cut into blocks. Blocks that are aligned go past the page
 * cache, many at a time, through io_uring; whatever is not, or is refused, goes
 * through read() and write(), which always work:
 *
 *   head  |  body: io_uring, O_DIRECT            |  tail
 *   ------+------------------------------------- +------
 *   up to the first, and from the last multiple of 4096 of the file
 *
 * A request that comes back short is sent again for its rest. Where the file turns
 * out to end earlier than it was long at first, a read gives nothing, or ends off a
 * multiple of 4096.
 *
 * What has no memory is not written from the mapping, which would give it memory. For what
 * is read memory is made ahead, a piece at a time, while requests for the last piece are on
 * their way: so neither the disk nor the CPUs wait long for the other. A piece is also what
 * is registered as a fixed buffer.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <liburing.h>

#include <dvsm/dma.h>

#include "internal.h"

#define DVSM_IO_DEPTH		32
#define DVSM_IO_DEPTH_MAX	1024
#define DVSM_IO_BLOCK		(1ULL << 20)
#define DVSM_IO_ZERO_PAGES	256
#define DVSM_IO_PIECE		(64ULL << 20)
#define DVSM_IO_PIECES_MAX	1024
#define DVSM_IO_AT_ONCE_MAX	4

/* A request in flight, or free to be one. Positions count from the range's start. */
struct dvsm_io_slot {
	uint64_t at;
	uint64_t end;
	bool in_use;
};

struct dvsm_io {
	const struct dvsm_region *region;
	bool store;
	uint64_t offset;	/* of the range in the region */
	uint64_t file_offset;	/* of the range in the file */
	uint64_t length;	/* of the range; shrinks to the end of the file */
	char *memory;		/* the range */
	char *map;		/* the mapping that it lies in */
	uint64_t map_start;	/* of the mapping in the region */
	uint64_t map_length;
	int fd;			/* the caller's; the same file without O_DIRECT once that was called for */
	int buffered;		/* that one, or -1 */
	int direct;		/* the same file with O_DIRECT, or -1 */
	int seek;		/* of the region, for lseek() */
	bool can_be_direct;	/* a regular file or a disk */
	uint32_t depth;
	uint32_t flags;
	uint64_t block;
	int (*progress)(uint64_t done, uint64_t total, void *argument);
	void *argument;
	struct dvsm_io_result result;
	uint64_t data;		/* position that has memory ... */
	uint64_t data_end;	/* ... up to here */
	/* While io_uring is used. */
	struct io_uring ring;
	struct dvsm_io_slot *slots;
	bool can_be_fixed;	/* what is not registered yet */
	uint64_t piece;		/* of memory that is made, and registered */
	unsigned int at_once;	/* pieces that are made then */
	uint64_t made;		/* of the mapping, from its start */
	uint64_t fixed;		/* the same, registered as a buffer for each piece */
	uint64_t next;		/* position that was not asked for yet */
	uint32_t nr_in_flight;
	bool ending;		/* after an error: nothing is sent again, nor carried in the ordinary way */
};

/* Whether the kernel takes the region as fixed buffers. */
static bool dvsm_uring_takes(const struct dvsm_region *region)
{
	if (!(dvsm_region_features(region) & DVSM_FEATURE_FIXED_BUFFERS))
		return false;
	return region->backend != DVSM_BACKEND_DEVICE ||
	       region->flags & (DVSM_REGION_F_REGISTRABLE | DVSM_REGION_F_PINNED);
}

int dvsm_region_register_uring(const struct dvsm_region *region, struct io_uring *ring,
			       void *address, uint64_t length)
{
	uint64_t nr = length / DVSM_URING_BUFFER_SIZE + !!(length % DVSM_URING_BUFFER_SIZE), i;
	struct iovec buffers[UIO_MAXIOV];
	int error;

	if (!length || nr > UIO_MAXIOV)
		return dvsm_fail(EINVAL);
	if (!dvsm_uring_takes(region))
		return 0;
	for (i = 0; i < nr; i++) {
		uint64_t at = i * DVSM_URING_BUFFER_SIZE, rest = length - at;

		buffers[i].iov_base = (char *)address + at;
		buffers[i].iov_len = rest < DVSM_URING_BUFFER_SIZE ? rest : DVSM_URING_BUFFER_SIZE;
	}
	error = io_uring_register_buffers(ring, buffers, nr);
	return error ? dvsm_fail(error) : (int)nr;
}

/* Tells the caller; -ECANCELED if he has had enough. */
static int dvsm_io_done(struct dvsm_io *io, uint64_t bytes, bool direct)
{
	io->result.done += bytes;
	if (direct)
		io->result.direct += bytes;
	if (io->progress && io->progress(io->result.done, io->length, io->argument)) {
		io->progress = NULL;
		return -ECANCELED;
	}
	return 0;
}

/* The file ends at @at. */
static void dvsm_io_end_at(struct dvsm_io *io, uint64_t at)
{
	if (at < io->length)
		io->length = at;
}

/* The same file once more; -1 where that cannot be had. */
static int dvsm_io_open_again(const struct dvsm_io *io, int flags)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", io->fd);
	return dvsm_fd_raise(open(path, (io->store ? O_WRONLY : O_RDONLY) | flags | O_CLOEXEC));
}

/*
 * The caller's descriptor has answered -EINVAL, which one with O_DIRECT does to what is not aligned. It stays as it is, as others
 * may use it. Return: whether to try again with another one.
 */
static bool dvsm_io_open_buffered(struct dvsm_io *io)
{
	if (io->buffered >= 0 || !io->can_be_direct || !(fcntl(io->fd, F_GETFL) & O_DIRECT))
		return false;
	io->buffered = dvsm_io_open_again(io, 0);
	if (io->buffered < 0) {
		/* The answer stays that one. */
		errno = EINVAL;
		return false;
	}
	io->fd = io->buffered;
	return true;
}

/*
 * The end of the memory or of the hole that begins at @at, and which of the two it
 * is. Where the backend cannot tell, all is memory. Memory is remembered, because
 * finding its end costs by its length.
 */
static uint64_t dvsm_io_extent(struct dvsm_io *io, uint64_t at, uint64_t end, bool *hole)
{
	off_t found;

	*hole = false;
	if (at >= io->data && at < io->data_end)
		return io->data_end < end ? io->data_end : end;
	found = lseek(io->seek, (off_t)(io->offset + at), SEEK_DATA);
	*hole = found < 0 ? errno == ENXIO : (uint64_t)found > io->offset + at;
	if (*hole)
		return found < 0 || found - io->offset > end ? end : found - io->offset;
	found = lseek(io->seek, (off_t)(io->offset + at), SEEK_HOLE);
	io->data = at;
	io->data_end = found < 0 || (uint64_t)found <= io->offset + at ? io->length :
									 found - io->offset;
	return io->data_end < end ? io->data_end : end;
}

/* Makes [at, end) of the file zeroes: a hole where there can be one, else written ones. */
static int dvsm_io_zero(struct dvsm_io *io, uint64_t at, uint64_t end)
{
	static const char zeroes[DVSM_PAGE_SIZE] __attribute__((aligned(DVSM_PAGE_SIZE)));
	struct iovec pages[DVSM_IO_ZERO_PAGES];
	int nr, error;

	if (!fallocate(io->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		       (off_t)(io->file_offset + at), (off_t)(end - at)))
		return dvsm_io_done(io, end - at, false);
	while (at < end) {
		uint64_t rest = end - at;
		ssize_t done;

		for (nr = 0; nr < DVSM_IO_ZERO_PAGES && rest; nr++) {
			pages[nr].iov_base = (void *)zeroes;
			pages[nr].iov_len = rest < sizeof(zeroes) ? rest : sizeof(zeroes);
			rest -= pages[nr].iov_len;
		}
		do {
			done = pwritev(io->fd, pages, nr, (off_t)(io->file_offset + at));
		} while (done < 0 && (errno == EINTR ||
				      (errno == EINVAL && dvsm_io_open_buffered(io))));
		if (done <= 0)
			return done ? -errno : -EIO;
		error = dvsm_io_done(io, done, false);
		if (error)
			return error;
		at += done;
	}
	return 0;
}

static ssize_t dvsm_io_call(struct dvsm_io *io, int fd, uint64_t at, uint64_t length)
{
	off_t position = (off_t)(io->file_offset + at);
	ssize_t done;

	do {
		done = io->store ? pwrite(fd, io->memory + at, length, position)
				 : pread(fd, io->memory + at, length, position);
	} while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : done;
}

/* Carries [at, end) by system calls. */
static int dvsm_io_plain(struct dvsm_io *io, uint64_t at, uint64_t end, bool direct)
{
	while (at < end && at < io->length) {
		uint64_t step = end - at < io->block ? end - at : io->block, stop;
		ssize_t done;
		bool hole;
		int error;

		if (io->store) {
			stop = dvsm_io_extent(io, at, end, &hole);
			if (hole) {
				error = dvsm_io_zero(io, at, stop);
				if (error)
					return error;
				at = stop;
				continue;
			}
			if (step > stop - at)
				step = stop - at;
		}
		direct = direct && io->direct >= 0 && !(step % DVSM_PAGE_SIZE);
		done = dvsm_io_call(io, direct ? io->direct : io->fd, at, step);
		if (direct && done == -EINVAL) {
			direct = false;
			continue;
		}
		if (done == -EINVAL && dvsm_io_open_buffered(io))
			continue;
		if (done < 0)
			return (int)done;
		if (!done) {
			dvsm_io_end_at(io, at);
			return io->store ? -EIO : 0;
		}
		error = dvsm_io_done(io, done, direct);
		if (error)
			return error;
		at += done;
		if (done % DVSM_PAGE_SIZE)
			direct = false;
	}
	return 0;
}

/* A position of the range in the mapping. */
static uint64_t dvsm_io_in_map(const struct dvsm_io *io, uint64_t at)
{
	return io->memory - io->map + at;
}

static void dvsm_io_prepare(struct dvsm_io *io, struct dvsm_io_slot *slot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&io->ring);
	unsigned int length = slot->end - slot->at;
	uint64_t position = io->file_offset + slot->at, in_map = dvsm_io_in_map(io, slot->at);
	char *memory = io->memory + slot->at;

	if (io->store)
		io_uring_prep_write(sqe, io->direct, memory, length, position);
	else if (in_map < io->fixed)
		io_uring_prep_read_fixed(sqe, io->direct, memory, length, position,
					 (int)(in_map / io->piece));
	else
		io_uring_prep_read(sqe, io->direct, memory, length, position);
	io_uring_sqe_set_data(sqe, slot);
	slot->in_use = true;
	io->nr_in_flight++;
}

/* Finds the next block to ask for, at most to @end. 1, or 0 if there is none now, or -errno. */
static int dvsm_io_next(struct dvsm_io *io, uint64_t end, struct dvsm_io_slot *slot)
{
	uint64_t in_map, stop;
	bool hole;
	int error;

	while (io->next < end && io->next < io->length) {
		in_map = dvsm_io_in_map(io, io->next);
		if (in_map >= io->made)
			break;
		slot->at = io->next;
		slot->end = end - io->next < io->block ? end : io->next + io->block;
		/* A request lies in one fixed buffer. */
		stop = (in_map / io->piece + 1) * io->piece - in_map;
		if (slot->end - slot->at > stop)
			slot->end = slot->at + stop;
		if (io->store) {
			stop = dvsm_io_extent(io, slot->at, end, &hole);
			if (hole) {
				error = dvsm_io_zero(io, slot->at, stop);
				if (error)
					return error;
				io->next = stop;
				continue;
			}
			if (slot->end > stop)
				slot->end = stop;
		}
		io->next = slot->end;
		return 1;
	}
	return 0;
}

/* Handles one completion. Returns 0, or an error that ends it all. */
static int dvsm_io_complete(struct dvsm_io *io, struct dvsm_io_slot *slot, int answer)
{
	int error;

	slot->in_use = false;
	io->nr_in_flight--;
	if (io->ending) {
		if (answer > 0) {
			io->result.done += answer;
			io->result.direct += answer;
		}
		return 0;
	}
	if (answer == -EINTR || answer == -EAGAIN) {
		dvsm_io_prepare(io, slot);
		return 0;
	}
	/* Refused, for its alignment or by the file system: in the ordinary way then. */
	if (answer == -EINVAL || answer == -EOPNOTSUPP)
		return dvsm_io_plain(io, slot->at, slot->end, false);
	if (answer < 0)
		return answer;
	if (!answer && io->store)
		return -EIO;
	error = dvsm_io_done(io, answer, true);
	if (error)
		return error;
	slot->at += answer;
	if (slot->at == slot->end)
		return 0;
	if (!io->store && (!answer || answer % DVSM_PAGE_SIZE)) {
		dvsm_io_end_at(io, slot->at);
		return 0;
	}
	dvsm_io_prepare(io, slot);
	return 0;
}

/* Fills the ring up. */
static int dvsm_io_issue(struct dvsm_io *io, uint64_t end)
{
	uint32_t i;
	int found;

	for (i = 0; i < io->depth; i++)
		if (!io->slots[i].in_use) {
			found = dvsm_io_next(io, end, &io->slots[i]);
			if (found <= 0)
				return found;
			dvsm_io_prepare(io, &io->slots[i]);
		}
	return 0;
}

/* Sends what is prepared and waits for one completion at least. Returns the ring's own error. */
static int dvsm_io_wait(struct dvsm_io *io)
{
	int error;

	do {
		error = io_uring_submit_and_wait(&io->ring, 1);
	} while (error == -EINTR || error == -EAGAIN || error == -EBUSY);
	return error < 0 ? error : 0;
}

/* Takes in what has completed. Returns the first error. */
static int dvsm_io_reap(struct dvsm_io *io)
{
	struct io_uring_cqe *cqe;
	int error = 0;

	while (!io_uring_peek_cqe(&io->ring, &cqe)) {
		struct dvsm_io_slot *slot = io_uring_cqe_get_data(cqe);
		int answer = cqe->res, first;

		io_uring_cqe_seen(&io->ring, cqe);
		first = dvsm_io_complete(io, slot, answer);
		if (!error)
			error = first;
		io->ending = error;
	}
	return error;
}

/* Whether less than a piece is made of what is to be asked for. */
static bool dvsm_io_wants_memory(const struct dvsm_io *io, uint64_t end)
{
	uint64_t stop = dvsm_io_in_map(io, end < io->length ? end : io->length);

	return io->made < stop && io->made < dvsm_io_in_map(io, io->next) + io->piece;
}

/* Registers what was made last, @length bytes. */
static bool dvsm_io_register(struct dvsm_io *io, uint64_t length)
{
	struct iovec buffers[DVSM_IO_AT_ONCE_MAX];
	unsigned int nr = 0;
	uint64_t at;

	for (at = 0; at < length; at += buffers[nr++].iov_len) {
		buffers[nr].iov_base = io->map + io->made + at;
		buffers[nr].iov_len = length - at < io->piece ? length - at : io->piece;
	}
	return io_uring_register_buffers_update_tag(&io->ring, io->made / io->piece, buffers, NULL,
						    nr) == (int)nr;
}

/* Makes the next pieces, on several CPUs. A failure shows at the first request that needs the memory. */
static void dvsm_io_make(struct dvsm_io *io)
{
	uint64_t rest = io->map_length - io->made, length = io->at_once * io->piece;

	if (length > rest)
		length = rest;
	dvsm_region_populate(io->region, io->map_start + io->made, length, 0, NULL);
	io->can_be_fixed = io->can_be_fixed && dvsm_io_register(io, length);
	io->made += length;
	if (io->can_be_fixed)
		io->fixed = io->made;
	/* The disk has waited: what takes the time is memory, of which more CPUs make more. */
	if (io->nr_in_flight && io_uring_cq_ready(&io->ring) == io->nr_in_flight &&
	    io->at_once < DVSM_IO_AT_ONCE_MAX)
		io->at_once *= 2;
}

/* Carries [at, end), both aligned, past the page cache. */
static int dvsm_io_uring(struct dvsm_io *io, uint64_t at, uint64_t end)
{
	int error = 0;

	io->next = at;
	do {
		if (dvsm_io_wants_memory(io, end)) {
			io_uring_submit(&io->ring);
			dvsm_io_make(io);
		} else if (io->nr_in_flight) {
			error = dvsm_io_wait(io);
			if (!error)
				error = dvsm_io_reap(io);
		}
		if (!error)
			error = dvsm_io_issue(io, end);
	} while (!error && (io->nr_in_flight || dvsm_io_wants_memory(io, end)));
	io->result.how |= DVSM_IO_HOW_URING | (io->fixed ? DVSM_IO_HOW_FIXED : 0);
	/* The memory is the kernel's to write to until all are back. */
	io->ending = error;
	while (io->nr_in_flight && !dvsm_io_wait(io))
		dvsm_io_reap(io);
	return error;
}

/* Into pieces. What is stored is there, or must get no memory. */
static void dvsm_io_cut(struct dvsm_io *io)
{
	uint64_t least = io->map_length / DVSM_IO_PIECES_MAX + 1;

	io->at_once = 1;
	io->piece = dvsm_align_up(least, DVSM_IO_PIECE);
	if (io->piece > DVSM_URING_BUFFER_SIZE)
		io->piece = DVSM_URING_BUFFER_SIZE;
	if (io->store)
		io->made = io->map_length;
	io->can_be_fixed = !io->store && !(io->flags & DVSM_IO_F_UNREGISTERED) &&
			   dvsm_uring_takes(io->region) &&
			   !io_uring_register_buffers_sparse(&io->ring,
				(unsigned int)((io->map_length - 1) / io->piece + 1));
}

static bool dvsm_io_uring_init(struct dvsm_io *io)
{
	size_t size = io->depth * sizeof(*io->slots);

	if (io->direct < 0 || (io->flags & DVSM_IO_F_PLAIN))
		return false;
	io->slots = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (io->slots == MAP_FAILED)
		return false;
	if (io_uring_queue_init(io->depth, &io->ring, 0)) {
		munmap(io->slots, size);
		return false;
	}
	dvsm_io_cut(io);
	return true;
}

static void dvsm_io_uring_exit(struct dvsm_io *io)
{
	io_uring_queue_exit(&io->ring);
	munmap(io->slots, io->depth * sizeof(*io->slots));
}

/* Head, body, tail. */
static int dvsm_io_run(struct dvsm_io *io)
{
	uint64_t skew = io->file_offset % DVSM_PAGE_SIZE, total = io->length, first, last;
	int error;

	first = skew ? DVSM_PAGE_SIZE - skew : 0;
	if (io->direct < 0 || skew != io->offset % DVSM_PAGE_SIZE || first > total)
		first = total;
	last = total - (total - first) % DVSM_PAGE_SIZE;
	error = dvsm_io_plain(io, 0, first, false);
	if (error || first == last) {
		/* Nothing is aligned, or there is nothing. */
	} else if (dvsm_io_uring_init(io)) {
		error = dvsm_io_uring(io, first, last);
		dvsm_io_uring_exit(io);
	} else {
		error = dvsm_io_plain(io, first, last, true);
	}
	if (!error)
		error = dvsm_io_plain(io, last, total, false);
	return error;
}

/* Past the page cache. */
static int dvsm_io_open_direct(const struct dvsm_io *io)
{
	if ((io->flags & DVSM_IO_F_BUFFERED) || !io->can_be_direct)
		return -1;
	return dvsm_io_open_again(io, O_DIRECT);
}

/* What opening it once more would forget, and what write() at an offset does not heed. */
static int dvsm_io_check_file(const struct dvsm_io *io)
{
	int flags = fcntl(io->fd, F_GETFL);

	if (flags < 0 || (flags & O_PATH) ||
	    (flags & O_ACCMODE) == (io->store ? O_RDONLY : O_WRONLY))
		return -EBADF;
	return io->store && (flags & O_APPEND) ? -EINVAL : 0;
}

/*
 * Only ever longer: others may write behind the range at the same time. Its last byte is still to be written. A descriptor that
 * takes whole blocks alone takes no byte; memory for one lengthens, too, and leaves what is there.
 */
static int dvsm_io_lengthen(struct dvsm_io *io)
{
	off_t last = (off_t)(io->file_offset + io->length - 1);
	ssize_t done;

	do {
		done = pwrite(io->fd, "", 1, last);
	} while (done < 0 && (errno == EINTR || (errno == EINVAL && dvsm_io_open_buffered(io))));
	if (done >= 0)
		return done ? 0 : -EIO;
	if (errno != EINVAL)
		return -errno;
	if (!fallocate(io->fd, 0, last, 1))
		return 0;
	return errno == EOPNOTSUPP ? -EINVAL : -errno;
}

/*
 * A file that gets holes at its end is as long as one that gets zeroes. And what is
 * read ends before the file does, because a read past the page cache fills the last
 * block's rest with zeroes, and because memory is made for what is expected. A store
 * past a disk's end is write()'s to refuse.
 */
static int dvsm_io_measure(struct dvsm_io *io)
{
	uint64_t size;
	struct stat stat;

	if (fstat(io->fd, &stat))
		return -errno;
	size = stat.st_size;
	io->can_be_direct = S_ISREG(stat.st_mode) || S_ISBLK(stat.st_mode);
	if (S_ISBLK(stat.st_mode) ? io->store || ioctl(io->fd, BLKGETSIZE64, &size) :
				    !S_ISREG(stat.st_mode))
		return 0;
	if (size >= io->file_offset + io->length)
		return 0;
	if (io->store)
		return dvsm_io_lengthen(io);
	io->length = size > io->file_offset ? size - io->file_offset : 0;
	return 0;
}

static int dvsm_io_options_apply(struct dvsm_io *io, const struct dvsm_io_options *options)
{
	const uint32_t known = DVSM_IO_F_BUFFERED | DVSM_IO_F_PLAIN | DVSM_IO_F_UNREGISTERED;
	int error;

	io->depth = DVSM_IO_DEPTH;
	io->block = DVSM_IO_BLOCK;
	if (!options)
		return 0;
	error = dvsm_struct_check(options, options->size, sizeof(*options), sizeof(*options));
	if (error)
		return error;
	if (options->flags & ~known)
		return -EOPNOTSUPP;
	if (options->depth > DVSM_IO_DEPTH_MAX || options->block % DVSM_PAGE_SIZE ||
	    options->block > DVSM_URING_BUFFER_SIZE)
		return -EINVAL;
	io->flags = options->flags;
	if (options->depth)
		io->depth = options->depth;
	if (options->block)
		io->block = options->block;
	io->progress = options->progress;
	io->argument = options->argument;
	return 0;
}

/*
 * The region's own descriptor has a position that is the user's: it is used only where
 * no other one can be had, as without /proc.
 */
static int dvsm_io_open_seek(const struct dvsm_region *region)
{
	int fd = region->ops->reopen(region, 0);

	return fd < 0 ? region->fd : fd;
}

static int dvsm_io_open(struct dvsm_io *io)
{
	/* Whole pages of the backend: no part of a huge one of the pool can be mapped. */
	uint64_t start = dvsm_align_down(io->offset, io->region->page_size);
	uint64_t end = dvsm_align_up(io->offset + io->length, io->region->page_size);

	if (end > io->region->length)
		end = io->region->length;
	io->map_start = start;
	io->map_length = end - start;
	io->map = dvsm_region_map(io->region, start, io->map_length,
				  PROT_READ | (io->store ? 0 : PROT_WRITE), NULL);
	if (!io->map)
		return -errno;
	io->memory = io->map + (io->offset - start);
	io->direct = dvsm_io_open_direct(io);
	io->seek = io->store ? dvsm_io_open_seek(io->region) : io->region->fd;
	return 0;
}

static void dvsm_io_close(struct dvsm_io *io)
{
	if (io->direct >= 0)
		close(io->direct);
	if (io->seek != io->region->fd)
		close(io->seek);
	munmap(io->map, io->map_length);
}

static int dvsm_io_carry_file(struct dvsm_io *io)
{
	int error = dvsm_io_measure(io);

	if (error || !io->length)
		return error;
	error = dvsm_io_open(io);
	if (error)
		return error;
	error = dvsm_io_run(io);
	dvsm_io_close(io);
	return error;
}

static int dvsm_io_carry(struct dvsm_io *io, const struct dvsm_io_options *options)
{
	int error = dvsm_io_options_apply(io, options);

	if (error)
		return error;
	if (io->offset >= io->region->length || io->length > io->region->length - io->offset ||
	    io->file_offset > (uint64_t)INT64_MAX - io->region->length)
		return -EINVAL;
	if (!io->length)
		io->length = io->region->length - io->offset;
	error = dvsm_io_check_file(io);
	if (error)
		return error;
	io->buffered = -1;
	error = dvsm_io_carry_file(io);
	if (io->buffered >= 0)
		close(io->buffered);
	return error;
}

static int dvsm_io_answer(struct dvsm_io *io, const struct dvsm_io_options *options,
			  struct dvsm_io_result *result)
{
	/* The kernel would go on writing to the region for a thread that is gone. */
	int cancel = dvsm_cancel_off(), error = dvsm_io_carry(io, options);

	dvsm_cancel_on(cancel);
	if (result)
		*result = io->result;
	return dvsm_result(error);
}

int dvsm_region_load(const struct dvsm_region *region, uint64_t offset, int fd,
		     uint64_t file_offset, uint64_t length,
		     const struct dvsm_io_options *options, struct dvsm_io_result *result)
{
	struct dvsm_io io = {
		.region = region,
		.offset = offset,
		.fd = fd,
		.file_offset = file_offset,
		.length = length,
	};

	return dvsm_io_answer(&io, options, result);
}

int dvsm_region_store(const struct dvsm_region *region, uint64_t offset, int fd,
		      uint64_t file_offset, uint64_t length,
		      const struct dvsm_io_options *options, struct dvsm_io_result *result)
{
	struct dvsm_io io = {
		.region = region,
		.store = true,
		.offset = offset,
		.fd = fd,
		.file_offset = file_offset,
		.length = length,
	};

	return dvsm_io_answer(&io, options, result);
}
