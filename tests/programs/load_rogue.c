// A server that misbehaves on order, for what `load` makes of it.
// SPDX-License-Identifier: MIT
//
// load_rogue PORT [AT-CONNECT]
//
// A request is a line of words (or GET /WORD/WORD... and its head): the first request on a
// connection gets what the first word says, the second the second, and so on; the last word stays.
//   answer          a whole answer
//   end             the request is read, then the connection ends cleanly
//   reset           the same with a reset
//   truncate        a part of an answer, then a clean end
//   truncate-reset  a part of an answer, and 50 ms later a reset
//   silence         nothing
//   then-end        a whole answer; 100 ms later the connection ends cleanly, whatever came
//   then-reset      the same with a reset
//   then-half       the same with the write half closed only; what comes is read, not answered
// AT-CONNECT
//   reset           each connection is reset when it is accepted
//   end             each is ended cleanly
//   refuse          the port is taken, and nobody listens
#include <arpa/inet.h>
#include <err.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONTENT "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n"
#define LINE "hello\n"

static void end(FILE *stream, bool by_reset)
{
    struct linger now = {.l_onoff = 1};
    if (by_reset)
        setsockopt(fileno(stream), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    fclose(stream);
}

static void say(FILE *stream, const char *text, size_t length)
{
    if (send(fileno(stream), text, length, MSG_NOSIGNAL) < 0)
        warn("send");
}

// Word number `index`, or the last one; the separators are blanks and slashes.
static const char *word_at(char *words, int index)
{
    const char *found = "answer";
    char *rest = words;
    for (char *word; index-- >= 0 && (word = strsep(&rest, " /\r\n"));)
        if (*word)
            found = word;
        else
            index++;
    return found;
}

// Does what one word says; false: the connection is over.
static bool obey(FILE *stream, const char *word, const char *answer)
{
    if (strcmp(word, "silence") == 0)
        return true;
    if (strncmp(word, "truncate", 8) == 0)
        say(stream, answer, strlen(answer) - 3);
    else if (strcmp(word, "end") && strcmp(word, "reset"))
        say(stream, answer, strlen(answer));
    if (strcmp(word, "answer") == 0)
        return true;
    if (strncmp(word, "then-", 5) == 0)
        usleep(100000);
    else if (strcmp(word, "truncate-reset") == 0)
        usleep(50000); // what was sent is read before the reset can take it away
    if (strcmp(word, "then-half") == 0) {
        shutdown(fileno(stream), SHUT_WR);
        while (getc(stream) != EOF)
            ;
    }
    const char *tail = strstr(word, "reset");
    end(stream, tail != NULL);
    return false;
}

static void *serve(void *fd)
{
    FILE *stream = fdopen((int)(intptr_t)fd, "r");
    char line[1024], rest[1024];
    for (int requests = 0; fgets(line, sizeof line, stream); requests++) {
        bool http = strncmp(line, "GET /", 5) == 0;
        char *words = http ? line + 5 : line;
        if (http) {
            words[strcspn(words, " ")] = '\0';
            while (fgets(rest, sizeof rest, stream) && strcmp(rest, "\r\n"))
                ;
        }
        if (!obey(stream, word_at(words, requests), http ? CONTENT : LINE))
            return NULL;
    }
    fclose(stream);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3)
        errx(2, "usage: load_rogue PORT [reset|end|refuse]");
    const char *at_connect = argc > 2 ? argv[2] : "";
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)atoi(argv[1]))};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0)
        err(1, "bind");
    if (strcmp(at_connect, "refuse") == 0)
        pause();
    if (listen(listener, 512) < 0)
        err(1, "listen");
    for (int fd; (fd = accept(listener, NULL, NULL)) >= 0;) {
        pthread_t thread;
        if (*at_connect) {
            usleep(20000); // so that the client has seen that it is connected
            end(fdopen(fd, "r"), strcmp(at_connect, "reset") == 0);
        } else if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0)
            pthread_detach(thread);
    }
    err(1, "accept");
}
