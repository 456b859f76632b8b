/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* All of libdvsm. */
#ifndef DVSM_DVSM_H
#define DVSM_DVSM_H

#include <dvsm/base.h>
#include <dvsm/region.h>
#include <dvsm/place.h>
#include <dvsm/dma.h>
#include <dvsm/snapshot.h>
#include <dvsm/async.h>
#include <dvsm/name.h>
#include <dvsm/events.h>
#include <dvsm/watch.h>
#include <dvsm/heap.h>

#endif /* DVSM_DVSM_H */
