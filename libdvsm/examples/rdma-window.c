// SPDX-License-Identifier: GPL-2.0-only
/*
 * rdma-window - one-sided writes and reads between regions of two processes, on one
 * machine or on two.
 *
 *   rdma-window [-f FILE] server [PORT]
 *   rdma-window [-f FILE] client HOST [PORT]
 *
 * Each side makes a region that devices can use, or with -f maps a file as programs do that
 * know nothing of dvsm (/dev/dvsm), and registers it with the first RDMA device that it finds. The two tell each other address and key by TCP; from then on
 * the client alone acts: it writes its region into the server's, past the server's
 * CPU, and reads it back. The server looks only when it is told that it is done: in
 * its own mapping, and in a child that it forked after the registration, because
 * memory that is shared is the same after fork() for process and device.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <dvsm/dvsm.h>
#include <infiniband/verbs.h>

#define WINDOW	(16UL << 20)	/* bytes of each region */
#define HALF	(WINDOW / 2)

static void die(const char *what)
{
	fprintf(stderr, "rdma-window: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void need(int holds, const char *what)
{
	if (!holds)
		die(what);
}

/* What one side must know of the other. */
struct peer {
	union ibv_gid gid;
	uint64_t address;
	uint32_t key;
	uint32_t queue_pair;
};

struct window {
	uint64_t *words;
	struct ibv_context *device;
	struct ibv_pd *domain;
	struct ibv_mr *memory;
	struct ibv_cq *completions;
	struct ibv_qp *queue_pair;
	int gid_index;
	int sock;
};

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

/* Memory that devices can use: registered for long, not copied by a snapshot. */
static void window_open(struct window *window)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.flags = DVSM_REGION_F_REGISTRABLE,
		.label = "window",
	};
	struct dvsm_region *region = dvsm_region_create(WINDOW, &options);

	need(!!region, "dvsm_region_create");
	window->words = dvsm_region_map(region, 0, 0, PROT_READ | PROT_WRITE, NULL);
	need(!!window->words, "dvsm_region_map");
}

static void window_open_file(struct window *window, const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	need(fd >= 0, path);
	window->words = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	need(window->words != MAP_FAILED, "mmap");
	close(fd);
}

/* The last one is the newest kind of address: IPv4's, where there is one. */
static int last_gid(struct ibv_context *device)
{
	struct ibv_gid_entry entries[16];
	ssize_t nr = ibv_query_gid_table(device, entries, 16, 0);

	need(nr > 0, "ibv_query_gid_table");
	return entries[nr - 1].gid_index;
}

static void window_register(struct window *window)
{
	const int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
			   IBV_ACCESS_REMOTE_READ;
	struct ibv_device **devices = ibv_get_device_list(NULL);
	struct ibv_qp_init_attr init = {
		.cap = { .max_send_wr = 8, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1 },
		.qp_type = IBV_QPT_RC,
		.sq_sig_all = 1,
	};

	if (!devices || !devices[0]) {
		errno = ENODEV;
		die("no RDMA device (rdma link add rxe0 type rxe netdev INTERFACE)");
	}
	window->device = ibv_open_device(devices[0]);
	need(!!window->device, "ibv_open_device");
	window->gid_index = last_gid(window->device);
	window->domain = ibv_alloc_pd(window->device);
	need(!!window->domain, "ibv_alloc_pd");
	window->memory = ibv_reg_mr(window->domain, window->words, WINDOW, access);
	if (!window->memory) {
		char text[300];

		dvsm_memlock_explain(WINDOW, text, sizeof(text));
		fprintf(stderr, "rdma-window: %s\n", text);
		die("ibv_reg_mr");
	}
	window->completions = ibv_create_cq(window->device, 16, NULL, NULL, 0);
	need(!!window->completions, "ibv_create_cq");
	init.send_cq = window->completions;
	init.recv_cq = window->completions;
	window->queue_pair = ibv_create_qp(window->domain, &init);
	need(!!window->queue_pair, "ibv_create_qp");
}

static void say(struct window *window, const void *data, size_t size)
{
	need(send(window->sock, data, size, MSG_NOSIGNAL) == (ssize_t)size, "send");
}

static void hear(struct window *window, void *data, size_t size)
{
	need(recv(window->sock, data, size, MSG_WAITALL) == (ssize_t)size, "recv");
}

static void meet(struct window *window)
{
	char word = 0;

	say(window, &word, 1);
	hear(window, &word, 1);
}

static void window_connect(struct window *window, struct peer *peer)
{
	struct peer self = {
		.address = (uintptr_t)window->words,
		.key = window->memory->rkey,
		.queue_pair = window->queue_pair->qp_num,
	};
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = 1,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ,
	};

	need(!ibv_query_gid(window->device, 1, window->gid_index, &self.gid), "ibv_query_gid");
	say(window, &self, sizeof(self));
	hear(window, peer, sizeof(*peer));
	need(!ibv_modify_qp(window->queue_pair, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX |
			    IBV_QP_PORT | IBV_QP_ACCESS_FLAGS), "queue pair: init");
	attr = (struct ibv_qp_attr) {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = IBV_MTU_1024,
		.dest_qp_num = peer->queue_pair,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = 12,
		.ah_attr = {
			.is_global = 1,
			.port_num = 1,
			.grh = {
				.dgid = peer->gid,
				.sgid_index = window->gid_index,
				.hop_limit = 8,
			},
		},
	};
	need(!ibv_modify_qp(window->queue_pair, &attr, IBV_QP_STATE | IBV_QP_AV |
			    IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
			    IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER),
	     "queue pair: ready to receive");
	attr = (struct ibv_qp_attr) {
		.qp_state = IBV_QPS_RTS,
		.timeout = 21,
		.retry_cnt = 7,
		.rnr_retry = 7,
		.max_rd_atomic = 1,
	};
	need(!ibv_modify_qp(window->queue_pair, &attr, IBV_QP_STATE | IBV_QP_TIMEOUT |
			    IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
			    IBV_QP_MAX_QP_RD_ATOMIC), "queue pair: ready to send");
	meet(window);
}

