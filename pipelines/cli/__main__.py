"""`python -m pipelines.cli` is the `denoise` command."""

from pipelines.cli import main

if __name__ == "__main__":
    main()
