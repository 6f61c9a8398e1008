"""Commands for Kubernetes: render a pipeline's manifests, submit them, and run the controller."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ftjobs.cli.app import Job, Set, Store, command, open_job
from ftjobs.errors import UserError

if TYPE_CHECKING:
    from ftjobs.kubernetes.options import Options

Image = Annotated[str, typer.Option("--image", metavar="NAME:TAG", help="The container image, with a tag or digest.")]
S3Store = Annotated[
    str, typer.Option("--store", envvar="FTJOBS_STORE", metavar="s3://…", help="Store of the artifacts.")
]
Gpus = Annotated[int, typer.Option("--gpus", min=0, metavar="N", help="GPUs per pod of a training stage.")]
Nodes = Annotated[
    int, typer.Option("--nodes", min=1, metavar="N", help="Pods per seed of a training stage, one on each node.")
]
Engine = Annotated[
    Literal["jobs", "jobset"],
    typer.Option("--engine", help="A Job per stage, released by the controller; or one JobSet."),
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", metavar="NS", help="Namespace; default: the context's or this pod's.")
]
Queue = Annotated[str | None, typer.Option("--kueue-queue", metavar="NAME", help="Kueue LocalQueue of the Jobs.")]
Memory = Annotated[str | None, typer.Option("--memory", metavar="8Gi", help="Memory per pod of a training stage.")]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME=VALUE", help="Variable of every container; repeatable. Not for secrets."),
]
Context = Annotated[
    str | None,
    typer.Option("--context", help="Context of the kubeconfig; default: the current one or this pod's cluster."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Validate on the cluster without changing it.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the report is published or the pipeline fails.")]


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
    """Print the Kubernetes manifests of a pipeline. Pipe them to `kubectl apply --filename -`."""
    from ftjobs.jobfile.read import read
    from ftjobs.kubernetes import rendering

    options = _options(
        variables, image=image, store=store, gpus=gpus, nodes=nodes, namespace=namespace, queue=queue, memory=memory
    )
    validated_job = read(job, overrides or [])
    print(rendering.as_yaml(rendering.render(validated_job, options, engine), validated_job), end="")


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
    """Apply the manifests of a pipeline to a cluster. Leaves running Jobs alone and restarts failed ones."""
    from ftjobs.jobfile.read import read
    from ftjobs.kubernetes import rendering

    _require_client()
    options = _options(
        variables, image=image, store=store, gpus=gpus, nodes=nodes, namespace=namespace, queue=queue, memory=memory
    )
    manifests = rendering.render(read(job, overrides or []), options, engine)
    from ftjobs.kubernetes import submission
    from ftjobs.kubernetes.api_objects import ApiObjects
    from ftjobs.kubernetes.cluster_client import ClusterClient
    from ftjobs.system.progress import log_to_stderr

    log_to_stderr()
    objects = ApiObjects(ClusterClient(context, namespace))
    for outcome in submission.submit(manifests, objects, dry_run):
        print(f"{outcome.result:9} {outcome.kind.lower()}/{outcome.name}{' (dry run)' if dry_run else ''}", flush=True)
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
    """Run the controller that starts stages once their inputs exist. Ends when the report is published."""
    from ftjobs.system.progress import log_to_stderr

    _require_client()
    runs, storage = open_job(job, overrides, store)
    log_to_stderr()
    from ftjobs.kubernetes.api_objects import PipelineJobs
    from ftjobs.kubernetes.cluster_client import ClusterClient
    from ftjobs.kubernetes.controller import Controller
    from ftjobs.kubernetes.stage_jobs import stage_jobs
    from ftjobs.system.progress import LOG

    cluster = ClusterClient(context, namespace)
    stages = stage_jobs(runs, nodes)
    LOG.info(
        "controller of pipeline %s: %d Jobs for %d artifacts, in namespace %s at %s; artifacts in %s",
        *(runs[0].pipeline, len(stages), len(runs), cluster.namespace, cluster.server, storage.uri("")),
    )
    report = Controller(stages, storage, PipelineJobs(cluster, runs[0].pipeline), queue).run()
    print(storage.uri(report.folder))


def _options(variables: list[str] | None, **settings: Any) -> Options:
    from ftjobs.kubernetes.options import Options, parse_environment

    return Options(**settings, environment=parse_environment(variables or []))


def _require_client() -> None:
    if find_spec("kubernetes") is None:
        raise UserError(
            "this command needs the Kubernetes client, which is not installed; run `pip install 'ftjobs[kubernetes]'`"
        )
