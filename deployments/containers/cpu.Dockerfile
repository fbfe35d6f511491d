# A worker without a GPU: runs flows, and Dask or Ray workers on CPUs.
#
#   docker build -f deployments/containers/cpu.Dockerfile -t sbert:cpu --build-arg TORCH_INDEX=URL .
#   docker run --rm -e PREFECT_API_URL=http://server:4200/api -e AWS_… sbert:cpu prefect worker start --pool sbert
#
# TORCH_INDEX is the index of torch's CPU wheels, as PyTorch's installation page names it; without it x86 machines get the
# default build, which works but brings gigabytes of CUDA libraries. Nothing secret is in the image: credentials come from the environment of the container.
FROM python:3.11-slim-bookworm AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/sbert
ARG TORCH_INDEX=
COPY constraints.txt .
RUN /opt/sbert/bin/pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch==$(sed -n 's/^torch==//p' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY sbert sbert
COPY tasks tasks
COPY flows flows
RUN /opt/sbert/bin/pip install -c constraints.txt '.[dask,ray]'
# The kernels are compiled here, so that the image needs no compiler; on other processors than x86 there are none.
RUN apt-get update && apt-get install -y --no-install-recommends g++
RUN mkdir -p /cache/sbert-prefect && XDG_CACHE_HOME=/cache /opt/sbert/bin/python -m sbert.encoder.engine.compiled

FROM python:3.11-slim-bookworm

RUN useradd --create-home --uid 10001 sbert
COPY --from=build /opt/sbert /opt/sbert
COPY --from=build --chown=10001 /cache /home/sbert/.cache
ENV PATH=/opt/sbert/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PREFECT_LOGGING_EXTRA_LOGGERS=sbert,flows,tasks \
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30 \
    RAY_USAGE_STATS_ENABLED=0
USER 10001
WORKDIR /home/sbert
ENTRYPOINT []
CMD ["prefect", "worker", "start", "--pool", "sbert"]
