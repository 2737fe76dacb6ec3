# The image of every pipeline step: rankgate and its locked dependencies, non-root, fit for a read-only root.
# Build:  docker build -t registry.example.com/rankgate/python:VERSION .
# Pin the base by digest where you build: python:3.11-slim-bookworm@sha256:...
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/rankgate \
    && /opt/rankgate/bin/pip install --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY components components
COPY pipelines pipelines
COPY bentos bentos
RUN /opt/rankgate/bin/pip install --no-deps --no-build-isolation .

FROM ${BASE}
COPY --from=build /opt/rankgate /opt/rankgate
COPY policies /opt/rankgate/share/policies
# What the release pipeline builds a bento and renders manifests from.
COPY requirements.lock /opt/rankgate/share/rankgate/requirements.lock
COPY manifests /opt/rankgate/share/rankgate/manifests
# Kubeflow mounts what a step writes; the rest of the root may be read-only, with /tmp writable.
ENV PATH=/opt/rankgate/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BENTOML_DO_NOT_TRACK=true \
    DO_NOT_TRACK=1
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["rankgate"]
CMD ["--help"]
