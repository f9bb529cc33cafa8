"""What Kerf knows of every field of a PodSpec and of the objects within it, up to Kubernetes 1.37. Pure.

A table has a rule for each field of an object. A field without a rule is not known, so a newer Kubernetes can add
constraints, at any depth, and nothing goes wrong. What says nothing about nodes has a rule that is always satisfied.
"""

from collections.abc import Callable, Mapping

from kerf.wire.json import Json

Rule = Callable[[object], str]
"""A field's value to why the pod is not the lane's; empty where it may be."""
Table = Mapping[str, Rule]


def first(value: Json, rules: Table, where: str) -> str:
    """The first field that a rule refuses, or that has no rule, with why; empty where there is none."""
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


def _object(rules: Table) -> Rule:
    def rule(value: object) -> str:
        if not isinstance(value, Mapping):
            return "it is no object"
        return first(value, rules, "")

    return rule


def _items(rules: Table) -> Rule:
    def rule(value: object) -> str:
        if not isinstance(value, list):
            return "it is no list"
        for number, item in enumerate(value):
            if not isinstance(item, Mapping):
                return f"[{number}]: it is no object"
            if found := first(item, rules, ""):
                return f"[{number}]{found}"
        return ""

    return rule


def _one_of(*words: str) -> Rule:
    def rule(value: object) -> str:
        return "" if value in words else f"{str(value)[:40]!r} is not known to Kerf"

    return rule


def _volumes(kinds: Table) -> Rule:
    """A volume names itself and one source. Sources that are not listed may have a place in the cluster."""
    known = _items(kinds)

    def rule(value: object) -> str:
        for number, item in enumerate(value if isinstance(value, list) else ()):
            named = item.items() if isinstance(item, Mapping) else ()
            if other := next((kind for kind, content in named if content is not None and kind not in kinds), ""):
                return f"[{number}].{other}: such a volume may bind a pod to nodes"
        return known(value)

    return rule


def _table(free: str, **rules: Rule) -> Table:
    """`free` are the fields that do not limit where the pod may run."""
    return {**dict.fromkeys(free.split(), _free), **rules}


# ---- tables
_NEW = _none("nodes that are older than the API server may not know it")
_PODS_DECIDE = _none("it depends on other pods")
_CLAIMED = _none("devices are claimed")
FIELDS: dict[str, Table] = {
    name: _table(free)
    for name, free in {
        "AppArmorProfile": "localhostProfile type",
        "Capabilities": "add drop",
        "ConfigMapEnvSource": "name optional",
        "ConfigMapKeySelector": "key name optional",
        "ContainerResizePolicy": "resourceName restartPolicy",
        "EvictionResponder": "name priority",
        "ExecAction": "command",
        "FileKeySelector": "key optional path volumeName",
        "HTTPHeader": "name value",
        "HostAlias": "hostnames ip",
        "HostPathVolumeSource": "path type",
        "ImageVolumeSource": "pullPolicy reference",
        "LabelSelectorRequirement": "key operator values",
        "LocalObjectReference": "name",
        "NFSVolumeSource": "path readOnly server",
        "ObjectFieldSelector": "apiVersion fieldPath",
        "PodDNSConfigOption": "name value",
        "PodOS": "name",
        "PodReadinessGate": "conditionType",
        "ResourceFieldSelector": "containerName divisor resource",
        "SELinuxOptions": "level role type user",
        "SeccompProfile": "localhostProfile type",
        "SecretEnvSource": "name optional",
        "SecretKeySelector": "key name optional",
        "SleepAction": "seconds",
        "Sysctl": "name value",
        "TCPSocketAction": "host port",
        "WindowsSecurityContextOptions": "gmsaCredentialSpec gmsaCredentialSpecName hostProcess runAsUserName",
    }.items()
}
"""By the name that an object's kind has in the API."""


def _is(kind: str) -> Rule:
    return _object(FIELDS[kind])


def _are(kind: str) -> Rule:
    return _items(FIELDS[kind])


def _define(kind: str, free: str = "", **rules: Rule) -> None:
    FIELDS[kind] = _table(free, **rules)


