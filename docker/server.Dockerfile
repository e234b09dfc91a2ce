# The skinoct server. One file for CPU and GPU, from the top of the repository:
#
#   docker build -f docker/server.Dockerfile -t skinoct-server .
#   docker build -f docker/server.Dockerfile -t skinoct-server:gpu --build-arg TORCH_INDEX=https://pypi.org/simple .
#
# BASE is any image with Python 3.11 or newer, or a Debian or Ubuntu that has it as a package. It needs no CUDA:
# torch brings its own libraries, and the NVIDIA container toolkit the driver.
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
# torch first and alone: this layer is large and changes only with constraints.txt
COPY constraints.txt /source/
RUN python3 -m venv /opt/skinoct && \
    /opt/skinoct/bin/pip install --no-cache-dir --constraint /source/constraints.txt \
        --extra-index-url "${TORCH_INDEX}" torch safetensors openvino
COPY models /source/models
COPY server /source/server
RUN /opt/skinoct/bin/pip install --no-cache-dir --constraint /source/constraints.txt \
        --extra-index-url "${TORCH_INDEX}" "/source/models[torch,openvino]" /source/server && \
    mkdir -p /opt/skinoct/models && \
    if [ -d /source/models/checkpoints ]; then cp -r /source/models/checkpoints/. /opt/skinoct/models/; fi

FROM python
COPY --from=build /opt/skinoct /opt/skinoct
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin skinoct && \
    mkdir /data && chown skinoct:skinoct /data
USER 10001:10001
# What is compiled at first use depends on the processor; kept in the volume, it is there at the next start
ENV PATH=/opt/skinoct/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SKINOCT_MODELS=/opt/skinoct/models \
    SKINOCT_SERVER_HOST=0.0.0.0 \
    SKINOCT_SERVER_PORT=8000 \
    SKINOCT_SERVER_DATA_DIR=/data \
    SKINOCT_SERVER_LOG_JSON=true \
    NUMBA_CACHE_DIR=/data/compiled
VOLUME /data
EXPOSE 8000
# The server drains for 30 s after SIGTERM
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=90s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"SKINOCT_SERVER_PORT\"]}/healthz', timeout=2)"]
ENTRYPOINT ["skinoct-server", "serve"]
# Without keys it serves only this container: give --api-key-file, or --insecure on a network of your own
