"""What the verbs about one model share: its source and what its server must hold."""

import argparse
from typing import Any

LOCAL = "a folder, a config.json, a name of the catalogue, or a ModelSpec file"


def add_ask(parser: argparse.ArgumentParser) -> None:
    """The model and the load."""
    parser.add_argument("model", metavar="MODEL", help=LOCAL)
    parser.add_argument("--runtime", default="vllm", metavar="vllm|sglang", help="default: vllm")
    parser.add_argument("--runtime-version", default="", metavar="V", help="default: the version whose rules are known")
    parser.add_argument(
        "--max-len", metavar="N", help="tokens of a request; 32k is what the engine makes of it; default: its own"
    )
    parser.add_argument("--concurrency", default="1", metavar="N", help="requests of full length at once; default: 1")
    parser.add_argument("--tp", metavar="N", help="cards for tensor parallelism; default: the fewest that fit")
    parser.add_argument("--pp", default="1", metavar="N", help="pipeline stages; default: 1")
    parser.add_argument("--ep", default="1", metavar="N", help="ranks that share out whole experts, as --tp")
    parser.add_argument("--kv-dtype", default="auto", metavar="D", help="auto, bfloat16, fp8, …; default: auto")
    parser.add_argument("--quantization", default="", metavar="Q", help="quantise at load: fp8 or bitsandbytes")
    parser.add_argument("--loras", default="0", metavar="N", help="LoRA adapters loaded at once; default: none")
    parser.add_argument("--lora-rank", default="16", metavar="R", help="the largest rank of an adapter; default: 16")
    parser.add_argument("--batched-tokens", metavar="N", help="tokens of one step; default: 2048")


def add_card(parser: argparse.ArgumentParser) -> None:
    """The card."""
    parser.add_argument("--card", default="", metavar="NAME", help="H100, L40S, …: the slice must fit it")
    parser.add_argument("--card-mib", metavar="M", help="MiB that a slice may have at most")


def ask_of(args: argparse.Namespace) -> Any:
    """The ask that the arguments describe. Raises WireError."""
    from kerf.sizing.request import BATCHED_TOKENS, Ask, known_runtime

    known_runtime(args.runtime)
    tokens = _number(args, "batched_tokens")
    return Ask(
        runtime=args.runtime,
        version=args.runtime_version,
        max_len=_number(args, "max_len"),
        concurrency=_number(args, "concurrency") or 0,
        tp=_number(args, "tp"),
        pp=_number(args, "pp") or 0,
        ep=_number(args, "ep") or 0,
        kv_dtype=args.kv_dtype,
        quantization=args.quantization,
        batched_tokens=BATCHED_TOKENS if tokens is None else tokens,
        card=getattr(args, "card", ""),
        card_mib=_number(args, "card_mib"),
        loras=_number(args, "loras") or 0,
        lora_rank=_number(args, "lora_rank") or 0,
    )


def _number(args: argparse.Namespace, name: str) -> int | None:
    """A flag's number as the engine of the ask reads its own option. Raises WireError."""
    from kerf.sizing.launch import ASKED
    from kerf.sizing.options import SUFFIXED, typed

    text = getattr(args, name, None)
    if text is None:
        return None
    suffixed = ASKED[args.runtime].get(name) in SUFFIXED[args.runtime]
    return typed(text, name.replace("_", "-"), args.runtime, suffixed=suffixed)


def readings(args: argparse.Namespace) -> list[str]:
    """What was made of numbers with a suffix, a sentence each: engines read them differently."""
    from kerf.sizing.request import VERSIONS

    found = []
    for name in ("max_len", "batched_tokens"):
        text = getattr(args, name) or ""
        if text and not text.isdigit():
            engine = f"{args.runtime} {VERSIONS[args.runtime]}"
            found.append(f"--{name.replace('_', '-')} {text} is {_number(args, name):,}, as {engine} reads it.")
    return found