_define("GRPCAction", "port service", mode=_NEW)
_define("HTTPGetAction", "host path port scheme", httpHeaders=_are("HTTPHeader"), protocol=_NEW)
_HANDLERS = {"exec": _is("ExecAction"), "httpGet": _is("HTTPGetAction"), "tcpSocket": _is("TCPSocketAction")}
_define("LifecycleHandler", "", sleep=_is("SleepAction"), **_HANDLERS)
_define("Lifecycle", "stopSignal", postStart=_is("LifecycleHandler"), preStop=_is("LifecycleHandler"))
_define(
    "Probe",
    "failureThreshold initialDelaySeconds periodSeconds successThreshold terminationGracePeriodSeconds timeoutSeconds",
    grpc=_is("GRPCAction"),
    **_HANDLERS,
)
_define(
    "EnvVarSource",
    configMapKeyRef=_is("ConfigMapKeySelector"),
    fieldRef=_is("ObjectFieldSelector"),
    fileKeyRef=_is("FileKeySelector"),
    resourceFieldRef=_is("ResourceFieldSelector"),
    secretKeyRef=_is("SecretKeySelector"),
)
_define("EnvVar", "name value", valueFrom=_is("EnvVarSource"))
_define("EnvFromSource", "prefix", configMapRef=_is("ConfigMapEnvSource"), secretRef=_is("SecretEnvSource"))
_define(
    "VolumeMount",
    "mountPath mountPropagation name readOnly recursiveReadOnly subPath subPathExpr",
    bindMountOptions=_NEW,
)
_define("ContainerPort", "containerPort hostIP name protocol", hostPort=_none("a port of the node may be taken"))
_define("ResourceRequirements", "limits requests", claims=_CLAIMED)
_SECURITY = {
    "appArmorProfile": _is("AppArmorProfile"),
    "seLinuxOptions": _is("SELinuxOptions"),
    "seccompProfile": _is("SeccompProfile"),
    "windowsOptions": _is("WindowsSecurityContextOptions"),
}
_define(
    "SecurityContext",
    "allowPrivilegeEscalation privileged procMount readOnlyRootFilesystem runAsGroup runAsNonRoot runAsUser",
    capabilities=_is("Capabilities"),
    **_SECURITY,
)
_define(
    "PodSecurityContext",
    "fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot runAsUser seLinuxChangePolicy supplementalGroups "
    "supplementalGroupsPolicy",
    sysctls=_are("Sysctl"),
    **_SECURITY,
)
_define(
    "Container",
    "args command image imagePullPolicy name restartPolicy stdin stdinOnce terminationMessagePath "
    "terminationMessagePolicy tty workingDir",
    env=_are("EnvVar"),
    envFrom=_are("EnvFromSource"),
    lifecycle=_is("Lifecycle"),
    livenessProbe=_is("Probe"),
    ports=_are("ContainerPort"),
    readinessProbe=_is("Probe"),
    resizePolicy=_are("ContainerResizePolicy"),
    resources=_is("ResourceRequirements"),
    restartPolicyRules=_none("a rule may need a feature that not every node has"),
    securityContext=_is("SecurityContext"),
    startupProbe=_is("Probe"),
    volumeDevices=_none("a block device may bind a pod to nodes"),
    volumeMounts=_are("VolumeMount"),
)
_define("EphemeralContainer", "targetContainerName", **FIELDS["Container"])

