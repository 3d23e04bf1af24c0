/* SPDX-License-Identifier: MIT */
/* weir(1): which subcommand? */
#include "command/command.h"

#include "command/say.h"
#include "base/text.h"

static const char help[] =
    "Usage: weir COMMAND ...\n"
    "\n"
    "  weir run [OPTION...] [--] COMMAND [ARG...]   run a program under the shim\n"
    "  weir drain PID|NAME [--wait] [--timeout D]   drain the process tree that PID belongs to\n"
    "  weir restart PID|NAME [--timeout D] [--ready D] [--overlap] [-- COMMAND [ARG...]]\n"
    "                                               a new one in its place, and nobody is refused\n"
    "  weir close-idle PID|NAME [--wait]            close its idle connections, and no more\n"
    "  weir drain-all PID|NAME [--wait] [--timeout D]\n"
    "                                               close every connection of it\n"
    "  weir status [PID|NAME] [--json | --prometheus] [--watch]\n"
    "                                               what it is doing\n"
    "  weir list                                    every process tree, a line each\n"
    "  weir check COMMAND|PID                       will the shim work there?\n"
    "  weir --version\n"
    "\n"
    "NAME is a tree's systemd unit or its program, where that is one alone. `weir COMMAND --help`\n"
    "says more. Exit codes: 0 done, 1 failed, 2 usage, 3 clients lost something (--wait), 4 no\n"
    "such process or no shim in it, 5 not permitted.\n"
    "\n"
    "Examples:\n"
    "  weir run --stop-signals TERM your-daemon\n"
    "  weir drain nginx.service --wait\n";

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"run", command_run},       {"drain", command_act},       {"close-idle", command_act},
    {"drain-all", command_act}, {"status", command_status},   {"list", command_status},
    {"check", command_check},   {"restart", command_restart},
};

static int run(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (text_equal(name, "--version")) {
        puts("weir " WEIR_VERSION);
        return EXIT_DONE;
    }
    if (text_equal(name, "--help") || text_equal(name, "-h")) {
        fputs(help, stdout);
        return EXIT_DONE;
    }
    struct near near = {.wrong = name};
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        if (text_equal(name, commands[i].name))
            return commands[i].run(argc - 1, argv + 1);
        near_try(&near, commands[i].name);
    }
    if (argc > 1)
        say("\"%s\" is not a command%s (see: weir --help)", escaped(name), near_text(&near, ""));
    else
        fputs(help, stderr);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    finish(run(argc, argv));
}
