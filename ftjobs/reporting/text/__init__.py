"""The report as a document of sections, rendered to Markdown and HTML."""
