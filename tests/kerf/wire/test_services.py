"""The extender's and the webhook's documents, byte by byte where another program reads them."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.wire.admission import Answer, PatchOp, Review, parse_review, pointer, render_answer
from kerf.wire.errors import WireError
from kerf.wire.extender import (
    BindQuery,
    NodesQuery,
    PreemptQuery,
    parse_bind_query,
    parse_nodes_query,
    parse_preempt_query,
    render_bind,
    render_filter,
    render_scores,
    render_victims,
)

POD = {"metadata": {"name": "p"}}
NAMES = st.lists(st.text("abc-0", min_size=1), max_size=5)
VICTIMS = st.dictionaries(
    st.text("abc", min_size=1),
    st.tuples(st.lists(st.text("u0-", min_size=1), max_size=3).map(tuple), st.integers(0, 9)),
)


def body(document: Any) -> bytes:
    return json.dumps(document).encode()


@given(NAMES)
def test_names_keep_kube_schedulers_order_in_both_forms(names: list[str]) -> None:
    short = {"Pod": POD, "NodeNames": names, "Nodes": None}
    full = {"Pod": POD, "NodeNames": None, "Nodes": {"items": [{"metadata": {"name": name}} for name in names]}}

    assert parse_nodes_query(body(short)) == parse_nodes_query(body(full)) == NodesQuery(POD, names)


@given(VICTIMS)
def test_victims_are_read_in_both_forms_and_written_in_the_short_one(
    victims: dict[str, tuple[tuple[str, ...], int]],
) -> None:
    full = {
        node: {"Pods": [{"metadata": {"uid": uid}} for uid in uids], "NumPDBViolations": count}
        for node, (uids, count) in victims.items()
    }
    short = json.loads(render_victims(victims))["NodeNameToMetaVictims"]

    expected = PreemptQuery(POD, victims)
    assert parse_preempt_query(body({"Pod": POD, "NodeNameToVictims": full})) == expected
    assert parse_preempt_query(body({"Pod": POD, "NodeNameToVictims": {}, "NodeNameToMetaVictims": short})) == expected


def test_a_binding_is_read() -> None:
    document = {"PodName": "p", "PodNamespace": "d", "PodUID": "u", "Node": "n"}

    assert parse_bind_query(body(document)) == BindQuery(namespace="d", name="p", uid="u", node="n")


@pytest.mark.parametrize("field", ["PodName", "PodNamespace", "PodUID", "Node"])
@pytest.mark.parametrize("value", [None, "", 5, "x" * 254], ids=["none", "empty", "a number", "too long"])
def test_a_binding_without_one_of_its_names_is_refused(field: str, value: object) -> None:
    document = {"PodName": "p", "PodNamespace": "d", "PodUID": "u", "Node": "n", field: value}

    with pytest.raises(WireError) as caught:
        parse_bind_query(body(document))

    assert (caught.value.field, caught.value.fix) == (field, "send a text of 1 to 253 characters")


def test_too_many_nodes_are_refused() -> None:
    with pytest.raises(WireError, match="at most 100000 names"):
        parse_nodes_query(body({"Pod": POD, "NodeNames": ["n"] * 100_001}))


def test_answers_have_the_names_kube_scheduler_reads() -> None:
    filtered = render_filter(["a"], {"b": "full"}, {"c": "never"})

    assert [json.loads(text) for text in (filtered, render_scores(["a", "b"], [0, 10]), render_bind("no"))] == [
        {
            "NodeNames": ["a"],
            "FailedNodes": {"b": "full"},
            "FailedAndUnresolvableNodes": {"c": "never"},
            "Error": "",
        },
        [{"Host": "a", "Score": 0}, {"Host": "b", "Score": 10}],
        {"Error": "no"},
    ]


def test_a_review_is_read() -> None:
    request = {
        "uid": "u-1",
        "kind": {"group": "batch", "version": "v1", "kind": "Job"},
        "subResource": "status",
        "operation": "UPDATE",
        "namespace": "d",
        "userInfo": {"username": "joe", "groups": []},
        "object": POD,
        "oldObject": {},
        "dryRun": True,
    }

    assert parse_review(body({"apiVersion": "admission.k8s.io/v1", "request": request})) == Review(
        uid="u-1",
        operation="UPDATE",
        kind="Job",
        namespace="d",
        user="joe",
        object=POD,
        old={},
        subresource="status",
        group="batch",
        dry_run=True,
    )


@given(st.lists(st.text(min_size=1) | st.integers(0, 9), max_size=4))
def test_a_pointer_names_exactly_its_parts(parts: list[str | int]) -> None:
    read = [part.replace("~1", "/").replace("~0", "~") for part in pointer(*parts).split("/")[1:]]

    assert read == [str(part) for part in parts]


def test_an_answer_is_what_the_api_server_reads() -> None:
    patch = (PatchOp("add", "/a", {"b": 1}), PatchOp("replace", "/c", None), PatchOp("remove", "/d"))
    answer = json.loads(render_answer("u", Answer(allowed=True, patch=patch, warnings=("w",))))

    operations = json.loads(base64.b64decode(answer["response"].pop("patch")))
    assert operations == [
        {"op": "add", "path": "/a", "value": {"b": 1}},
        {"op": "replace", "path": "/c", "value": None},
        {"op": "remove", "path": "/d"},
    ]
    assert answer == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "u", "allowed": True, "patchType": "JSONPatch", "warnings": ["w"]},
    }
