"""Options of `vllm serve` 0.33.0 by how many values they take, as its own parser has them (`make oracle` compares)."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FLAGS = _words(
    """
    aggregate-engine-logging allow-credentials allow-deprecated-quantization async-scheduling
    cohere-is-reasoning-model cudagraph-metrics data-parallel-external-lb data-parallel-hybrid-lb
    data-parallel-multi-port-external-lb dcp-q-replicate disable-auto-tool-choice disable-batch-sharded-sampling
    disable-cascade-attn disable-chunked-mm-input disable-chunked-prefill disable-cumem-allocator
    disable-custom-all-reduce disable-dbo disable-elastic-ep disable-ep-weight-filter disable-eplb
    disable-expert-parallel disable-fastapi-docs disable-fault-tolerance disable-flash-late-interaction
    disable-flashinfer-autotune disable-force-include-usage disable-hc-sp disable-hybrid-kv-cache-manager
    disable-layerwise-nvtx-tracing disable-log-deltas disable-log-outputs disable-log-requests disable-log-stats
    disable-logging-iteration-details disable-lora disable-mamba-cache-stochastic-rounding
    disable-mamba-shared-prefix-checkpoint disable-mfu-metrics disable-mixed-moe-lora-format disable-mm-embeds
    disable-moe-shared-loras disable-nccl-comm-suspend disable-nccl-for-dp-synchronization disable-offline-docs
    disable-per-request-metrics disable-prefix-caching disable-prompt-embeds disable-prompt-tokens-details
    disable-request-id-headers disable-return-routed-experts disable-scale-out disable-server-load-tracking
    disable-shm-tensor-arena disable-sleep-mode disable-sliding-window disable-ssl-refresh
    disable-tokenizer-info-endpoint disable-tower-connector-lora disable-trace-replay disable-uvicorn-access-log dpe
    dph dpm enable-auto-tool-choice enable-batch-sharded-sampling enable-cascade-attn enable-chunked-mm-input
    enable-chunked-prefill enable-cumem-allocator enable-custom-all-reduce enable-dbo enable-elastic-ep
    enable-ep-weight-filter enable-eplb enable-expert-parallel enable-fastapi-docs enable-fault-tolerance
    enable-flash-late-interaction enable-flashinfer-autotune enable-force-include-usage enable-hc-sp
    enable-hybrid-kv-cache-manager enable-layerwise-nvtx-tracing enable-log-deltas enable-log-outputs
    enable-log-requests enable-logging-iteration-details enable-lora enable-mamba-cache-stochastic-rounding
    enable-mamba-shared-prefix-checkpoint enable-mfu-metrics enable-mixed-moe-lora-format enable-mm-embeds
    enable-moe-shared-loras enable-nccl-comm-suspend enable-nccl-for-dp-synchronization enable-offline-docs
    enable-per-request-metrics enable-prefix-caching enable-prompt-embeds enable-prompt-tokens-details
    enable-request-id-headers enable-return-routed-experts enable-scale-out enable-server-load-tracking
    enable-shm-tensor-arena enable-sleep-mode enable-sliding-window enable-ssl-refresh
    enable-tokenizer-info-endpoint enable-tower-connector-lora enable-trace-replay enable-uvicorn-access-log
    enforce-eager ep exclude-tools-when-tool-choice-none fail-on-environ-validation fully-sharded-loras grpc h
    headless help interleave-mm-strings jit-monitor-verbose kv-cache-metrics kv-sharing-fast-prefill
    language-model-only log-error-stack long-prefill-token-threshold-adaptive mm-device-do-normalize mm-encoder-only
    monokernel no-allow-credentials no-allow-deprecated-quantization no-async-scheduling
    no-cohere-is-reasoning-model no-cudagraph-metrics no-data-parallel-external-lb no-data-parallel-hybrid-lb
    no-dcp-q-replicate no-enforce-eager no-exclude-tools-when-tool-choice-none no-fail-on-environ-validation
    no-fully-sharded-loras no-interleave-mm-strings no-jit-monitor-verbose no-kv-cache-metrics
    no-kv-sharing-fast-prefill no-language-model-only no-log-error-stack no-long-prefill-token-threshold-adaptive
    no-mm-device-do-normalize no-mm-encoder-only no-monokernel no-numa-bind no-ray-workers-use-nsight
    no-return-sampling-mask no-return-tokens-as-token-ids no-scheduler-reserve-full-isl no-skip-mm-profiling
    no-skip-tokenizer-init no-sleep-mode-offload-cudagraph no-specialize-active-lora no-swa-bounded-replay
    no-tokens-only no-trust-remote-code no-trust-request-chat-template no-trust-request-mm-kwargs no-use-fp64-gumbel
    no-use-replayssm no-use-tqdm-on-load numa-bind ray-workers-use-nsight return-sampling-mask
    return-tokens-as-token-ids scheduler-reserve-full-isl skip-mm-profiling skip-tokenizer-init
    sleep-mode-offload-cudagraph specialize-active-lora swa-bounded-replay tokens-only trust-remote-code
    trust-request-chat-template trust-request-mm-kwargs use-fp64-gumbel use-replayssm use-tqdm-on-load
    """
)
"""Those that take no value."""
LISTS = _words(
    """
    allowed-media-domains api-key collect-detailed-traces cpu-offload-params cudagraph-capture-sizes ignore-patterns
    kv-cache-dtype-skip-layers logits-processors lora-modules lora-target-modules numa-bind-cpus numa-bind-nodes
    offload-params served-model-name sleep-preserve-parameter-names
    """
)
"""Those that take several values, each a word of its own."""
