// SPDX-License-Identifier: GPL-2.0-only
/*
 * ucx-put - puts into and gets from a dvsm heap of another process, by UCX.
 *
 *   ucx-put server [PORT]
 *   ucx-put client HOST [PORT]
 *
 * The server makes a heap in a region that devices can use, takes a block of it and
 * has UCX map that block. The two tell each other addresses and keys by TCP; from then
 * on the client alone acts: it puts a block of its own heap into the server's and gets
 * it back. Which way the data goes is UCX's choice (UCX_TLS): RDMA, shared memory, TCP.
 */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ucp/api/ucp.h>
#include <dvsm/dvsm.h>

#define HEAP	(64UL << 20)	/* bytes */
#define BLOCK	(8UL << 20)	/* of them in one block */
#define HALF	(BLOCK / 2)

struct side {
	struct dvsm_heap *heap;
	uint64_t *block;
	ucp_context_h context;
	ucp_worker_h worker;
	ucp_mem_h memory;
	int sock;
};

/* What the client must know of the server; the server's address and key follow. */
struct peer {
	uint64_t block;
	uint64_t address_size;
	uint64_t key_size;
};

__attribute__((noreturn)) static void die(const char *what, const char *why)
{
	fprintf(stderr, "ucx-put: %s: %s\n", what, why);
	exit(1);
}

static void need(int holds, const char *what)
{
	if (!holds)
		die(what, strerror(errno));
}

static void need_ucx(ucs_status_t status, const char *what)
{
	if (status != UCS_OK)
		die(what, ucs_status_string(status));
}

static void fill(uint64_t *words, uint64_t seed)
{
	size_t i;

	for (i = 0; i < HALF / sizeof(*words); i++)
		words[i] = (i + 1) * seed;
}

static size_t wrong(const uint64_t *words, uint64_t seed)
{
	size_t i, nr = 0;

	for (i = 0; i < HALF / sizeof(*words); i++)
		nr += words[i] != (i + 1) * seed;
	return nr;
}

/* A block of a heap in a region that devices can use. */
static void side_open_heap(struct side *side)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.flags = DVSM_REGION_F_REGISTRABLE,
		.label = "ucx-put",
	};
	struct dvsm_region *region = dvsm_region_create(HEAP, &options);

	need(!!region, "dvsm_region_create");
	side->heap = dvsm_heap_create_on(region, NULL);
	need(!!side->heap, "dvsm_heap_create_on");
	side->block = dvsm_heap_malloc(side->heap, BLOCK);
	need(!!side->block, "dvsm_heap_malloc");
	memset(side->block, 0, BLOCK);
}

static void side_open_ucx(struct side *side)
{
	ucp_params_t params = {
		.field_mask = UCP_PARAM_FIELD_FEATURES,
		.features = UCP_FEATURE_RMA,
	};
	ucp_worker_params_t worker = {
		.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
		.thread_mode = UCS_THREAD_MODE_SINGLE,
	};
	ucp_mem_map_params_t map = {
		.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH,
		.address = side->block,
		.length = BLOCK,
	};

	need_ucx(ucp_init(&params, NULL, &side->context), "ucp_init");
	need_ucx(ucp_worker_create(side->context, &worker, &side->worker), "ucp_worker_create");
	need_ucx(ucp_mem_map(side->context, &map, &side->memory), "ucp_mem_map");
}

static void side_close(struct side *side)
{
	need_ucx(ucp_mem_unmap(side->context, side->memory), "ucp_mem_unmap");
	ucp_worker_destroy(side->worker);
	ucp_cleanup(side->context);
	dvsm_heap_free(side->heap, side->block);
	dvsm_heap_destroy(side->heap);
}

static void say(const struct side *side, const void *data, size_t size)
{
	need(send(side->sock, data, size, MSG_NOSIGNAL) == (ssize_t)size, "send");
}

static void hear(const struct side *side, void *data, size_t size)
{
	need(recv(side->sock, data, size, MSG_WAITALL) == (ssize_t)size, "recv");
}

static int run_server(struct side *side)
{
	struct peer self = { .block = (uintptr_t)side->block };
	struct pollfd client = { .fd = side->sock, .events = POLLIN };
	ucp_address_t *address;
	size_t address_size, key_size, nr_wrong;
	void *key;
	char word;

	fill(side->block + HALF / sizeof(uint64_t), 3);
	need_ucx(ucp_worker_get_address(side->worker, &address, &address_size), "address");
	need_ucx(ucp_rkey_pack(side->context, side->memory, &key, &key_size), "key");
	self.address_size = address_size;
	self.key_size = key_size;
	say(side, &self, sizeof(self));
	say(side, address, address_size);
	say(side, key, key_size);
	/* Ways without hardware need the server's hands. */
	while (!poll(&client, 1, 0))
		ucp_worker_progress(side->worker);
	hear(side, &word, 1);
	nr_wrong = wrong(side->block, 5);
	say(side, &word, 1);
	printf("ucx-put: server: %zu words of the heap on %s are wrong\n", nr_wrong,
	       dvsm_backend_name(dvsm_region_backend(dvsm_heap_region(side->heap))));
	ucp_rkey_buffer_release(key);
	ucp_worker_release_address(side->worker, address);
	return nr_wrong ? 1 : 0;
}