/* One side acts: a half of its window to or from a half of the other's. */
static void transfer(struct window *window, const struct peer *peer, enum ibv_wr_opcode opcode,
		     uint64_t own, uint64_t others)
{
	struct ibv_sge piece = {
		.addr = (uintptr_t)window->words + own,
		.length = HALF,
		.lkey = window->memory->lkey,
	};
	struct ibv_send_wr request = {
		.sg_list = &piece,
		.num_sge = 1,
		.opcode = opcode,
		.wr.rdma = { .remote_addr = peer->address + others, .rkey = peer->key },
	}, *bad;
	struct ibv_wc completion;
	int nr;

	need(!ibv_post_send(window->queue_pair, &request, &bad), "ibv_post_send");
	do {
		nr = ibv_poll_cq(window->completions, 1, &completion);
	} while (!nr);
	if (nr < 0 || completion.status != IBV_WC_SUCCESS) {
		fprintf(stderr, "rdma-window: %s\n", ibv_wc_status_str(completion.status));
		exit(1);
	}
}

static int verdict(const char *who, size_t nr_wrong)
{
	printf("rdma-window %s: %s, %zu words wrong\n", who, nr_wrong ? "FAILED" : "passed",
	       nr_wrong);
	return nr_wrong ? 1 : 0;
}

static int client(struct window *window)
{
	size_t nr_wrong = 0;
	struct peer peer;

	fill(window->words, 3);
	window_connect(window, &peer);
	transfer(window, &peer, IBV_WR_RDMA_WRITE, 0, 0);
	meet(window);			/* the server's child looks, and writes */
	meet(window);
	transfer(window, &peer, IBV_WR_RDMA_READ, HALF, 0);
	nr_wrong += wrong(window->words + HALF / sizeof(uint64_t), 3);
	transfer(window, &peer, IBV_WR_RDMA_READ, HALF, HALF);
	nr_wrong += wrong(window->words + HALF / sizeof(uint64_t), 5);
	meet(window);
	return verdict("client", nr_wrong);
}

static int server(struct window *window)
{
	uint64_t *second = window->words + HALF / sizeof(uint64_t);
	struct peer peer;
	int status;
	pid_t pid;

	window_connect(window, &peer);
	/* No ibv_fork_init(): nothing of the region is copied by fork(). */
	fflush(stdout);
	pid = fork();
	need(pid >= 0, "fork");
	if (!pid) {
		meet(window);
		if (wrong(window->words, 3))
			_exit(1);
		fill(second, 5);
		_exit(0);
	}
	need(waitpid(pid, &status, 0) == pid, "waitpid");
	meet(window);
	meet(window);
	return verdict("server", wrong(window->words, 3) + wrong(second, 5) + !!status);
}

static int server_socket(const char *port)
{
	struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_family = AF_INET,
				  .ai_socktype = SOCK_STREAM }, *address;
	int listener, sock, on = 1;

	need(!getaddrinfo(NULL, port, &hints, &address), "getaddrinfo");
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	need(!bind(listener, address->ai_addr, address->ai_addrlen), "bind");
	need(!listen(listener, 1), "listen");
	sock = accept(listener, NULL, NULL);
	need(sock >= 0, "accept");
	close(listener);
	freeaddrinfo(address);
	return sock;
}

/* Waits for a server that is not there yet. */
static int client_socket(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *address;
	unsigned int tries;
	int sock;

	need(!getaddrinfo(host, port, &hints, &address), "getaddrinfo");
	for (tries = 0; tries < 600; tries++) {
		sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (!connect(sock, address->ai_addr, address->ai_addrlen)) {
			freeaddrinfo(address);
			return sock;
		}
		close(sock);
		usleep(100000);
	}
	die("connect");
	return -1;
}

static int usage(void)
{
	fprintf(stderr, "usage: rdma-window [-f FILE] server [PORT] | client HOST [PORT]\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct window window = {};
	const char *path = NULL, *port;
	int option, is_server;

	while ((option = getopt(argc, argv, "f:")) != -1) {
		if (option != 'f')
			return usage();
		path = optarg;
	}
	argc -= optind;
	argv += optind;
	is_server = argc >= 1 && !strcmp(argv[0], "server");
	if (!is_server && (argc < 2 || strcmp(argv[0], "client")))
		return usage();
	port = argc > 2 - is_server ? argv[2 - is_server] : "18515";

	if (path)
		window_open_file(&window, path);
	else
		window_open(&window);
	window_register(&window);
	if (is_server) {
		window.sock = server_socket(port);
		return server(&window);
	}
	window.sock = client_socket(argv[1], port);
	return client(&window);
}
