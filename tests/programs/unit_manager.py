#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""unit_manager.py UNIT [VAR=value...]: does with a service what systemd does with it at a start and at
a stop (systemd.service(5), systemd.kill(5), systemd.exec(5)). HUP restarts it; TERM stops it, and ends.
It is pid 1 of a pid namespace, which stands for the control group, and has mounts of its own.

The unit's file and its drop-ins are found and merged as systemd does it. Of [Service] it knows Type=
(simple, exec, forking, notify), PIDFile=, Exec...=, Environment=, EnvironmentFile=, User=, Group=, UMask=,
RuntimeDirectory=, KillMode=, KillSignal=, TimeoutStopSec=, ProtectSystem=, ReadWritePaths=, ExecPaths= and
NoExecPaths=. Each VAR is set before the unit's own, as by `systemctl set-environment`.

Left out: what else makes a sandbox (system call filters, capabilities, PrivateTmp=), limits, Restart=,
reloads, dependencies, and EXTEND_TIMEOUT_USEC: who needs that is killed here.

It says "started: PID" and "stopped", and where it comes to that "failed: COMMAND", "timed out: WHAT" and
"killed: PID NAME" (also of what is left when the main process has ended)."""
import collections
import ctypes
import glob
import grp
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import sys
import time

PLACES = [f"{root}/systemd/system" for root in ("/etc", "/run", "/usr/local/lib", "/lib")]
LISTS = re.compile("Environment(File)?|Exec(Start|Stop)(Pre|Post)?|(ReadWrite|NoExec|Exec)Paths")
NOTIFY = "/run/systemd/notify"
READ_ONLY, NO_EXEC = 1, 8  # mount_setattr(2)
FOR_EVER = 10**9
libc = ctypes.CDLL(None, use_errno=True)


def say(*words):
    print(*words, flush=True)


def files_of(name):
    """The unit's file and its drop-ins, in the order of their names; of two with one name the first counts."""
    names = dict.fromkeys([name, re.sub("@.*[.]", "@.", name)])
    places = [f"{place}/{n}" for n in names for place in PLACES]
    drop_ins = {}
    for path in (path for place in places for path in glob.glob(f"{place}.d/*.conf")):
        drop_ins.setdefault(os.path.basename(path), path)
    return [next(filter(os.path.exists, places)), *(drop_ins[name] for name in sorted(drop_ins))]


def read_service(files):
    """An assignment replaces the one before, or is added to a list; an empty one clears it."""
    service = collections.defaultdict(list)
    for file in files:
        text = re.sub(r"^[ \t]*[#;].*\n", "", open(file).read(), flags=re.M).replace("\\\n", " ")
        section = ""
        for line in filter(None, map(str.strip, text.split("\n"))):
            if line.startswith("["):
                section = line
            elif section == "[Service]":
                key, value = map(str.strip, line.split("=", 1))
                key = key.replace("Directories", "Paths")  # the old name of ReadWritePaths=
                if not value or not LISTS.fullmatch(key):
                    service[key] = []
                service[key] += [value] if value else []
    return service


def seconds(text):
    """systemd.time(7); 0 is for ever."""
    units = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}
    return sum(float(n) * units[unit] for n, unit in re.findall("([0-9.]+) *([a-z]*)", text)) or FOR_EVER


def is_alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def members():
    """Who is in the control group: everybody here."""
    return {int(pid) for pid in os.listdir("/proc") if pid.isdigit() and pid != "1" and is_alive(pid)}


def send(number, pids):
    for pid in pids:
        try:
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


def call(name, *arguments):
    if getattr(libc, name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}{arguments}")


