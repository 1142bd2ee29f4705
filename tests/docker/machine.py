"""A virtual machine with a Debian kernel and cgroup v2, in which the same cases run. Emulated in software: it needs no KVM."""
import os
import platform
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

from engine import LIBC, PR_SET_PDEATHSIG
from images import HOUSE, Missing, answer, debian, making, need, run

# What the kernel needs to find its disks and what Docker needs from it; the rest is built in.
MODULES = ["virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "overlay"]
# Seconds, for all attempts. The machine's own work takes two minutes, more when it shares its cores.
PATIENCE = 1500
# As in tests/vm/run, which says why.
CPU = "max,-cx16"
CRASH = r"(BUG: |Oops: |Kernel panic - |double fault).*"
ATTEMPTS = 3
LAST_WORD = "the machine has nothing more to say"

FIRST_SCRIPT = """#!/busybox sh
/busybox mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do /busybox insmod $module; done
while [ ! -b /dev/vda ] || [ ! -b /dev/vdb ]; do /busybox sleep 0.1; done
/busybox mount -t ext4 /dev/vda /disk
/busybox mount --move /dev /disk/dev
exec /busybox switch_root /disk /bin/sh -c 'tar --extract --file /dev/vdb --directory /opt; exec sh /opt/second'
"""

SECOND_SCRIPT = f"""
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/opt
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
hostname machine
MEMINI=/opt/memini MEMINI_TEST_APP=/opt/app python3 /opt/tests/docker/run --inside -- "$(cat /opt/names)" >/dev/ttyS1 2>&1
echo '{LAST_WORD}' >/dev/ttyS1
sync
echo b >/proc/sysrq-trigger
sleep 1000
"""


def kernel(cache):
    """A folder with Debian's kernel and the modules, in the order in which they can be loaded; kept in the cache."""
    architecture = answer("dpkg", "--print-architecture")
    package = newest(f"linux-image-{architecture}")
    folder = cache / f"docker-{package}"
    with making(folder) as place:
        if place:
            need("depmod", "kmod")
            file, root, version = download(package, place), place / "root", package.removeprefix("linux-image-")
            run(["dpkg-deb", "--extract", file, root])
            run(["depmod", "--basedir", root, version])
            shutil.copyfile(root / "boot" / f"vmlinuz-{version}", place / "vmlinuz")
            (place / "modules").mkdir()
            for number, module in enumerate(in_order(root / "lib/modules" / version)):
                shutil.copyfile(module, place / "modules" / f"{number:02}-{module.name}")
            file.unlink()
            shutil.rmtree(root)
    return folder


def download(package, place):
    """The file of the package. Lists that are too old name files that are gone."""
    run(["apt-get", "download", package], cwd=place, check=False)
    if not list(place.glob("*.deb")):
        run(["apt-get", "update"], check=False)
        run(["apt-get", "download", package], cwd=place)
    return next(place.glob("*.deb"))


def newest(package):
    """The package with the kernel itself, which the one of this name depends on."""
    def depends():
        lines = answer("apt-cache", "depends", package).splitlines()
        return next((line.split()[1] for line in lines if line.strip().startswith("Depends: linux-image-")), None)
    found = depends()
    if not found:
        run(["apt-get", "update"], check=False)
        found = depends()
    if not found:
        raise Missing(f"apt knows no {package}")
    return found


def in_order(modules):
    """The files of MODULES, each after those that it depends on."""
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        file, _, others = line.partition(":")
        needs[Path(file).name.split(".")[0].replace("-", "_")] = [modules / file, *(modules / other for other in others.split())]
    found = []
    for name in MODULES:
        # Nobody names those that are built in.
        for file in reversed(needs.get(name, [])):
            if file not in found:
                found.append(file)
    return found


def initramfs(kernel, path):
    """Just enough to find the disk."""
    with tempfile.TemporaryDirectory(prefix="memini-initramfs.") as place:
        place = Path(place)
        shutil.copy2(shutil.which("busybox"), place / "busybox")
        shutil.copytree(kernel / "modules", place / "modules")
        for folder in ("dev", "disk"):
            (place / folder).mkdir()
        (place / "init").write_text(FIRST_SCRIPT)
        (place / "init").chmod(0o755)
        names = "\n".join(str(file.relative_to(place)) for file in sorted(place.rglob("*")))
        with open(path, "wb") as archive:
            subprocess.run(["busybox", "cpio", "-o", "-H", "newc"], cwd=place, input=names.encode(), stdout=archive,
                           stderr=subprocess.DEVNULL, check=True)


def payload(path, memini, app, names):
    """The second disk: a tar with the tests."""
    with tempfile.TemporaryDirectory(prefix="memini-payload.") as place:
        place = Path(place)
        shutil.copytree(HOUSE / "tests" / "docker", place / "tests" / "docker")
        shutil.copy2(memini, place / "memini")
        shutil.copy2(app, place / "app")
        (place / "second").write_text(SECOND_SCRIPT)
        (place / "names").write_text(names)
        with tarfile.open(path, "w") as archive:
            archive.add(place, ".")


def end_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def start(boot, disk, place, patience):
    """Runs the machine to its end. What there is to say about that."""
    for name in ("results", "console"):
        (place / name).write_bytes(b"")
    machine = subprocess.Popen(
        ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", CPU, "-smp", "2", "-m", "2G", "-nodefaults",
         "-display", "none", "-no-reboot", "-kernel", boot / "vmlinuz", "-initrd", place / "initramfs",
         "-append", "console=ttyS0 quiet panic=-1 apparmor=0 mitigations=off init_on_alloc=0 no5lvl",
         "-drive", f"file={disk},if=virtio,format=raw,snapshot=on",
         "-drive", f"file={place}/payload,if=virtio,format=raw,readonly=on",
         "-serial", f"file:{place}/console", "-serial", f"file:{place}/results"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(place)}, preexec_fn=end_with_parent)
    try:
        return machine.communicate(timeout=patience)[1]
    except subprocess.TimeoutExpired:
        return f"it took more than {PATIENCE} s"
    finally:
        machine.kill()
        machine.wait()


def run_cases(cache, memini, app, names, count, say):
    """Runs the cases with these names in the machine, so many, and says what came of them."""
    if platform.machine() != "x86_64":
        raise Missing(f"the virtual machine is made for x86_64, not for {platform.machine()}")
    need("qemu-system-x86_64", "qemu-system-x86")
    need("busybox", "busybox-static")
    _, disk = debian(cache)
    boot = kernel(cache)
    with tempfile.TemporaryDirectory(prefix="memini-machine.") as place:
        place = Path(place)
        initramfs(boot, place / "initramfs")
        payload(place / "payload", memini, app, names)
        end = time.monotonic() + PATIENCE
        for attempt in range(1, ATTEMPTS + 1):
            errors = start(boot, disk, place, end - time.monotonic())
            results, console = ((place / name).read_text(errors="replace") for name in ("results", "console"))
            crash = re.search(CRASH, console)
            if crash is None or LAST_WORD in results or attempt == ATTEMPTS or time.monotonic() > end:
                break
            say(f"the machine crashed in attempt {attempt}, and is started again: {crash[0].strip()}")
        results = results.splitlines()
        if LAST_WORD not in results:
            results.append(f"WRONG: the virtual machine did not come to its end: {errors.strip()}")
            results += [f"    console: {line}" for line in console.splitlines()[-20:]]
        elif (told := sum(line.startswith(("ok: ", "WRONG: ", "SKIP: ")) for line in results)) < count:
            results.append(f"WRONG: the virtual machine has told of {told} cases, not of {count}")
        for line in results:
            if line != LAST_WORD:
                say(line)
