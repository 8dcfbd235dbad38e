# Needs nothing but the classic builder. Both stages must start from the same base: a virtual environment points at
# its interpreter by path.
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS build
# For builds without a network: --build-arg PIP_INSTALL_ARGS="--no-index --find-links /wheelhouse"
ARG PIP_INSTALL_ARGS=""
RUN python3 -m venv /opt/venv
WORKDIR /src
COPY . .
RUN /opt/venv/bin/python -m pip install --no-cache-dir --no-compile ${PIP_INSTALL_ARGS} '.[otel]'

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="wasmcloud-keyvalue-nats" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["keyvalue-nats"]
