"""`python -m denoise` is the `denoise` command."""

import runpy

if __name__ == "__main__":  # by name: the library does not import the program
    runpy.run_module("pipelines.cli", run_name="__main__", alter_sys=True)
