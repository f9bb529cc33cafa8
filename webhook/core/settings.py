"""What the admission rules need to know of the installation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from kerf.sizing.catalogue import Catalogue
from kerf.values.accepts import AcceptsSettings
from kerf.values.accounts import ClassAccount, TenantAccount
from kerf.values.device import Card, Mode
from kerf.values.learned import Learned, LearningMode
from kerf.values.policy import AdmissionSettings, Defaults, QuotaEngine, QuotaSettings
from kerf.values.quota import CardClass, a_card_of
from kerf.values.vendor import ResourceNames, Vendor, fixed_keys, with_slicing, words_of, written_keys

CONTROLLERS = (
    "system:kube-controller-manager",
    "system:serviceaccount:kube-system:*",
    "system:serviceaccount:kueue-system:kueue-controller-manager",
    "system:serviceaccount:jobset-system:jobset-controller-manager",
    "system:serviceaccount:lws-system:lws-controller-manager",
    "system:serviceaccount:kubeflow:training-operator",
    "system:serviceaccount:kubeflow-system:kubeflow-trainer-controller-manager",
    "system:serviceaccount:kuberay-operator:kuberay-operator",
    "system:serviceaccount:ray-system:kuberay-operator",
)
"""The controllers that make pods, where their documentation installs them. No tenant may hold these namespaces."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the rules. A changed policy, or a change among the tenants, makes a new value."""

    vendors: tuple[Vendor, ...] = field(repr=False)
    defaults: Defaults = field(default_factory=Defaults)
    scheduler_name: str = "kerf-scheduler"
    runtime_classes: Mapping[str, str] = field(default_factory=dict)
    """By vendor, the RuntimeClass for pods that ask for its cards and name none. Without one the node decides."""
    allowed_schedulers: frozenset[str] = frozenset()
    """Further schedulers that pods with cards may name, while a cluster moves over."""
    opted_out_cards: bool = False
    """Pods that opted out may ask for cards: other nodes offer them by another device plugin."""
    trusted: frozenset[str] = frozenset()
    """Users who may change on a live pod what only Kerf or HAMi's components write."""
    controllers: tuple[str, ...] = CONTROLLERS
    """Users whose `ownerReferences` are believed, as shell patterns."""
    quota: QuotaSettings = field(default_factory=QuotaSettings)
    catalogue: Catalogue = field(default_factory=Catalogue)
    """Models that pods may name."""
    model_card: str = ""
    """The card for which such pods are sized where they select none; empty for one card of any size."""
    learning: LearningMode = LearningMode.OFF
    learned: Learned = field(default_factory=Learned)
    """What servers of models were seen to hold; it sizes pods where `learning` is to apply it."""
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    accepts: AcceptsSettings = field(default_factory=AcceptsSettings)
    tenants: Mapping[str, TenantAccount] = field(default_factory=dict)
    """The tenants' accounts by namespace."""
    words: tuple[ResourceNames, ...] = field(init=False, repr=False)
    """Every vendor's words in the pod contract."""
    by_vendor: Mapping[str, ResourceNames] = field(init=False, repr=False)
    """The same words by the vendor's name."""
    models: tuple[str, ...] = field(init=False, repr=False)
    """Every model of card of which some tenant has quota, sorted."""
    resources: frozenset[str] = field(init=False, repr=False)
    """Every resource in which users ask for cards."""
    written: frozenset[str] = field(init=False, repr=False)
    fixed: frozenset[str] = field(init=False, repr=False)
    """Annotations that vendors' own device plugins obey: the scheduler alone writes them."""

    def __post_init__(self) -> None:
        words = words_of(self.vendors)
        object.__setattr__(self, "words", words)
        object.__setattr__(self, "by_vendor", {names.vendor: names for names in words})
        found = {entry.model for account in self.tenants.values() for entry in account.classes}
        object.__setattr__(self, "models", tuple(sorted(found)))
        object.__setattr__(self, "written", written_keys(self.vendors))
        object.__setattr__(self, "fixed", fixed_keys(self.vendors))
        object.__setattr__(self, "resources", frozenset(name for names in words for name in names.all))

    def is_controller(self, user: str) -> bool:
        """Whether what a user says of an object's controller is believed."""
        return any(fnmatchcase(user, pattern) for pattern in self.controllers)

    def sample(self, entry: ClassAccount) -> Card:
        """The smallest card of a class, divided as its vendor says."""
        card = a_card_of(
            CardClass(entry.vendor, entry.model, Mode(entry.mode)), entry.smallest_mib, reserved_mib=entry.reserved_mib
        )
        return with_slicing((card,), self.vendors)[0]

    def tenant(self, namespace: str) -> TenantAccount | None:
        """The tenant of a namespace; None where there is none or quota is off."""
        return None if self.quota.engine is QuotaEngine.OFF else self.tenants.get(namespace)


def by_namespace(accounts: Iterable[TenantAccount]) -> dict[str, TenantAccount]:
    """Tenants by namespace. If two claim one namespace, the first by name has it, as in the scheduler.

    A tenant of whose file nothing can be kept takes no namespace from another.
    """
    found: dict[str, TenantAccount] = {}
    for account in sorted(accounts, key=lambda account: (account.holds_nothing, account.name)):
        for namespace in account.namespaces:
            found.setdefault(namespace, account)
    return found
