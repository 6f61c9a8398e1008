"""The report: from what the stages published to an answer that a reader can check.

`evidence` reads the artifacts, the modules after it each find out one thing (results, hypotheses, caveats, what to
ship), `content` puts their findings together as plain data, which is `report.json`, and `document` puts them into
words and tables. `markdown`, `html` and `plots` only show what these have found.
"""
