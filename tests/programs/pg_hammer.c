/* pg_hammer: processes whose threads accept, read, answer and close beside each other, and a model
 * of what the state page should say of them in the end.
 * SPDX-License-Identifier: MIT
 *
 *   pg_hammer PROCESSES THREADS ROUNDS PORT
 *
 * Prints "process PID tracked T in_use U accepted A closed C" for each, and the same as "sums",
 * then waits. Under WEIR_MODE=automatic a connection is in use from its first read.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../shim/weir.h" /* weak: null without the shim */

#define PROCESSES_MOST 64
#define KEPT_MOST 8 /* of a thread, when it ends */

struct model {
    _Atomic int pid;
    _Atomic unsigned tracked, in_use, accepted, closed, threads_done;
};

static struct model *model, *mine;
static pthread_barrier_t rounds_over;
static int listener, threads, rounds;
static struct sockaddr_in address;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Each thread makes as many connections as it accepts, not necessarily its own. */
static int connect_one(void)
{
    int client = socket(AF_INET, SOCK_STREAM, 0);
    if (client < 0 || connect(client, (struct sockaddr *)&address, sizeof address) < 0 ||
        write(client, "x", 1) != 1)
        fail("pg_hammer: connect");
    return client;
}

/* Back and forth, beside the other threads, and then as it is to be. */
static void mark(int fd, int in_use)
{
    for (int i = 0; weir_mark_in_use && i < 10000; i++) {
        weir_mark_in_use(fd);
        weir_mark_idle(fd);
    }
    if (weir_mark_in_use && in_use)
        weir_mark_in_use(fd);
}

static void *hammer(void *argument)
{
    unsigned seed = (unsigned)(size_t)argument * 7919 + (unsigned)getpid();
    int kept = 0, kept_fd[KEPT_MOST], kept_reads[KEPT_MOST];
    char byte;
    for (int i = 0; i < rounds; i++) {
        int client = connect_one(), fd = accept(listener, NULL, NULL);
        if (fd < 0)
            fail("pg_hammer: accept");
        mine->accepted++;
        int reads = rand_r(&seed) % 2;
        if (reads && read(fd, &byte, 1) == 1 && write(fd, &byte, 1) != 1)
            fail("pg_hammer: write");
        close(client);
        if (kept < KEPT_MOST && (rand_r(&seed) % 16 == 0 || rounds - i <= KEPT_MOST - kept)) {
            kept_fd[kept] = fd; /* held to the end */
            kept_reads[kept++] = reads;
            mine->tracked++;
            mine->in_use += (unsigned)reads;
            continue;
        }
        close(fd);
        mine->closed++;
    }
    pthread_barrier_wait(&rounds_over);
    for (int i = 0; i < kept; i++)
        mark(kept_fd[i], kept_reads[i]);
    mine->threads_done++;
    return NULL;
}

static void be_process(void)
{
    pthread_t thread;
    mine->pid = getpid();
    pthread_barrier_init(&rounds_over, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&thread, NULL, hammer, (void *)(size_t)i) != 0)
            fail("pg_hammer: pthread_create");
    for (;;)
        pause();
}

static void print_model(const char *what, const struct model *of)
{
    printf("%s tracked %u in_use %u accepted %u closed %u\n", what, of->tracked, of->in_use,
           of->accepted, of->closed);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: pg_hammer PROCESSES THREADS ROUNDS PORT\n");
        return 2;
    }
    int processes = atoi(argv[1]), yes = 1;
    threads = atoi(argv[2]);
    rounds = atoi(argv[3]);
    if (processes > PROCESSES_MOST)
        processes = PROCESSES_MOST;
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    model = mmap(NULL, sizeof *model * PROCESSES_MOST, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    address = (struct sockaddr_in){.sin_family = AF_INET,
                                   .sin_port = htons(atoi(argv[4])),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 1024) < 0)
        fail(argv[4]);

    struct model sums = {0};
    for (int i = 0; i < processes; i++) {
        mine = &model[i];
        pid_t pid = fork();
        if (pid == 0)
            be_process();
    }
    for (int i = 0; i < processes; i++) {
        char name[40];
        while (model[i].threads_done < (unsigned)threads)
            usleep(2000);
        snprintf(name, sizeof name, "process %d", (int)model[i].pid);
        print_model(name, &model[i]);
        sums.tracked += model[i].tracked;
        sums.in_use += model[i].in_use;
        sums.accepted += model[i].accepted;
        sums.closed += model[i].closed;
    }
    print_model("sums", &sums);
    for (;;)
        pause();
}
