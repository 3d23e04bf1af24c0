#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A container as its files say, without a container engine.

  container.py show CONTAINERFILE [DEPLOYMENT]       what they say, as JSON
  container.py run ROOT CONTAINERFILE [DEPLOYMENT]   becomes the container's first process. It is pid 1
                                                     of a pid and a mount namespace already: the image
                                                     is this machine, with the files that COPY names.
                                                     ROOT is an empty directory.
"""
import json
import os
import shlex
import shutil
import subprocess
import sys

import yaml

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# What an engine gives to every container.
BY_THE_ENGINE = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/"}


def read_image(path):
    image = {"env": {}, "copies": [], "comments": ""}
    text = open(path).read()
    image["comments"] = "\n".join(line for line in text.split("\n") if line.startswith("#"))
    lines = "\n".join(line for line in text.split("\n") if not line.startswith("#"))
    for line in lines.replace("\\\n", " ").split("\n"):
        what, _, rest = line.strip().partition(" ")
        if what == "ENV":
            image["env"].update(word.split("=", 1) for word in shlex.split(rest))
        elif what == "COPY":
            image["copies"].append(rest.split())
        elif what in ("ENTRYPOINT", "CMD"):
            image[what.lower()] = json.loads(rest)
        elif what in ("STOPSIGNAL", "USER", "EXPOSE"):
            image[what.lower()] = rest
        elif what not in ("", "FROM", "RUN"):
            sys.exit(f"{path}: {what}: not known here")
    return image


def read_pod(path):
    """A pod of one container, and its volumes' places. A service beside it has to find it."""
    parts = {part["kind"]: part for part in yaml.safe_load_all(open(path))}
    template = parts["Deployment"]["spec"]["template"]
    pod, service = template["spec"], parts["Service"]["spec"]
    if not service["selector"].items() <= template["metadata"]["labels"].items():
        sys.exit(f"{path}: the service does not select the pod")
    ports = [port["containerPort"] for one in pod["containers"] for port in one["ports"]]
    if [port["targetPort"] for port in service["ports"]] != ports:
        sys.exit(f"{path}: the service's ports are not the pod's")
    [container] = pod["containers"]
    kinds = {volume.pop("name"): list(volume) for volume in pod["volumes"]}
    places = {mount["mountPath"]: kinds[mount["name"]] for mount in container["volumeMounts"]}
    if any(kind != ["emptyDir"] for kind in places.values()):
        sys.exit(f"{path}: only emptyDir is known here")
    return pod, container, list(places)


def read(containerfile, deployment=None):
    it = read_image(containerfile)
    it.update(argv=it["entrypoint"] + it["cmd"], volumes=[], read_only=False)
    if deployment:
        pod, container, it["volumes"] = read_pod(deployment)
        if "command" in container or "args" in container:
            sys.exit(f"{deployment}: its own command is not known here")
        it["env"].update((one["name"], one["value"]) for one in container.get("env", []))
        it["read_only"] = container["securityContext"]["readOnlyRootFilesystem"]
        it.update(pod=pod, container=container)
    return it


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


def make_root(root, it):
    def tmpfs(path, mode):
        os.makedirs(root + path, exist_ok=True)
        mount("-t", "tmpfs", "-o", f"mode={mode}", "tmpfs", root + path)

    layer = root + ".layer"
    for sources in it["copies"]:
        *sources, target = sources
        place = layer + target
        os.makedirs(place if target.endswith("/") else os.path.dirname(place), exist_ok=True)
        for source in sources:
            shutil.copy(os.path.join(HERE, source), place)
    mount("--bind", "/", root)
    for target in {target for *_, target in it["copies"]}:
        mount("--bind", layer + target, root + target)
    mount("--rbind", "/dev", root + "/dev")
    tmpfs("/dev/shm", "1777")
    mount("-t", "proc", "proc", root + "/proc")
    tmpfs("/run", "0755")
    tmpfs("/tmp", "1777")
    for volume in it["volumes"]: # the mode that the kubelet gives to an emptyDir
        tmpfs(volume, "0777")
    if it["read_only"]:
        for path in ("", "/run", *(target for *_, target in it["copies"])):
            mount("-o", "remount,bind,ro", root + path)


def run(root, it):
    if os.getpid() != 1:
        sys.exit("not pid 1")
    make_root(root, it)
    user, _, group = it["user"].partition(":")
    become = ["setpriv", f"--reuid={user}", f"--regid={group or user}", "--clear-groups", "--no-new-privs",
              "--bounding-set=-all", "--inh-caps=-all"]
    environment = {**BY_THE_ENGINE, **it["env"]}
    os.chroot(root)
    os.chdir("/")
    os.execvpe(become[0], become + it["argv"], environment)


if __name__ == "__main__":
    if sys.argv[1] == "show":
        json.dump(read(*sys.argv[2:]), sys.stdout)
    else:
        run(os.path.abspath(sys.argv[2]), read(*sys.argv[3:]))
