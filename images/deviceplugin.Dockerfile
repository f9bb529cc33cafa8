# The device plugin and the limiter that it installs on the host.   docker build -f images/deviceplugin.Dockerfile .
# Base images are pinned by full version, not yet by digest: that needs a reachable registry.
FROM debian:12.11-slim AS limiter
# The compiler is not in the final image, and Debian removes old versions from its mirrors.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
ARG TARGETARCH=amd64
WORKDIR /src
COPY images/limiter.sh images/
COPY limiter limiter
RUN images/limiter.sh "$TARGETARCH" /opt/limiter

FROM python:3.13.7-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY images/install.sh images/subset.py images/deviceplugin.txt images/
COPY requirements/runtime.lock requirements/
COPY kerf kerf
COPY deviceplugin deviceplugin
RUN images/install.sh deviceplugin /opt/kerf

FROM python:3.13.7-slim-bookworm
COPY --from=build /opt/kerf /opt/kerf
COPY --from=limiter /opt/limiter/libkerf.so /opt/kerf/lib/libkerf.so
COPY images/install-limiter /opt/kerf/bin/install-limiter
ENV PYTHONDONTWRITEBYTECODE=1
# Root, without capabilities (the chart drops all): only root may write to the kubelet's sockets and the CDI directory.
# hadolint ignore=DL3002
USER 0:0
ENTRYPOINT ["/opt/kerf/bin/python", "-I", "-m", "deviceplugin"]
