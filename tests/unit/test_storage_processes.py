"""The limits of processes, set in processes of their own: a limit that was lowered for good would be the tests'."""

import subprocess
import sys

BEGIN = """
import resource, subprocess, sys
from procorefs.storage import processes
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512))
"""


def run(source: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", BEGIN + source], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_soft_limit_becomes_the_hard_one() -> None:
    assert run("processes.raise_limit(); print(*resource.getrlimit(resource.RLIMIT_NOFILE))") == [
        "512",
        "512",
    ]


def test_a_program_of_ours_gets_the_limit_that_was() -> None:
    source = """
processes.raise_limit()
with subprocess.Popen(["sh", "-c", "read go; ulimit -Sn; ulimit -Hn"], stdin=subprocess.PIPE) as started:
    processes.give_usual_limit(started.pid)
    started.communicate(b"go\\n")
"""
    assert run(source) == ["64", "512"]


def test_what_cannot_be_raised_stays() -> None:
    source = """
resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
processes.raise_limit()
processes.give_usual_limit(2**22)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    assert run(source) == ["512", "512"]


def test_a_crash_leaves_no_core() -> None:
    """Also not to a program to which the kernel pipes it: it has no memory in it."""
    code = (
        "import resource; from procorefs.storage.processes import forbid_core_dumps; forbid_core_dumps();"
        " print(resource.getrlimit(resource.RLIMIT_CORE)[0], int(open('/proc/self/coredump_filter').read(), 16))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "0 0\n"
