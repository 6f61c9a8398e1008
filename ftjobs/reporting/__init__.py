"""Reports: published artifacts are read (`inputs`), analyzed (`findings`), drawn (`figures`) and worded (`text`)."""
