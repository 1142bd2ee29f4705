"""The images of the tests, made without any registry: what Docker Hub would deliver is stood in for."""
import contextlib
import fcntl
import io
import os
import shutil
import stat
import subprocess
import tarfile
import threading
from pathlib import Path

from engine import mounts_below

HOUSE = Path(__file__).resolve().parent.parent.parent
RELEASE = "bookworm"
# What is added to Debian's smallest system: a linker for the Rust image, Python for the app's, Docker for the virtual
# machine, which uses the same system.
PACKAGES = ["python3", "gcc", "libc6-dev", "docker.io", "crun"]
DISK_SIZE = 3 << 30
# What only the machine needs.
MACHINE_ONLY = ["usr/sbin/dockerd", "usr/bin/docker", "usr/bin/containerd*", "usr/bin/ctr", "usr/bin/dnet", "usr/sbin/ovrouter"]
TINY = "memini-test"
HEALTHY = "memini-test-health"
EXAMPLE = "memini-example"
# One at a time, and after whoever else installs something.
INSTALLING = threading.Lock()
LOCK_PATIENCE = ["--option", "DPkg::Lock::Timeout=300"]
# No step of a build takes this long unless it hangs. Seconds.
PATIENCE = 1200


class Missing(Exception):
    """What is needed cannot be had here; the text says what."""


