# The provider as lattice hosts start it: host data on standard input, calls over NATS. There is no shell, no port and no
# health check: the lattice asks for health itself. The classic builder is enough.
ARG BASE_IMAGE=python:3.11-slim
# The base, or an image derived from it for the build: with compilers where there are no wheels, or with all wheels and
# PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheelhouse where there is no network.
ARG BUILD_IMAGE=${BASE_IMAGE}

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
# Modules are compiled once, here, because the user of the image cannot write a cache of its own.
RUN python3 -m venv /opt/keyvalue-nats \
    && /opt/keyvalue-nats/bin/pip install --no-cache-dir --no-compile '.[otel]' \
    && PYTHONPYCACHEPREFIX=/opt/pycache /opt/keyvalue-nats/bin/python image/trim.py

# The state-proxy connector: docker build --target state-proxy -t asya-state-proxy-nats-kv-buffered-cas .
# It has 32 MiB of memory. Leaving out docstrings saves 1 MiB; the MALLOC settings return large bodies to the kernel.
FROM build AS state-proxy-build
RUN PYTHONPYCACHEPREFIX=/opt/pycache /opt/keyvalue-nats/bin/python -OO image/compile_connector.py

FROM ${BASE_IMAGE} AS state-proxy
LABEL org.opencontainers.image.title="asya-state-proxy-nats-kv-buffered-cas" \
      org.opencontainers.image.description="A state-proxy connector: an actor's files in a NATS JetStream bucket" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=state-proxy-build /opt /opt
ENV PATH=/opt/keyvalue-nats/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPYCACHEPREFIX=/opt/pycache PYTHONOPTIMIZE=2 \
    MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=131072 MALLOC_TRIM_THRESHOLD_=131072
USER 65532:65532
ENTRYPOINT ["keyvalue-nats", "state-proxy"]

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="wasmcloud-keyvalue-nats" \
      org.opencontainers.image.description="A wasmCloud capability provider that serves wasmcloud:keyvalue from NATS" \
      org.opencontainers.image.licenses="Apache-2.0"
# Both stages must have the interpreter at the same path, because a virtual environment points at it.
COPY --from=build /opt /opt
ENV PATH=/opt/keyvalue-nats/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPYCACHEPREFIX=/opt/pycache
USER 65532:65532
ENTRYPOINT ["keyvalue-nats"]
