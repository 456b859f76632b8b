/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints: /sys/kernel/tracing/events/dvsm. Pages are counted in 4 KiB from
 * the region's start; a range is [start, end).
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM dvsm

#if !defined(DVSM_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define DVSM_TRACE_H

#include <linux/tracepoint.h>

TRACE_EVENT(dvsm_region_create,
	TP_PROTO(u64 id, u64 length, u32 flags),
	TP_ARGS(id, length, flags),
	TP_STRUCT__entry(
		__field(u64, id)
		__field(u64, length)
		__field(u32, flags)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->length = length;
		__entry->flags = flags;
	),
	TP_printk("region=%llu length=%llu flags=%#x", __entry->id, __entry->length,
		  __entry->flags)
);

TRACE_EVENT(dvsm_region_destroy,
	TP_PROTO(u64 id, unsigned long nr_peak),
	TP_ARGS(id, nr_peak),
	TP_STRUCT__entry(
		__field(u64, id)
		__field(unsigned long, nr_peak)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->nr_peak = nr_peak;
	),
	TP_printk("region=%llu peak_pages=%lu", __entry->id, __entry->nr_peak)
);

TRACE_EVENT(dvsm_fault,
	TP_PROTO(u64 id, unsigned long index, unsigned int flags, unsigned int order, int node,
		 int error),
	TP_ARGS(id, index, flags, order, node, error),
	TP_STRUCT__entry(
		__field(u64, id)
		__field(unsigned long, index)
		__field(unsigned int, flags)
		__field(unsigned int, order)
		__field(int, node)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->index = index;
		__entry->flags = flags;
		__entry->order = order;
		__entry->node = node;
		__entry->error = error;
	),
	TP_printk("region=%llu page=%lu flags=%#x order=%u node=%d error=%d", __entry->id,
		  __entry->index, __entry->flags, __entry->order, __entry->node, __entry->error)
);

DECLARE_EVENT_CLASS(dvsm_range,
	TP_PROTO(u64 id, unsigned long start, unsigned long end, unsigned long nr_pages, int error),
	TP_ARGS(id, start, end, nr_pages, error),
	TP_STRUCT__entry(
		__field(u64, id)
		__field(unsigned long, start)
		__field(unsigned long, end)
		__field(unsigned long, nr_pages)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->start = start;
		__entry->end = end;
		__entry->nr_pages = nr_pages;
		__entry->error = error;
	),
	TP_printk("region=%llu start=%lu end=%lu pages=%lu error=%d", __entry->id,
		  __entry->start, __entry->end, __entry->nr_pages, __entry->error)
);

DEFINE_EVENT(dvsm_range, dvsm_populate,
	TP_PROTO(u64 id, unsigned long start, unsigned long end, unsigned long nr_pages, int error),
	TP_ARGS(id, start, end, nr_pages, error)
);

DEFINE_EVENT(dvsm_range, dvsm_discard,
	TP_PROTO(u64 id, unsigned long start, unsigned long end, unsigned long nr_pages, int error),
	TP_ARGS(id, start, end, nr_pages, error)
);

DEFINE_EVENT(dvsm_range, dvsm_pin,
	TP_PROTO(u64 id, unsigned long start, unsigned long end, unsigned long nr_pages, int error),
	TP_ARGS(id, start, end, nr_pages, error)
);

DEFINE_EVENT(dvsm_range, dvsm_unpin,
	TP_PROTO(u64 id, unsigned long start, unsigned long end, unsigned long nr_pages, int error),
	TP_ARGS(id, start, end, nr_pages, error)
);

DEFINE_EVENT(dvsm_range, dvsm_migrate,
	TP_PROTO(u64 id, unsigned long start, unsigned long end, unsigned long nr_pages, int error),
	TP_ARGS(id, start, end, nr_pages, error)
);

