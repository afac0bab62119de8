"""The service keeps to its own description: Schemathesis sends what that allows, and what it does not."""

import hypothesis
import pytest

schemathesis = pytest.importorskip("schemathesis")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

UPLOADS = [("POST", "/api/scan"), ("POST", "/api/jobs")]
OPERATIONS = [
    *UPLOADS,
    ("GET", "/api/health"),
    ("GET", "/api/jobs"),
    ("GET", "/api/jobs/{id}"),
    ("DELETE", "/api/jobs/{id}"),
    ("POST", "/api/jobs/{id}/cancel"),
    ("GET", "/api/jobs/{id}/report"),
]


@pytest.fixture(scope="module")
def description(service):
    return schemathesis.openapi.from_url(service.url + "/api/openapi.json")


def test_all_operations_are_tried(description):
    described = [found.ok() for found in description.get_all_operations()]
    assert {(o.method.upper(), o.path) for o in described} == set(OPERATIONS)


def answers_are_described(operation, mode, **options):
    cases = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))

    @hypothesis.settings(max_examples=8, deadline=None, derandomize=True, database=None)
    @hypothesis.given(case=cases)
    def try_it(case):
        case.call_and_validate(timeout=60, **options)

    try_it()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_answers_to_what_is_allowed_are_described(description, method, path):
    # bytes at random are a file, but neither an image nor a video
    excluded = [checks.positive_data_acceptance] if (method, path) in UPLOADS else []
    answers_are_described(description[path][method], "positive", excluded_checks=excluded)


@pytest.mark.parametrize(("method", "path"), [*UPLOADS, ("GET", "/api/jobs")])
def test_answers_to_what_is_not_allowed_are_described(description, method, path):
    answers_are_described(description[path][method], "negative")
