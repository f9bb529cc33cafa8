"""Which pods the express lane may take: those of whose PodSpec it knows every field. Pure.

A field that is not listed here makes the pod kube-scheduler's, so a newer Kubernetes can add constraints and nothing
goes wrong. What is read elsewhere (selector, affinity, tolerations, requests) is checked here for parts that are not.
"""

from collections.abc import Callable, Iterable, Mapping

from kerf.wire.json import Json, at

Rule = Callable[[object], str]
"""A field's value to why the pod is not the lane's; empty where it may be."""


def why_not(pod: Json) -> str:
    """The field that leaves a pod to kube-scheduler, with what it does; empty where the lane may take the pod."""
    if at(pod, "metadata").get("deletionTimestamp"):
        return "metadata.deletionTimestamp: the pod is ending"
    if at(pod, "status").get("nominatedNodeName"):
        return "status.nominatedNodeName: kube-scheduler has a node in mind for it"
    spec = pod.get("spec")
    if not isinstance(spec, Mapping):
        return "spec: there is none"
    if spec.get("hostNetwork") and spec.get("hostUsers") is False:
        return "spec.hostUsers: with hostNetwork it needs a feature that not every node has"
    return _first(spec, POD_FIELDS, "spec")


def _first(value: Json, rules: Mapping[str, Rule], where: str) -> str:
    """The first field that a rule refuses, or that has no rule."""
    for field, content in value.items():
        if content is None:
            continue
        rule = rules.get(field)
        why = "it is not known to Kerf" if rule is None else rule(content)
        if why:
            return f"{where}.{field}: {why}" if not why.startswith(("[", ".")) else f"{where}.{field}{why}"
    return ""


# ---- rules
def _free(_: object) -> str:
    """The field does not limit where the pod may run, or is decided before a scheduler sees the pod."""
    return ""


def _none(why: str) -> Rule:
    """Only an empty value is understood."""

    def rule(value: object) -> str:
        return why if value else ""

    return rule


def _object(rules: Mapping[str, Rule]) -> Rule:
    def rule(value: object) -> str:
        if not isinstance(value, Mapping):
            return "it is no object"
        return _first(value, rules, "")

    return rule


def _items(rules: Mapping[str, Rule]) -> Rule:
    def rule(value: object) -> str:
        if not isinstance(value, list):
            return "it is no list"
        for number, item in enumerate(value):
            if not isinstance(item, Mapping):
                return f"[{number}]: it is no object"
            if found := _first(item, rules, ""):
                return f"[{number}]{found}"
        return ""

    return rule


def _one_of(*words: str) -> Rule:
    def rule(value: object) -> str:
        return "" if value in words else f"{str(value)[:40]!r} is not known to Kerf"

    return rule


def _volume(value: object) -> str:
    """A volume names itself and one source."""
    if not isinstance(value, list):
        return "it is no list"
    for number, item in enumerate(value):
        kinds = [key for key, content in item.items() if content is not None] if isinstance(item, Mapping) else ["?"]
        for kind in kinds:
            if kind != "name" and kind not in VOLUMES:
                return f"[{number}].{kind}: such a volume may bind a pod to nodes"
    return ""


def _ports(value: object) -> str:
    items = value if isinstance(value, list) else [{"hostPort": "?"}]
    taken = [item for item in items if not isinstance(item, Mapping) or item.get("hostPort")]
    return "[].hostPort: a port of the node may be taken" if taken else ""


def _table(free: Iterable[str], **rules: Rule) -> dict[str, Rule]:
    return {**dict.fromkeys(free, _free), **rules}


VOLUMES = frozenset({"configMap", "downwardAPI", "emptyDir", "hostPath", "image", "nfs", "projected", "secret"})
"""Sources that exist on every node: no plugin of kube-scheduler looks at them."""

_EXPRESSIONS = _items(_table(("key", "values"), operator=_one_of("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")))
TERM_FIELDS = _table((), matchExpressions=_EXPRESSIONS, matchFields=_EXPRESSIONS)
NODE_AFFINITY_FIELDS = _table(
    (),
    requiredDuringSchedulingIgnoredDuringExecution=_object(_table((), nodeSelectorTerms=_items(TERM_FIELDS))),
    preferredDuringSchedulingIgnoredDuringExecution=_items(_table(("weight",), preference=_object(TERM_FIELDS))),
)
AFFINITY_FIELDS = _table(
    (),
    nodeAffinity=_object(NODE_AFFINITY_FIELDS),
    podAffinity=_none("it depends on other pods"),
    podAntiAffinity=_none("it depends on other pods"),
)
TOLERATION_FIELDS = _table(("key", "value", "effect", "tolerationSeconds"), operator=_one_of("", "Exists", "Equal"))
RESOURCE_FIELDS = _table(("limits", "requests"), claims=_none("devices are claimed"))
CONTAINER_FIELDS = _table(
    (
        *("args", "command", "env", "envFrom", "image", "imagePullPolicy", "lifecycle", "livenessProbe", "name"),
        *("readinessProbe", "resizePolicy", "restartPolicy", "securityContext", "startupProbe", "stdin", "stdinOnce"),
        *("terminationMessagePath", "terminationMessagePolicy", "tty", "volumeMounts", "workingDir"),
    ),
    ports=_ports,
    resources=_object(RESOURCE_FIELDS),
    restartPolicyRules=_none("a rule may need a feature that not every node has"),
    volumeDevices=_none("a block device may bind a pod to nodes"),
)
POD_FIELDS = _table(
    (
        *("activeDeadlineSeconds", "automountServiceAccountToken", "dnsConfig", "dnsPolicy", "enableServiceLinks"),
        *("ephemeralContainers", "evictionResponders", "hostAliases", "hostIPC", "hostNetwork", "hostPID", "hostUsers"),
        *("hostname", "hostnameOverride", "imagePullSecrets", "nodeSelector", "os", "overhead", "preemptionPolicy"),
        *("priority", "priorityClassName", "readinessGates", "restartPolicy", "runtimeClassName", "schedulerName"),
        *("securityContext", "serviceAccount", "serviceAccountName", "setHostnameAsFQDN", "shareProcessNamespace"),
        *("subdomain", "terminationGracePeriodSeconds"),
    ),
    affinity=_object(AFFINITY_FIELDS),
    containers=_items(CONTAINER_FIELDS),
    initContainers=_items(CONTAINER_FIELDS),
    nodeName=_none("the pod has a node"),
    resourceClaims=_none("devices are claimed"),
    resources=_object(RESOURCE_FIELDS),
    schedulingGates=_none("a gate holds the pod back"),
    schedulingGroup=_none("kube-scheduler places the group"),
    tolerations=_items(TOLERATION_FIELDS),
    topologySpreadConstraints=_none("it depends on other pods"),
    volumes=_volume,
    workloadRef=_none("kube-scheduler places the workload"),
)
"""Every field of a PodSpec that Kerf knows, up to Kubernetes 1.37."""