def confine(rules):
    """Of each (path, bit, denied) the path becomes a mount; one inside of another has its turn later."""
    new_mounts, private, bind_all, all_below, mount_setattr = 0x20000, 0x44000, 0x5000, 0x8000, 442
    call("unshare", new_mounts)
    call("mount", None, b"/", None, private, None)
    for path in sorted({path for path, _, _ in rules} - {"/"}):
        call("mount", path.encode(), path.encode(), None, bind_all, None)
    for path, bit, denied in sorted(rules):
        change = (ctypes.c_uint64 * 4)(bit if denied else 0, 0 if denied else bit)
        call("syscall", mount_setattr, -100, path.encode(), all_below, change, ctypes.sizeof(change))


class Service:
    def __init__(self, name, environment):
        self.name = name
        self.given = {"PATH": "/usr/sbin:/usr/bin", "NOTIFY_SOCKET": NOTIFY, **environment}
        self.ended = {}  # the wait status of each pid
        os.makedirs(os.path.dirname(NOTIFY), exist_ok=True)
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.notified.bind(NOTIFY)
        os.chmod(NOTIFY, 0o777)

    # ---- what the unit says

    def all(self, key):
        """A list's values, with their specifiers put in (systemd.unit(5))."""
        prefix, _, instance = self.name.removesuffix(".service").partition("@")
        path = instance.replace("-", "/")
        means = {"%": "%", "n": self.name, "p": prefix, "i": instance, "I": path, "t": "/run"}
        return [re.sub("%(.)", lambda letter: means[letter[1]], value) for value in self.unit[key]]

    def one(self, key, default=""):
        return (self.all(key) or [default])[-1]

    def paths(self, key):
        """One with a `-` may be missing."""
        words = " ".join(self.all(key)).split()
        paths = [word.lstrip("-") for word in words if word[0] != "-" or os.path.exists(word[1:])]
        return [*map(os.path.realpath, paths)]

    def rules(self):
        system = {"": [], "true": ["/usr", "/boot"], "full": ["/usr", "/boot", "/etc"], "strict": ["/"]}
        protected = system[self.one("ProtectSystem")]
        spared = ["/dev", "/proc", "/sys"] if protected == ["/"] else []
        groups = ((READ_ONLY, True, protected), (READ_ONLY, False, spared + self.paths("ReadWritePaths")),
                  (NO_EXEC, True, self.paths("NoExecPaths")), (NO_EXEC, False, self.paths("ExecPaths")))
        return [(path, bit, denied) for bit, denied, paths in groups for path in paths]

    def environment(self):
        result = {**self.given, **({"MAINPID": str(self.main)} if self.main else {})}
        for line in self.all("Environment"):
            result.update(word.split("=", 1) for word in shlex.split(line))
        for file in self.paths("EnvironmentFile"):
            lines = re.findall(r"^\s*(\w+)=(.*)", open(file).read(), flags=re.M)
            result.update((name, "".join(shlex.split(value))) for name, value in lines)
        return result

    # ---- its commands

    def words(self, line, environment):
        """${VAR} is put in, and $VAR, a word by itself, becomes as many as it has."""
        for word in shlex.split(line):
            if re.fullmatch(r"\$\w+", word):
                yield from shlex.split(environment.get(word[1:], ""))
            else:
                yield re.sub(r"\$(\$|\{(\w+)\})", lambda it: environment.get(it[2], "") if it[2] else "$", word)

    def spawn(self, command):
        """Returns its pid, and whether its failure matters."""
        flags, line = re.match("([-@:+!]*)(.*)", command).groups()
        environment = self.environment()
        path, *argv = shlex.split(line) if ":" in flags else self.words(line, environment)
        pid = os.fork()
        if pid:
            return pid, "-" not in flags
        try:
            os.setsid()
            os.umask(int(self.one("UMask", "022"), 8))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python's own; PIPE is ignored by systemd too
            if self.rules() and "+" not in flags:
                confine(self.rules())
            if self.one("User") and not {"+", "!"} & {*flags}:
                user = pwd.getpwnam(self.one("User"))
                os.initgroups(user.pw_name, user.pw_gid)
                os.setgid(grp.getgrnam(self.one("Group")).gr_gid if self.one("Group") else user.pw_gid)
                os.setuid(user.pw_uid)
            os.execve(path, argv if "@" in flags else [path, *argv], environment)
        except Exception as error:
            say(f"{command}: {error}")
        os._exit(203)

    def until(self, done, patience):
        """Reaps, and hears what the service tells, until it is done (True) or the time is over."""
        end = time.monotonic() + patience
        while True:
            try:
                while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                    self.ended[ended[0]] = ended[1]
            except ChildProcessError:
                pass
            try:
                while told := self.notified.recv(4096):
                    self.is_ready |= b"READY=1" in told
            except BlockingIOError:
                pass
            if done() or time.monotonic() > end:
                return bool(done())
            time.sleep(0.01)

    def run(self, key, patience):
        """A list's commands, one after the other, up to one that fails. One that did not end is returned."""
        for command in self.all(key):
            pid, matters = self.spawn(command)
            if not self.until(lambda: pid in self.ended, patience):
                say("timed out:", command)
                return pid
            if self.ended[pid] and matters:
                say("failed:", command)
                break
        return 0

    # ---- start and stop

    def start(self):
        self.unit = read_service(files_of(self.name))
        self.main, self.is_ready = 0, False
        self.ended.clear()
        for path in (f"/run/{name}" for name in self.one("RuntimeDirectory").split()):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, int(self.one("RuntimeDirectoryMode", "755"), 8))
            shutil.chown(path, self.one("User") or None, self.one("Group") or None)
        self.run("ExecStartPre", FOR_EVER)
        if self.one("Type") == "forking":
            self.run("ExecStart", FOR_EVER)
            self.until(self.find_main, FOR_EVER)
        else:
            self.main, _ = self.spawn(self.one("ExecStart"))
            self.until(lambda: self.is_ready or self.one("Type") != "notify", FOR_EVER)
        self.run("ExecStartPost", FOR_EVER)
        say("started:", self.main)

    def find_main(self):
        """By its file, or the only one that has been left to pid 1."""
        try:
            self.main = int(open(self.one("PIDFile") or "/proc/1/task/1/children").read())
        except (OSError, ValueError):
            return False
        return is_alive(self.main)

    def end(self, pids, awaited):
        number = signal.Signals["SIG" + self.one("KillSignal", "TERM").removeprefix("SIG")]
        send(number, pids)
        in_time = self.until(lambda: not awaited & members(), seconds(self.one("TimeoutStopSec", "90")))
        if not in_time:
            say("timed out:", number.name)
        return in_time

    def stop(self):
        """As service_enter_signal() of systemd's service.c does it."""
        unfinished = self.run("ExecStop", seconds(self.one("TimeoutStopSec", "90")))
        main, everybody = {self.main, unfinished} & members(), members()
        mode = self.one("KillMode", "control-group")
        if mode != "control-group":
            self.end(main, main)
        elif self.end(everybody, main or everybody):
            self.end(members(), members())
        left = main & members() if mode == "process" else members()
        for pid in left:
            say("killed:", pid, open(f"/proc/{pid}/comm").read().strip())
        send(signal.SIGKILL, left)
        self.until(lambda: not left & members(), FOR_EVER)
        self.run("ExecStopPost", FOR_EVER)
        for path in filter(os.path.exists, self.all("PIDFile")):
            os.unlink(path)
        for name in self.one("RuntimeDirectory").split():
            shutil.rmtree(f"/run/{name}")
        say("stopped")


service = Service(sys.argv[1], dict(word.split("=", 1) for word in sys.argv[2:]))
wishes = []
for wish in (signal.SIGHUP, signal.SIGTERM):
    signal.signal(wish, lambda number, _: wishes.append(number))
service.start()
while True:
    service.until(lambda: wishes, FOR_EVER)
    service.stop()
    if wishes.pop(0) == signal.SIGTERM:
        sys.exit()
    service.start()
