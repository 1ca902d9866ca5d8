"""The command that serves a model on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from fedmri.commands.model.trained import ModelPath


def serve(
    model: ModelPath,
    port: Annotated[int, typer.Option(help="Port of this machine; 0 takes any free one.")] = 0,
    upload_mb: Annotated[int, typer.Option(help="Megabytes that an upload may have.")] = 500,
    time_s: Annotated[float, typer.Option(help="Seconds that a prediction may take.")] = 300.0,
) -> None:
    """Serve a model on this machine: upload a scan, get its mask or values back.

    Prints the address of a page, with the token that every request needs. No other machine can
    reach it. An upload is deleted once it is answered.
    """
    from fedmri.serve.limits import Limits
    from fedmri.serve.serving import serve as run

    def say(address: str) -> None:
        print(f"{address}\nEnds with Ctrl-C.", flush=True)

    run(model, port, Limits(upload_mb, time_s), say)
