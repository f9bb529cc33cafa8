"""What sets a pod apart for the scopes of a ResourceQuota."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Traits:
    """What the scopes of a ResourceQuota look at in a pod."""

    terminating: bool = False
    """It has an active deadline."""
    best_effort: bool = False
    """None of its containers asks for CPU or memory."""
    priority_class: str = ""
    cross_namespace: bool = False
    """Its affinity looks at pods of other namespaces."""


ORDINARY = Traits()


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """One condition on the pods that a ResourceQuota counts. A scope that is not known counts every pod."""

    name: str
    operator: str = "Exists"
    values: tuple[str, ...] = ()

    def takes(self, pod: Traits) -> bool:
        """Whether a pod counts."""
        match self.name:
            case "Terminating":
                return pod.terminating
            case "NotTerminating":
                return not pod.terminating
            case "BestEffort":
                return pod.best_effort
            case "NotBestEffort":
                return not pod.best_effort
            case "CrossNamespacePodAffinity":
                return pod.cross_namespace
            case "PriorityClass":
                return self._named(pod.priority_class)
            case _:
                return True

    def _named(self, priority_class: str) -> bool:
        match self.operator:
            case "Exists":
                return bool(priority_class)
            case "DoesNotExist":
                return not priority_class
            case "In":
                return priority_class in self.values
            case "NotIn":
                return priority_class not in self.values
            case _:
                return True
