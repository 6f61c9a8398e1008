"""Commands for a Kubernetes cluster: print a pipeline's manifests, apply them, conduct its stages."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ftjobs.cli.app import Job, Set, Store, command, open_job

if TYPE_CHECKING:
    from ftjobs.kubernetes.options import Options

Image = Annotated[str, typer.Option("--image", metavar="NAME:TAG", help="The container image, with a tag or digest.")]
S3Store = Annotated[
    str, typer.Option("--store", envvar="FTJOBS_STORE", metavar="s3://…", help="Where artifacts are published.")
]
Gpus = Annotated[int, typer.Option("--gpus", min=0, metavar="N", help="GPUs of each pod of a stage that trains.")]
Nodes = Annotated[
    int,
    typer.Option("--nodes", min=1, metavar="N", help="Pods that run each seed of a stage that trains together."),
]
Engine = Annotated[
    Literal["jobs", "jobset"],
    typer.Option("--engine", help="A Job per stage, released by a conductor; or one JobSet, for its controller."),
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", metavar="NS", help="The namespace; else the context's, or this pod's."),
]
Queue = Annotated[
    str | None, typer.Option("--kueue-queue", metavar="NAME", help="LocalQueue of Kueue to hand Jobs to.")
]
Memory = Annotated[
    str | None, typer.Option("--memory", metavar="8Gi", help="Memory of each pod of a stage that trains.")
]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME=VALUE", help="A variable for every container; may be repeated. No secrets."),
]
Context = Annotated[
    str | None,
    typer.Option("--context", help="Context of the kubeconfig; else its current one, or this pod's cluster."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Let the cluster check everything, and change nothing.")]
Wait = Annotated[bool, typer.Option("--wait", help="Stay until the report is published, or the pipeline has failed.")]


@command("ftjobs render job.yaml --image ftjobs:0.1.0 --store s3://bucket/runs | kubectl apply --filename -")
def render(
    job: Job,
    image: Image,
    store: S3Store,
    gpus: Gpus = 0,
    nodes: Nodes = 1,
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

    options = _options(
        variables, image=image, store=store, gpus=gpus, nodes=nodes, namespace=namespace, queue=queue, memory=memory
    )
    read_job = read(job, overrides or [])
    print(rendering.as_yaml(rendering.render(read_job, options, engine), read_job), end="")


@command("ftjobs submit job.yaml --image ftjobs:0.1.0 --store s3://bucket/runs --gpus 1 --wait")
def submit(
    job: Job,
    image: Image,
    store: S3Store,
    gpus: Gpus = 0,
    nodes: Nodes = 1,
    engine: Engine = "jobs",
    context: Context = None,
    namespace: Namespace = None,
    queue: Queue = None,
    memory: Memory = None,
    variables: Env = None,
    overrides: Set = None,
    dry_run: DryRun = False,
    wait: Wait = False,
) -> None:
    """Apply a pipeline's manifests to a cluster: what runs is left alone, what failed is started again."""
    from ftjobs.jobfile.read import read
    from ftjobs.kubernetes import rendering

    options = _options(
        variables, image=image, store=store, gpus=gpus, nodes=nodes, namespace=namespace, queue=queue, memory=memory
    )
    manifests = rendering.render(read(job, overrides or []), options, engine)
    from ftjobs.kubernetes import submission
    from ftjobs.kubernetes.api_objects import ApiObjects
    from ftjobs.kubernetes.connection import Connection
    from ftjobs.system.progress import log_to_stderr

    log_to_stderr()
    objects = ApiObjects(Connection(context, namespace))
    for outcome in submission.submit(manifests, objects, dry_run):
        print(f"{outcome.what:9} {outcome.kind.lower()}/{outcome.name}{' (dry run)' if dry_run else ''}", flush=True)
    if wait and not dry_run:
        submission.wait(manifests, objects)
        print(f"the report is published in {store}", file=sys.stderr)


@command("ftjobs conduct job.yaml --store s3://bucket/runs")
def conduct(
    job: Job,
    nodes: Nodes = 1,
    context: Context = None,
    namespace: Namespace = None,
    queue: Queue = None,
    overrides: Set = None,
    store: Store = "runs",
) -> None:
    """Release the stages of a pipeline on a cluster, each when all it reads is published, until the report is."""
    from ftjobs.system.progress import log_to_stderr

    runs, storage = open_job(job, overrides, store)
    log_to_stderr()
    from ftjobs.kubernetes.cluster import Cluster
    from ftjobs.kubernetes.connection import Connection
    from ftjobs.kubernetes.controller import Controller
    from ftjobs.kubernetes.stage_jobs import stage_jobs
    from ftjobs.system.progress import LOG

    connection = Connection(context, namespace)
    stages = stage_jobs(runs, nodes)
    LOG.info(
        "conducting %s: %d Jobs for %d artifacts, in namespace %s at %s; artifacts in %s",
        *(runs[0].pipeline, len(stages), len(runs), connection.namespace, connection.server, storage.uri("")),
    )
    report = Controller(stages, storage, Cluster(connection, runs[0].pipeline), queue).run()
    print(storage.uri(report.folder))


def _options(variables: list[str] | None, **others: Any) -> Options:
    from ftjobs.kubernetes.options import Options, environment

    return Options(**others, environment=environment(variables or []))
