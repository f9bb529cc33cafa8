"""Paths of the API server, so that each is spelled once."""

NODES = "/api/v1/nodes"
PODS = "/api/v1/pods"
SERVICES = "/api/v1/services"


def node(name: str) -> str:
    """One node."""
    return f"{NODES}/{name}"


def pods(namespace: str) -> str:
    """The pods of a namespace."""
    return f"/api/v1/namespaces/{namespace}/pods"


def pod(namespace: str, name: str) -> str:
    """One pod."""
    return f"/api/v1/namespaces/{namespace}/pods/{name}"


def binding(namespace: str, name: str) -> str:
    """The binding subresource of a pod."""
    return f"{pod(namespace, name)}/binding"


def eviction(namespace: str, name: str) -> str:
    """The eviction subresource of a pod."""
    return f"{pod(namespace, name)}/eviction"


def budgets(namespace: str) -> str:
    """The PodDisruptionBudgets of a namespace."""
    return f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"


def events(namespace: str) -> str:
    """The Events of a namespace."""
    return f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
