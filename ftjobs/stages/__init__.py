"""The kinds of stage. Each is `run(settings, seed, inputs, output) -> metrics`: folders in, one folder out.

A stage never sees storage. `inputs` maps a role to the folder of a published artifact, `output` is an empty folder,
and the metrics returned are the few figures that its manifest carries. Stages that train also take a `session`: where
training state is kept, that of an earlier attempt is found, and metrics are logged.
"""
