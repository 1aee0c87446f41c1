# asrkit with everything that its recipes need, for Docker or Podman (docs/first-steps.md):
#     docker build -t asrkit .
#     docker run --rm -v "$PWD:/work" asrkit transcribe speech.wav
FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
COPY . /asrkit
RUN PIP_NO_CACHE_DIR=1 /asrkit/tools/setup.sh
ENV PATH=/asrkit/.venv/bin:$PATH
WORKDIR /work
ENTRYPOINT ["asrkit"]