TRACE_EVENT(dvsm_folio_move,
	TP_PROTO(u64 id, unsigned long index, unsigned int order, int from, int to, int mover),
	TP_ARGS(id, index, order, from, to, mover),
	TP_STRUCT__entry(
		__field(u64, id)
		__field(unsigned long, index)
		__field(unsigned int, order)
		__field(int, from)
		__field(int, to)
		__field(int, mover)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->index = index;
		__entry->order = order;
		__entry->from = from;
		__entry->to = to;
		__entry->mover = mover;
	),
	TP_printk("region=%llu page=%lu order=%u from=%d to=%d by=%s", __entry->id, __entry->index,
		  __entry->order, __entry->from, __entry->to,
		  __print_symbolic(__entry->mover,
				   { DVSM_MOVER_USER, "user" },
				   { DVSM_MOVER_BALANCING, "balancing" },
				   { DVSM_MOVER_COMMAND, "command" },
				   { DVSM_MOVER_OTHER, "other" }))
);

TRACE_DEFINE_ENUM(DVSM_BREAK_PART);
TRACE_DEFINE_ENUM(DVSM_BREAK_COPY);
TRACE_DEFINE_ENUM(DVSM_BREAK_KEEP);

TRACE_EVENT(dvsm_share_break,
	TP_PROTO(u64 id, unsigned long index, int node, int how),
	TP_ARGS(id, index, node, how),
	TP_STRUCT__entry(
		__field(u64, id)
		__field(unsigned long, index)
		__field(int, node)
		__field(int, how)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->index = index;
		__entry->node = node;
		__entry->how = how;
	),
	TP_printk("region=%llu chunk=%lu page=%lu node=%d %s", __entry->id,
		  __entry->index >> DVSM_CHUNK_ORDER, __entry->index, __entry->node,
		  __print_symbolic(__entry->how,
				   { DVSM_BREAK_PART, "part-copied" },
				   { DVSM_BREAK_COPY, "copied" },
				   { DVSM_BREAK_KEEP, "others-copied" }))
);

TRACE_EVENT(dvsm_snapshot_lost,
	TP_PROTO(u64 id, u64 chunk, int error),
	TP_ARGS(id, chunk, error),
	TP_STRUCT__entry(
		__field(u64, id)
		__field(u64, chunk)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->chunk = chunk;
		__entry->error = error;
	),
	TP_printk("region=%llu chunk=%llu error=%d", __entry->id, __entry->chunk, __entry->error)
);

TRACE_EVENT(dvsm_snapshot_take,
	TP_PROTO(u64 id, u64 snapshot, u64 first, u64 last, int error),
	TP_ARGS(id, snapshot, first, last, error),
	TP_STRUCT__entry(
		__field(u64, id)
		__field(u64, snapshot)
		__field(u64, first)
		__field(u64, last)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->snapshot = snapshot;
		__entry->first = first;
		__entry->last = last;
		__entry->error = error;
	),
	TP_printk("region=%llu snapshot=%llu chunks=%llu-%llu error=%d", __entry->id,
		  __entry->snapshot, __entry->first, __entry->last, __entry->error)
);

TRACE_EVENT(dvsm_snapshot_restore,
	TP_PROTO(u64 id, u64 snapshot, u64 length, int error),
	TP_ARGS(id, snapshot, length, error),
	TP_STRUCT__entry(
		__field(u64, id)
		__field(u64, snapshot)
		__field(u64, length)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->snapshot = snapshot;
		__entry->length = length;
		__entry->error = error;
	),
	TP_printk("region=%llu snapshot=%llu bytes=%llu error=%d", __entry->id,
		  __entry->snapshot, __entry->length, __entry->error)
);

TRACE_EVENT(dvsm_snapshot_merge,
	TP_PROTO(u64 id, u64 snapshot, u64 length, unsigned int nr_conflicts, int error),
	TP_ARGS(id, snapshot, length, nr_conflicts, error),
	TP_STRUCT__entry(
		__field(u64, id)
		__field(u64, snapshot)
		__field(u64, length)
		__field(unsigned int, nr_conflicts)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->snapshot = snapshot;
		__entry->length = length;
		__entry->nr_conflicts = nr_conflicts;
		__entry->error = error;
	),
	TP_printk("region=%llu snapshot=%llu bytes=%llu conflicts=%u error=%d", __entry->id,
		  __entry->snapshot, __entry->length, __entry->nr_conflicts, __entry->error)
);

#endif /* DVSM_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