/* Until @request, which may be complete already, has ended. */
static void finish(const struct side *side, void *request, const char *what)
{
	ucs_status_t status = UCS_PTR_IS_PTR(request) ? UCS_INPROGRESS : UCS_PTR_STATUS(request);

	while (status == UCS_INPROGRESS) {
		ucp_worker_progress(side->worker);
		status = ucp_request_check_status(request);
	}
	if (UCS_PTR_IS_PTR(request))
		ucp_request_free(request);
	need_ucx(status, what);
}

static int run_client(struct side *side)
{
	static const ucp_request_param_t usual;
	uint64_t *half = side->block + HALF / sizeof(uint64_t);
	ucp_ep_params_t params = { .field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS };
	void *address, *key;
	struct peer peer;
	size_t nr_wrong;
	ucp_rkey_h rkey;
	ucp_ep_h ep;
	char word = 0;

	hear(side, &peer, sizeof(peer));
	address = malloc(peer.address_size);
	key = malloc(peer.key_size);
	need(address && key, "malloc");
	hear(side, address, peer.address_size);
	hear(side, key, peer.key_size);
	params.address = address;
	need_ucx(ucp_ep_create(side->worker, &params, &ep), "ucp_ep_create");
	need_ucx(ucp_ep_rkey_unpack(ep, key, &rkey), "ucp_ep_rkey_unpack");

	fill(side->block, 5);
	finish(side, ucp_put_nbx(ep, side->block, HALF, peer.block, rkey, &usual), "put");
	finish(side, ucp_get_nbx(ep, half, HALF, peer.block + HALF, rkey, &usual), "get");
	finish(side, ucp_ep_flush_nbx(ep, &usual), "flush");
	nr_wrong = wrong(half, 3);
	memset(side->block, 0, HALF);
	finish(side, ucp_get_nbx(ep, side->block, HALF, peer.block, rkey, &usual), "get");
	nr_wrong += wrong(side->block, 5);

	ucp_rkey_destroy(rkey);
	finish(side, ucp_ep_close_nbx(ep, &usual), "close");
	say(side, &word, 1);
	hear(side, &word, 1);
	free(key);
	free(address);
	printf("ucx-put: client: %zu words are wrong\n", nr_wrong);
	return nr_wrong ? 1 : 0;
}

static int listen_and_accept(const char *port)
{
	struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM }, *at;
	int listening, one = 1, sock;

	hints.ai_family = AF_INET;
	need(!getaddrinfo(NULL, port, &hints, &at), "getaddrinfo");
	listening = socket(at->ai_family, at->ai_socktype, 0);
	setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	need(!bind(listening, at->ai_addr, at->ai_addrlen) && !listen(listening, 1), "listen");
	sock = accept(listening, NULL, NULL);
	need(sock >= 0, "accept");
	close(listening);
	freeaddrinfo(at);
	return sock;
}

/* Tries for 60 s: the server may not be there yet. */
static int connect_to(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *at;
	int sock, tries;

	need(!getaddrinfo(host, port, &hints, &at), "getaddrinfo");
	for (tries = 0; tries < 300; tries++) {
		sock = socket(at->ai_family, at->ai_socktype, 0);
		if (!connect(sock, at->ai_addr, at->ai_addrlen)) {
			freeaddrinfo(at);
			return sock;
		}
		close(sock);
		usleep(200000);
	}
	die("connect", strerror(errno));
}

int main(int argc, char **argv)
{
	int server = argc > 1 && !strcmp(argv[1], "server"), status;
	int client = argc > 2 && !strcmp(argv[1], "client");
	const char *port = argc > 2 + client ? argv[2 + client] : "18516";
	struct side side;

	if (!server && !client) {
		fprintf(stderr, "usage: ucx-put server [PORT] | client HOST [PORT]\n");
		return 2;
	}
	side_open_heap(&side);
	side_open_ucx(&side);
	side.sock = server ? listen_and_accept(port) : connect_to(argv[2], port);
	status = server ? run_server(&side) : run_client(&side);
	side_close(&side);
	return status;
}
