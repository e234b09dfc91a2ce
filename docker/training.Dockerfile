# Training of skinoct models, from the top of the repository:
#
#   docker build -f docker/training.Dockerfile -t skinoct-training .
#   docker run --rm --user $(id -u) --read-only --tmpfs /tmp -v ./data:/data skinoct-training \
#       fit /data/train --out /data/my-model --minutes 60
#
# On a GPU: --build-arg TORCH_INDEX=https://pypi.org/simple, and docker run --gpus all --shm-size 2g.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS python
RUN python3 -c 'import venv, ensurepip' 2>/dev/null || \
    (apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv ca-certificates && \
     rm -rf /var/lib/apt/lists/*)

FROM python AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# pip reads these from the environment: a folder of wheels, and certificates, where the internet is behind a proxy
ARG PIP_FIND_LINKS
ARG PIP_CERT
COPY constraints.txt /source/
RUN python3 -m venv /opt/skinoct && \
    /opt/skinoct/bin/pip install --no-cache-dir --constraint /source/constraints.txt \
        --extra-index-url "${TORCH_INDEX}" torch safetensors
COPY models /source/models
COPY training /source/training
RUN /opt/skinoct/bin/pip install --no-cache-dir --constraint /source/constraints.txt \
        --extra-index-url "${TORCH_INDEX}" "/source/models[torch]" /source/training && \
    mkdir -p /opt/skinoct/models && \
    if [ -d /source/models/checkpoints ]; then cp -r /source/models/checkpoints/. /opt/skinoct/models/; fi

FROM python
COPY --from=build /opt/skinoct /opt/skinoct
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin skinoct && \
    mkdir /data && chown skinoct:skinoct /data
USER 10001:10001
ENV PATH=/opt/skinoct/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    SKINOCT_MODELS=/opt/skinoct/models
VOLUME /data
WORKDIR /data
HEALTHCHECK NONE
ENTRYPOINT ["skinoct-train"]