def need(program, package):
    """Makes sure that a program is there; the package may be several."""
    with INSTALLING:
        if not shutil.which(program) and os.geteuid() == 0 and shutil.which("apt-get"):
            install = ["apt-get", "install", "--yes", "--no-install-recommends", *LOCK_PATIENCE, *package.split()]
            # A service that the package would start is not wanted: the daemon is started by the tests.
            with no_services():
                run(["apt-get", "update"], check=False)
                run(install, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        if not shutil.which(program):
            raise Missing(f"{program} is missing (Debian: apt-get install {package})")


class no_services:
    """While it lasts, packages start no service. What the machine has decided about that is not changed."""
    POLICY = Path("/usr/sbin/policy-rc.d")

    def __enter__(self):
        self.own = not self.POLICY.exists()
        if self.own:
            self.POLICY.write_text("#!/bin/sh\nexit 101\n")
            self.POLICY.chmod(0o755)

    def __exit__(self, *_):
        if self.own:
            self.POLICY.unlink(missing_ok=True)


def run(command, check=True, **options):
    """Runs a command whose output matters only if it fails."""
    command = [str(word) for word in command]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", timeout=PATIENCE, **options)
    if check and done.returncode != 0:
        raise Missing(f"{' '.join(command)} failed: {done.stdout.strip()[-2000:]}")
    return done.stdout


def answer(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE).stdout.strip()


# ---- Debian -----------------------------------------------------------------------------------------------------

def mirror():
    """Where this machine's own apt gets Debian from."""
    for codename in (RELEASE, ""):
        lines = answer("apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages")
        for line in lines.splitlines():
            found, _, address = line.partition(" ")
            if "debian" in address and codename in ("", found):
                return address
    return "http://deb.debian.org/debian"


@contextlib.contextmanager
def making(folder):
    """A place to make this folder of the cache in, or nothing if it is there. It gets its name when it is whole."""
    partial = Path(f"{folder}.partial")
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            yield None
            return
        # What an earlier run was ended over, with what it had mounted.
        for mount in mounts_below(partial):
            run(["umount", "--lazy", mount])
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir()
        yield partial
        os.rename(partial, folder)


def debian(cache):
    """A small Debian system as a tar and as a disk for a virtual machine; made once and kept in the cache."""
    folder = cache / "-".join(["docker", RELEASE, *PACKAGES])
    with making(folder) as place:
        if place:
            need("debootstrap", "debootstrap")
            need("mke2fs", "e2fsprogs")
            root = place / "root"
            with no_services():
                run(["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", RELEASE, root, mirror()])
            slim(root)
            others = [f"--exclude=./{name}" for name in MACHINE_ONLY]
            run(["tar", "--create", "--file", place / "archive.tar", "--directory", root, *others, "."])
            with open(place / "disk.ext4", "wb") as file:
                file.truncate(DISK_SIZE)
            run(["mke2fs", "-q", "-t", "ext4", "-d", root, place / "disk.ext4"])
            shutil.rmtree(root)
    return folder / "archive.tar", folder / "disk.ext4"


def slim(root):
    """Takes out what nobody reads, and puts `python` where the official image has it."""
    for folder in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(root / folder, ignore_errors=True)
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    # Device files are Docker's and the kernel's business.
    for file in (root / "dev").rglob("*"):
        if stat.S_ISCHR(file.lstat().st_mode) or stat.S_ISBLK(file.lstat().st_mode):
            file.unlink()


# ---- the images -------------------------------------------------------------------------------------------------

def tiny(engine, memini, app):
    """memini, an app, and nothing else; with memini as the entry point."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        archive.addfile(folder)
        for name, path in (("memini", memini), ("app", app)):
            archive.add(path, name)
    engine.run("import", "--change", 'ENTRYPOINT ["/memini", "--"]', "-", TINY, stdin=buffer.getvalue())
    health = 'HEALTHCHECK --interval=1s --timeout=60s --retries=1 CMD ["/memini", "check"]'
    engine.run("build", "--network=none", "--tag", HEALTHY, "-", stdin=f"FROM {TINY}\n{health}\n".encode())


def stand_ins(engine, cache):
    """Local images with the names that Dockerfile.example begins from."""
    archive, _ = debian(cache)
    engine.run("import", archive, "python:3-slim", patience=PATIENCE)
    context = engine.place / "rust"
    add_toolchain(context / "root")
    (context / "Dockerfile").write_text(
        "FROM python:3-slim\nCOPY root /\nENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo "
        "PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n")
    engine.run("build", "--network=none", "--tag=rust:1-slim", context, patience=PATIENCE)
    shutil.rmtree(context)


def add_toolchain(root):
    """The machine's own rustup and toolchain where the official image has them, and the crates: the build has no network."""
    toolchain = Path(answer("rustc", "--print", "sysroot")).resolve()
    rustup = shutil.which("rustup")
    if toolchain.parent.name != "toolchains" or not rustup:
        raise Missing("the Rust toolchain is not one of rustup's, which the stand-in for rust:1-slim is made of")
    place = root / "usr/local/rustup/toolchains" / toolchain.name
    shutil.copytree(toolchain, place, symlinks=True, copy_function=link_or_copy,
                    ignore=shutil.ignore_patterns("share", "libexec", "librustc-stable_rt.*", "clippy-driver", "rustdoc"))
    (root / "usr/local/rustup/settings.toml").write_text(
        f'version = "12"\nprofile = "minimal"\ndefault_toolchain = "{toolchain.name}"\n[overrides]\n')
    home = root / "usr/local/cargo"
    (home / "bin").mkdir(parents=True)
    link_or_copy(Path(rustup).resolve(), home / "bin/rustup")
    for name in ("cargo", "rustc"):
        (home / "bin" / name).symlink_to("rustup")
    # Nothing in the checkout's own configuration is changed: cargo looks into its home folder as well.
    run(["cargo", "vendor", "--locked", "--versioned-dirs", home / "crates"], cwd=HOUSE)
    (home / "config.toml").write_text(
        '[source.crates-io]\nreplace-with = "crates"\n[source.crates]\ndirectory = "/usr/local/cargo/crates"\n')


def link_or_copy(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def example(engine):
    """Dockerfile.example as it is."""
    file = HOUSE / "Dockerfile.example"
    return engine.run("build", "--network=none", "--file", file, "--tag", EXAMPLE, HOUSE, patience=PATIENCE)