_define("KeyToPath", "key mode path", user=_NEW)
_define(
    "DownwardAPIVolumeFile",
    "mode path",
    fieldRef=_is("ObjectFieldSelector"),
    resourceFieldRef=_is("ResourceFieldSelector"),
    user=_NEW,
)
_define("LabelSelector", "matchLabels", matchExpressions=_are("LabelSelectorRequirement"))
_define("ClusterTrustBundleProjection", "name optional path signerName", labelSelector=_is("LabelSelector"), user=_NEW)
_define("ConfigMapProjection", "name optional", items=_are("KeyToPath"))
_define("DownwardAPIProjection", items=_are("DownwardAPIVolumeFile"))
_define(
    "PodCertificateProjection",
    "certificateChainPath credentialBundlePath keyPath keyType maxExpirationSeconds signerName userAnnotations",
    user=_NEW,
)
_define("SecretProjection", "name optional", items=_are("KeyToPath"))
_define("ServiceAccountTokenProjection", "audience expirationSeconds path", user=_NEW)
_define(
    "VolumeProjection",
    clusterTrustBundle=_is("ClusterTrustBundleProjection"),
    configMap=_is("ConfigMapProjection"),
    downwardAPI=_is("DownwardAPIProjection"),
    podCertificate=_is("PodCertificateProjection"),
    secret=_is("SecretProjection"),
    serviceAccountToken=_is("ServiceAccountTokenProjection"),
)
_define("ConfigMapVolumeSource", "defaultMode name optional", items=_are("KeyToPath"), defaultUser=_NEW)
_define("DownwardAPIVolumeSource", "defaultMode", items=_are("DownwardAPIVolumeFile"), defaultUser=_NEW)
_define("EmptyDirVolumeSource", "medium sizeLimit", mode=_NEW)
_define("ProjectedVolumeSource", "defaultMode", sources=_are("VolumeProjection"), defaultUser=_NEW)
_define("SecretVolumeSource", "defaultMode optional secretName", items=_are("KeyToPath"), defaultUser=_NEW)
VOLUMES: Table = {
    "configMap": _is("ConfigMapVolumeSource"),
    "downwardAPI": _is("DownwardAPIVolumeSource"),
    "emptyDir": _is("EmptyDirVolumeSource"),
    "hostPath": _is("HostPathVolumeSource"),
    "image": _is("ImageVolumeSource"),
    "nfs": _is("NFSVolumeSource"),
    "projected": _is("ProjectedVolumeSource"),
    "secret": _is("SecretVolumeSource"),
}
"""Sources that exist on every node: no plugin of kube-scheduler looks at them."""

_define("NodeSelectorRequirement", "key values", operator=_one_of("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"))
_EXPRESSIONS = _are("NodeSelectorRequirement")
_define("NodeSelectorTerm", matchExpressions=_EXPRESSIONS, matchFields=_EXPRESSIONS)
_define("NodeSelector", nodeSelectorTerms=_are("NodeSelectorTerm"))
_define("PreferredSchedulingTerm", "weight", preference=_is("NodeSelectorTerm"))
_define(
    "NodeAffinity",
    requiredDuringSchedulingIgnoredDuringExecution=_is("NodeSelector"),
    preferredDuringSchedulingIgnoredDuringExecution=_are("PreferredSchedulingTerm"),
)
_define("Affinity", nodeAffinity=_is("NodeAffinity"), podAffinity=_PODS_DECIDE, podAntiAffinity=_PODS_DECIDE)
_define("Toleration", "key value effect tolerationSeconds", operator=_one_of("", "Exists", "Equal"))
_define("PodDNSConfig", "nameservers searches", options=_are("PodDNSConfigOption"))
_define(
    "PodSpec",
    "activeDeadlineSeconds automountServiceAccountToken dnsPolicy enableServiceLinks hostIPC hostNetwork hostPID "
    "hostUsers hostname hostnameOverride nodeSelector overhead preemptionPolicy priority priorityClassName "
    "restartPolicy runtimeClassName schedulerName serviceAccount serviceAccountName setHostnameAsFQDN "
    "shareProcessNamespace subdomain terminationGracePeriodSeconds",
    affinity=_is("Affinity"),
    containers=_are("Container"),
    dnsConfig=_is("PodDNSConfig"),
    ephemeralContainers=_are("EphemeralContainer"),
    evictionResponders=_are("EvictionResponder"),
    hostAliases=_are("HostAlias"),
    imagePullSecrets=_are("LocalObjectReference"),
    initContainers=_are("Container"),
    nodeName=_none("the pod has a node"),
    os=_is("PodOS"),
    readinessGates=_are("PodReadinessGate"),
    resourceClaims=_CLAIMED,
    resources=_is("ResourceRequirements"),
    schedulingGates=_none("a gate holds the pod back"),
    schedulingGroup=_none("kube-scheduler places the group"),
    securityContext=_is("PodSecurityContext"),
    tolerations=_are("Toleration"),
    topologySpreadConstraints=_PODS_DECIDE,
    volumes=_volumes({"name": _free, **VOLUMES}),
    workloadRef=_none("kube-scheduler places the workload"),
)
