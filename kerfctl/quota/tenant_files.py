"""Tenant files: every TenantQuota of files and folders, checked one by one and against each other."""

from collections import Counter
from collections.abc import Iterable

from kerf.values.quota import TenantQuota
from kerf.wire.errors import WireError
from kerf.wire.json import Json, text_at
from kerf.wire.quota import KIND, conflicts, parse_tenant
from kerfctl.documents import read_objects
from kerfctl.errors import CliError


def read_tenants(paths: Iterable[str]) -> dict[str, Json]:
    """By name, the TenantQuota documents. Raises CliError with a line for each mistake: file, field and fix."""
    found: dict[str, tuple[str, Json, TenantQuota]] = {}
    seen: Counter[str] = Counter()
    mistakes = []
    names = list(paths)
    for path in names:
        for file, document in read_objects(path):
            seen[file] += 1
            try:
                tenant = _tenant(document)
            except WireError as error:
                mistakes.append(f"{file}: {_which(document, seen[file])}: {error}")
                continue
            if tenant.name in found:
                mistakes.append(
                    f"{file}: tenant {tenant.name} is in {found[tenant.name][0]} already: drop one of the two"
                )
                continue
            found[tenant.name] = (file, document, tenant)
    for name, sentence in conflicts(tenant for _, _, tenant in found.values()).items():
        mistakes.append(f"{found[name][0]}: tenant {name}: spec.namespaces: {sentence}")
    if mistakes:
        raise CliError("\n".join(mistakes))
    if not found:
        raise CliError(f"{', '.join(names)}: no TenantQuota; see examples/tenants")
    return {name: document for name, (_, document, _) in sorted(found.items())}


def _which(document: Json, number: int) -> str:
    """The tenant that is meant, or, where it says no name, which document of its file."""
    name = text_at(document, "metadata", "name")
    return f"tenant {name}" if name and document.get("kind") == KIND else f"document {number}"


def _tenant(document: Json) -> TenantQuota:
    """The tenant of a document; another kind in a tenant file is a mistake, as it would be silently left out."""
    if document.get("kind") != KIND:
        raise WireError("kind", document.get("kind"), f"a tenant file holds kind: {KIND} alone")
    return parse_tenant(document)
