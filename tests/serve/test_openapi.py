"""The API keeps to its description, whatever is sent; requests are made by schemathesis."""

import os

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from vision_jax.serve import openapi
from vision_jax.serve.faults import Limits

EXAMPLES = int(os.environ.get("VISION_JAX_EXAMPLES", "10"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
PATHS = openapi.describe("0", Limits())["paths"]


def test_the_description_is_that_of_every_path(client):
    assert client.get("/api/openapi.json").json()["paths"].keys() == PATHS.keys()
    served = {"/api/openapi.json", *PATHS}
    routes = {route.path for route in client.app._app.routes}
    assert {path for path in routes if path.startswith("/api")} == served


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::UserWarning",
    "ignore::hypothesis.errors.HypothesisDeprecationWarning",  # schemathesis uses `random`
)
def test_answers_keep_to_the_description(client, keys, path):
    schema = schemathesis.openapi.from_dict(client.get("/api/openapi.json").json())
    schema.app = client.app
    (method,) = PATHS[path]
    operation = schema[path][method.upper()]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @given(case=operation.as_strategy())
    def check(case):
        if isinstance(case.query, dict) and case.query.get("key"):
            case.query["key"] = keys[len(str(case.query["key"])) % len(keys)]
        answer = case.call(headers={"Host": "localhost"})
        case.validate_response(answer, checks=CHECKS)

    check()
