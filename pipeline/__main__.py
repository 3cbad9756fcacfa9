"""`python -m pipeline` and the `inpaint-pipeline` command: run the CLI, turn errors into exit codes."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with a documented code (see `pipeline.errors`)."""
    from pipeline.cli import app
    from pipeline.errors import PipelineError

    try:
        app(standalone_mode=True)
    except PipelineError as error:
        sys.stderr.write(f"inpaint-pipeline: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
