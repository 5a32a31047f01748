# One image for server, Ray head and workers. For GPUs give an index with CUDA builds, or leave pip's default, which has them:
#   docker build .                                                          CUDA build where PyPI has one
#   docker build --build-arg PIP_INDEX=https://download.pytorch.org/whl/cpu .   small, CPU only
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends procps \
    && rm -rf /var/lib/apt/lists/*

ARG PIP_INDEX=""
WORKDIR /opt/nas
COPY pyproject.toml requirements.lock README.md ./
COPY nas_service nas_service
COPY search_spaces search_spaces
COPY workers workers
RUN pip install --no-cache-dir ${PIP_INDEX:+--extra-index-url "$PIP_INDEX"} -c requirements.lock .

RUN useradd --create-home --uid 1000 nas && mkdir /data /datasets && chown nas /data
USER nas
VOLUME /data
ENV NAS_DATA_DIR=/data PYTHONUNBUFFERED=1
EXPOSE 8000 8001
CMD ["nas", "serve", "--host", "0.0.0.0"]
