"""What is read of a Dockerfile."""

import pytest

from sandbox import SandboxError
from sandbox.dockerfile import Copy, Stage, parse_dockerfile

TEXT = """\
# A comment.
FROM base:1 AS build
ARG ARCH=amd64
WORKDIR /src
COPY a b to/
# hadolint ignore=X
RUN first && \\
    second
FROM base:2
COPY --from=build /opt/x /opt/x
ENV A=1 B=2
USER 1:2
ENTRYPOINT ["/x", "-y"]
"""


def test_stages_with_their_instructions():
    assert parse_dockerfile(TEXT) == [
        Stage("base:1", "build", [Copy("", ("a", "b"), "to/")], ["first && second"], arguments={"ARCH": "amd64"}),
        Stage(
            "base:2",
            "",
            [Copy("build", ("/opt/x",), "/opt/x")],
            environment={"A": "1", "B": "2"},
            user="1:2",
            entrypoint=("/x", "-y"),
        ),
    ]


def test_what_is_not_understood_is_an_error_and_no_other_image():
    with pytest.raises(SandboxError, match="ADD x y: not supported"):
        parse_dockerfile("FROM a\nADD x y\n")
