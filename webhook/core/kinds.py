"""The kinds that a new pod may be given: each as the pod would be stored, the scheduler's question, the choice."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kerf.values.accepts import Accepts, AcceptsMode, Chosen
from kerf.values.accounts import TenantAccount
from kerf.values.verdict import Misfit
from kerf.wire.accepts import WHERE
from kerf.wire.choosing import KindAnswer, KindQuestion
from kerf.wire.errors import WireError
from webhook.core.accepts import mark, words_of
from webhook.core.draft import Draft
from webhook.core.quota import OverQuota, room_for
from webhook.core.recent import Recent
from webhook.core.settings import Settings

Complete = Callable[[int, TenantAccount | None], Draft]
"""The draft completed as the kind of a number, within a tenant's quota or none. Raises WireError."""
NOT_ASKED = "the scheduler was not asked"


@dataclass(frozen=True, slots=True)
class Advice:
    """What the scheduler said, or in `problem` why there is no answer."""

    answer: KindAnswer | None = None
    problem: str = NOT_ASKED


NO_ADVICE = Advice()


@dataclass(frozen=True, slots=True)
class Offer:
    """A kind with the pod as it would be; `refusal` is why its tenant may not have it."""

    name: str
    draft: Draft
    refusal: str = ""


def offers_of(
    accepts: Accepts, complete: Complete, settings: Settings, tenant: TenantAccount | None, at: tuple[Recent, float]
) -> tuple[Offer, ...]:
    """Every kind. A kind that no pod could ask for as it is written refuses the pod, whichever is chosen: WireError."""
    drafts = [_complete(accepts, number, complete, settings) for number in range(len(accepts.kinds))]
    if tenant is None:
        return tuple(Offer(kind.name, draft) for kind, draft in zip(accepts.kinds, drafts, strict=True))
    return tuple(_within(tenant, accepts, drafts, complete, at))


def _complete(accepts: Accepts, number: int, complete: Complete, settings: Settings) -> Draft:
    try:
        draft = complete(number, None)
    except WireError as error:
        kind = accepts.kinds[number]
        if not any(word in error.field for word in words_of(kind, settings).all):
            raise
        raise WireError(f"{WHERE}.{kind.name}", error.value, f"{error.field}: {error.fix}") from error
    if not draft.ask.containers:
        raise WireError(WHERE, accepts.kinds[number].name, "asks for no card: write ;memory=MIB, or ;cards=N")
    return draft


def _within(
    tenant: TenantAccount, accepts: Accepts, drafts: Sequence[Draft], complete: Complete, at: tuple[Recent, float]
) -> Iterator[Offer]:
    for number, draft in enumerate(drafts):
        name = accepts.kinds[number].name
        try:
            theirs = complete(number, tenant)
        except WireError as error:
            yield Offer(name, draft, str(error))
            continue
        room = room_for(theirs, tenant, *at)
        yield Offer(name, theirs, room.detail if isinstance(room, Misfit) else "")


def question_of(offers: Sequence[Offer], settings: Settings, keep: bool) -> KindQuestion | None:
    """What to ask about the kinds that the tenant may have; None where that is clear or the policy asks nobody."""
    open_to = [offer for offer in offers if not offer.refusal]
    if settings.accepts.mode is not AcceptsMode.CHOOSE or len(open_to) < 2:
        return None
    return KindQuestion(tuple((offer.name, offer.draft.stored()) for offer in open_to), keep)


def choose(offers: Sequence[Offer], accepts: Accepts, advice: Advice) -> Draft:
    """The pod as it is stored, with the note of its kind. Raises OverQuota where its tenant may have none of them."""
    open_to = [offer for offer in offers if not offer.refusal]
    if not open_to:
        raise OverQuota(offers[0].refusal)
    answer = advice.answer
    names = tuple(kind.name for kind in accepts.kinds)
    advised = next((offer for offer in open_to if answer and offer.name == answer.kind), None)
    if answer and advised:
        return mark(advised.draft, Chosen(answer.kind, answer.why, answer.promise, accepts.seal, names))
    return mark(open_to[0].draft, Chosen(open_to[0].name, _first(offers, advice), "", accepts.seal, names))


def _first(offers: Sequence[Offer], advice: Advice) -> str:
    before = [f"{offer.name}: {offer.refusal}" for offer in offers if offer.refusal]
    if len(offers) - len(before) == 1:
        return "; ".join(["the only kind that it may have", *before])
    why = advice.problem if advice.answer is None else "the scheduler's choice is not open to its tenant any more"
    return "; ".join([f"the first kind that it may have: {why}", *before])
