"""The command that releases the stages of a pipeline on a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from ftjobs.cli.app import Job, Set, Store, app, open_job

Context = Annotated[
    str | None,
    typer.Option("--context", help="Context of the kubeconfig; else its current one, or this pod's cluster."),
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", metavar="NS", help="The namespace; else the context's, or this pod's."),
]
Queue = Annotated[
    str | None,
    typer.Option(
        "--kueue-queue", metavar="NAME", help="Hand Jobs to this LocalQueue of Kueue instead of resuming them."
    ),
]


@app.command()
def conduct(
    job: Job,
    context: Context = None,
    namespace: Namespace = None,
    queue: Queue = None,
    overrides: Set = None,
    store: Store = "runs",
) -> None:
    """Release the stages of a pipeline on a cluster, each when all it reads is published, until the report is."""
    from ftjobs.progress import log_to_stderr

    runs, storage = open_job(job, overrides, store)
    log_to_stderr()
    from ftjobs.kubernetes.cluster import Cluster
    from ftjobs.kubernetes.conductor import Conductor
    from ftjobs.kubernetes.connection import Connection
    from ftjobs.kubernetes.stagejobs import stage_jobs
    from ftjobs.progress import LOG

    connection = Connection(context, namespace)
    stages = stage_jobs(runs)
    LOG.info(
        "conducting %s: %d stages, %d artifacts; Jobs in namespace %s at %s, artifacts in %s",
        *(runs[0].pipeline, len(stages), len(runs), connection.namespace, connection.server, storage.uri("")),
    )
    report = Conductor(stages, storage, Cluster(connection, runs[0].pipeline), queue).run()
    print(storage.uri(report.folder))
