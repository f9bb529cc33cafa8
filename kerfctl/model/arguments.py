"""What the verbs about one model share: its source and what its server must hold."""

import argparse
from typing import Any

LOCAL = "a folder, a config.json, a name of the catalogue, or a ModelSpec file"


def add_ask(parser: argparse.ArgumentParser) -> None:
    """The model and the load."""
    parser.add_argument("model", metavar="MODEL", help=LOCAL)
    parser.add_argument("--runtime", default="vllm", metavar="vllm|sglang", help="default: vllm")
    parser.add_argument("--runtime-version", default="", metavar="V", help="default: the version whose rules are known")
    parser.add_argument("--max-len", type=int, metavar="N", help="tokens of a request; default: what the engine takes")
    parser.add_argument(
        "--concurrency", type=int, default=1, metavar="N", help="requests of full length at once; default: 1"
    )
    parser.add_argument(
        "--tp", type=int, metavar="N", help="cards for tensor parallelism; default: the fewest that fit"
    )
    parser.add_argument("--pp", type=int, default=1, metavar="N", help="pipeline stages; default: 1")
    parser.add_argument("--ep", type=int, default=1, metavar="N", help="ranks that share out whole experts, as --tp")
    parser.add_argument("--kv-dtype", default="auto", metavar="D", help="auto, bfloat16, fp8, …; default: auto")
    parser.add_argument("--quantization", default="", metavar="Q", help="quantise at load: fp8 or bitsandbytes")
    parser.add_argument("--batched-tokens", type=int, metavar="N", help="tokens of one step; default: 2048")


def add_card(parser: argparse.ArgumentParser) -> None:
    """The card."""
    parser.add_argument("--card", default="", metavar="NAME", help="H100, L40S, …: the slice must fit it")
    parser.add_argument("--card-mib", type=int, metavar="M", help="MiB that a slice may have at most")


def ask_of(args: argparse.Namespace) -> Any:
    """The ask that the arguments describe."""
    from kerf.sizing.request import BATCHED_TOKENS, Ask

    return Ask(
        runtime=args.runtime,
        version=args.runtime_version,
        max_len=args.max_len,
        concurrency=args.concurrency,
        tp=args.tp,
        pp=args.pp,
        ep=args.ep,
        kv_dtype=args.kv_dtype,
        quantization=args.quantization,
        batched_tokens=BATCHED_TOKENS if args.batched_tokens is None else args.batched_tokens,
        card=getattr(args, "card", ""),
        card_mib=getattr(args, "card_mib", None),
    )
