"""`ftjobs schema`."""

import json

import pytest

from ftjobs.jobfile.fields import Job

pytestmark = pytest.mark.usefixtures("job_folder")


def test_schema_is_the_schema_of_the_job_model(ftjobs):
    assert json.loads(ftjobs("schema").stdout) == Job.model_json_schema()
