# A worker with NVIDIA GPUs: as cpu.Dockerfile, with torch's CUDA build. The host needs the driver and the NVIDIA container
# toolkit; CUDA's libraries come with torch.
#
#   docker build -f deployments/containers/cuda.Dockerfile -t sbert:cuda .
#   docker run --rm --gpus all --shm-size 2g -e PREFECT_API_URL=http://server:4200/api -e AWS_… sbert:cuda
FROM python:3.11-slim-bookworm AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/sbert
COPY constraints.txt .
RUN /opt/sbert/bin/pip install "torch==$(sed -n 's/^torch==//p' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY sbert sbert
COPY tasks tasks
COPY flows flows
RUN /opt/sbert/bin/pip install -c constraints.txt '.[ray]'

FROM python:3.11-slim-bookworm

RUN useradd --create-home --uid 10001 sbert
COPY --from=build /opt/sbert /opt/sbert
ENV PATH=/opt/sbert/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PREFECT_LOGGING_EXTRA_LOGGERS=sbert,flows,tasks \
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30 \
    RAY_USAGE_STATS_ENABLED=0 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001
WORKDIR /home/sbert
ENTRYPOINT []
CMD ["prefect", "worker", "start", "--pool", "sbert"]
