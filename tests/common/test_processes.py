"""What a process tells of itself and of others."""

import os
import subprocess
import sys
from pathlib import Path

from common.processes import children, is_alive

ROOT = Path(__file__).parents[2]


def test_the_memory_of_a_process_is_not_that_of_the_one_that_started_it():
    ballast = bytearray(300 * 2**20)
    ballast[::4096] = b"1" * len(ballast[::4096])  # all pages are there
    code = "from common.processes import peak_memory_mb; print(peak_memory_mb())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 1 < float(done.stdout) < 100


def test_a_name_that_is_cut_inside_a_letter_hides_no_process():
    """The kernel keeps 15 bytes of a name; the supervisor reads the names of all processes of the machine."""
    code = """
import ctypes, sys
ctypes.CDLL(None).prctl(15, "a verarbeitungü".encode()[:15])
print(flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert process.pid in [child.pid for child in children(os.getpid())] and is_alive(process.pid)
        process.stdin.close()
