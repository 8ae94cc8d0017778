"""A program that uses the library keeps its own settings."""

import subprocess
import sys

SCRIPT = """
import locale, logging, os, random, signal, sys, warnings
import numpy as np, torch

def state():
    return {
        "random numbers of torch": torch.random.get_rng_state().tolist(),
        "random numbers of numpy": [str(part) for part in np.random.get_state()],
        "random numbers of Python": random.getstate(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "default type": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "matrix products": torch.get_float32_matmul_precision(),
        "warnings": [str(each) for each in warnings.filters],
        "floating-point errors": np.geterr(),
        "environment": dict(os.environ),
        "locale": locale.setlocale(locale.LC_ALL),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "logging": (logging.getLogger().handlers[:], logging.getLogger().level),
        "recursion": sys.getrecursionlimit(),
    }

before = state()
import denoise
for name in ("photo", "auto", "speech", "sensor", "wavelet"):
    denoise.load(name, "audio" if name == "speech" else "sensor" if name == "sensor" else "image")
after = state()
print(sorted(name for name in before if before[name] != after[name]))
"""


def test_import_and_load_leave_the_settings_of_the_host_alone() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == "[]\n"
