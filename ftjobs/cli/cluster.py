"""Commands on a Kubernetes cluster: print a pipeline's manifests, apply them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ftjobs.cli.app import Job, Set, app

Image = Annotated[str, typer.Option("--image", metavar="NAME:TAG", help="The container image, with a tag or digest.")]
S3Store = Annotated[
    str, typer.Option("--store", envvar="FTJOBS_STORE", metavar="s3://…", help="Where artifacts are published.")
]
Gpus = Annotated[int, typer.Option("--gpus", min=0, metavar="N", help="GPUs of each pod of a stage that trains.")]
Engine = Annotated[
    Literal["jobs", "jobset"],
    typer.Option("--engine", help="A Job per stage, released by a conductor; or one JobSet, for its controller."),
]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", metavar="NS", help="The namespace.")]
Queue = Annotated[str | None, typer.Option("--kueue-queue", metavar="NAME", help="Kueue's LocalQueue to go through.")]
Memory = Annotated[
    str | None, typer.Option("--memory", metavar="8Gi", help="Memory of each pod of a stage that trains.")
]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME=VALUE", help="A variable for every container; may be repeated. No secrets."),
]


@app.command()
def render(
    job: Job,
    image: Image,
    store: S3Store,
    gpus: Gpus = 0,
    engine: Engine = "jobs",
    namespace: Namespace = None,
    queue: Queue = None,
    memory: Memory = None,
    variables: Env = None,
    overrides: Set = None,
) -> None:
    """Print the Kubernetes manifests of a pipeline; `kubectl apply --filename -` takes them."""
    from ftjobs.jobfile.read import read
    from ftjobs.kubernetes import rendering
    from ftjobs.kubernetes.options import Options, environment

    options = Options(
        image=image,
        store=store,
        gpus=gpus,
        namespace=namespace,
        queue=queue,
        memory=memory,
        environment=environment(variables or []),
    )
    read_job = read(job, overrides or [])
    print(rendering.as_yaml(rendering.render(read_job, options, engine), read_job), end="")
