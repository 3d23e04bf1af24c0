#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""audit_compare.py TRUTH LOG SAID STATUS CODE KILLED [BEGAN]

Compares the truth of auditor.py with what was told of a drain: the log of the server, what
`weir drain --wait` said and `weir status --json` afterwards, and the exit code ("none" where the drain
came by a stop signal: SAID and STATUS are empty then). KILLED is "none", "worker" or "head"; BEGAN is when
the drain began. Prints each mismatch, and exits with 1 where there is one."""
import json
import re
import sys

truth_path, log_path, said_path, status_path, code, killed = sys.argv[1:7]
began = float(sys.argv[7]) if sys.argv[7:] else 0
with open(truth_path) as file:
    *truths, summary = [json.loads(line) for line in file]
with open(log_path, errors="replace") as file:
    log = re.findall(r"weir\[\d+\] .*\n", file.read())  # also behind half a line of the server's
with open(said_path) as file:
    said = file.read()
with open(status_path) as file:
    status = json.loads(file.read() or "null")
mismatches = []


def mismatch(what, about=()):
    mismatches.append(what + "".join("\n    " + json.dumps(one) for one in about))


def of(*verdicts):
    return {t["port"]: t for t in truths if t["verdict"] in verdicts}


lost, may_be = of("lost"), of("lost", "crossed", "told", "left")
# The end of a connection that is cut lies behind what the client has not read yet: who resets it then
# does not know that it was second.
may_be |= {t["port"]: t for t in truths if t["end"] == "has reset" and t["left_at"] > began}

# Whom the log names as having lost something: who was idle when it was cut off has not.
named, lines = set(), {}
for line in log:
    found = re.search(r": (?:forced|gave up on|closed) 127\.0\.0\.1:(\d+): (.*)", line)
    if found and (" in use" in line or re.search(r"[1-9]\d*(?: bytes)? (?:unsent|unread)|unread$|may have sent", line)):
        named.add(int(found[1]))
        lines[int(found[1])] = line.strip()
died = [int(n) for n in re.findall(r"in the middle of the drain: (\d+) conn", "".join(log))]
# Who was starved for so long that the drain ended without it: what it had counts as forced.
undone = [int(n) for n in re.findall(r"has not (?:begun|ended) its drain.*: its (\d+) conn", "".join(log))]
last = [re.search(r"drained in \S+: (\d+) closed clean, (\d+) forced", line) for line in log]
last = [found for found in last if found]
# What a process had cut before it died, and not named yet, is in the totals alone.
unnamed = max(0, int(last[-1][2]) - sum(died) - len(lines)) if died and last else 0
died = sum(died)

# Whose answer came whole, and was not acknowledged yet: a client's kernel takes up to 200 ms.
unacknowledged = {t["port"]: t for t in truths
                  if t["port"] in lines and not t["verdict"] and t["received"] and t["quiet_s"] < 0.3
                  and re.search(r": .*, [1-9]\d* bytes unsent(, 0 unread.*)?$", lines[t["port"]])}
may_be |= unacknowledged

# What was sent while its handshake was under way was dropped, and only the client knows whether it was.
unheard = {t["port"]: t for t in truths if "may have sent" in lines.get(t["port"], "") and not t["verdict"]}
may_be |= unheard

# In mode reply, which serves all but HTTP, one is in use until it has been quiet, and no program tells
# whether more was to come.
replies = summary.get("protocol", "http") != "http" or any("mode reply" in line for line in log)
quick = {t["port"]: t for t in truths
         if replies and t["port"] in lines and not t["verdict"] and t["received"] and t["quiet_s"] < 1.3
         and " in use" in lines[t["port"]]}
may_be |= quick

wrongly = sorted(named - may_be.keys())
if wrongly:
    mismatch("the log names as lost what is whole: " + "; ".join(lines[port] for port in wrongly),
             [t for t in truths if t["port"] in wrongly])
# Of a process that is killed nobody tells what it had not read: its kernel resets those. Nor, in mode reply,
# whether the answer that has just gone out was the last that it owed (several requests at once).
unknown = {port for port, t in lost.items() if killed == "worker" and port not in named and
           (t["end"] == "reset" or (replies and t["answered"] and t["quiet_s"] < 0.3))}
lost = {port: t for port, t in lost.items() if port not in unknown}
untold = sorted(lost.keys() - named)
if len(untold) > died + unnamed and killed != "head":
    mismatch("lost, and not named in the log", [lost[port] for port in untold])
if killed != "head" and not last:
    mismatch("the log has no last line")

if code != "none":
    if code == "0" and lost:
        mismatch("lost, and exit 0", lost.values())
    # Of a process that dies: in mode reply one is in use until it has been quiet; else a thread may have been
    # held between a write that was the last one and the note of it: a client that is woken runs first.
    just = 0.3 if replies else 0.05
    others = sum(not t["verdict"] and 0 < t["received"] and t["quiet_s"] < just for t in truths)
    if code == "3" and not may_be and not sum(undone) and not min(others, died):
        mismatch("exit 3, and nobody has lost anything")
    if code not in ("0", "3") and killed != "head" and not (code == "1" and undone):
        mismatch(f"exit {code}")
    if code == "0" and any(t["end"] == "open" for t in truths):
        mismatch("exit 0, and still open", [t for t in truths if t["end"] == "open"])
    if status and killed != "head":
        losses = status["losses"]
        most = len(may_be) + min(others, died) + sum(undone)
        if max(losses.values()) > most:
            mismatch(f"told more than {most} lost: {losses}")
        if sum(losses.values()) < len(lost):
            mismatch(f"told less than {len(lost)} lost: {losses}")
        found = re.search(r"(\d+) closed clean, (\d+) forced, (\d+) of them in use"
                          r"(?:; (\d+) with bytes unread, (\d+) unsent)?", said)
        if not found:
            mismatch("the command has said no totals")
        else:
            clean, forced, in_use, unread, unsent = (int(n or 0) for n in found.groups())
            if [in_use, unread, unsent] != list(losses.values()):
                mismatch(f"the command says {in_use}, {unread} and {unsent}, status {losses}")
            if last and (clean, forced) != (int(last[-1][1]), int(last[-1][2])):
                mismatch(f"the command says {clean} clean and {forced} forced, the log {last[-1][0]}")

if unknown:
    print(f"    {len(unknown)} lost what a process that was killed had not read, or not told in mode reply")
if unacknowledged:
    print(f"    {len(unacknowledged)} told lost by bytes that they had, and had not acknowledged yet")
if unheard:
    print(f"    {len(unheard)} told lost that may have sent while the listener heard nobody, and had not")
if quick:
    print(f"    {len(quick)} told in use that had their answers, and had not been quiet for as long as mode reply wants")
for one in mismatches:
    print("MISMATCH", one)
if mismatches:
    print("".join("    " + line for line in log), end="")
    print("   ", said.strip().replace("\n", "\n    "))
sys.exit(bool(mismatches))
