# The scheduler extender.   docker build -f images/scheduler.Dockerfile .
# Base images are pinned by full version, not yet by digest: that needs a reachable registry.
FROM python:3.13.7-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY images/install.sh images/subset.py images/scheduler.txt images/
COPY requirements/runtime.lock requirements/
COPY kerf kerf
COPY scheduler scheduler
COPY webhook webhook
COPY kerfctl kerfctl
RUN images/install.sh scheduler /opt/kerf

FROM python:3.13.7-slim-bookworm
COPY --from=build /opt/kerf /opt/kerf
ENV PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["/opt/kerf/bin/python", "-I", "-m", "scheduler"]
