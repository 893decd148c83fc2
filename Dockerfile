# One image with the four programs; the command says which one runs:
#   docker build -t recharge . && docker run --env-file … recharge api

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Libraries and intermediate results stay in caches between builds; only the programs are kept in the layer.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release -p api -p worker -p ops -p simulator && \
    mkdir /programs && \
    cp target/release/api target/release/worker target/release/ops target/release/simulator /programs/

FROM debian:bookworm-slim
# The roots of trust for WeChat Pay's TLS.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* && \
    useradd --system --uid 10001 --home-dir /data recharge && install -d -o recharge -m 0755 /data
COPY --from=build /programs/ /usr/local/bin/
USER recharge
WORKDIR /data
ENV API_LISTEN=0.0.0.0:8080 WORKER_LISTEN=0.0.0.0:8081 LOG_FORMAT=json
EXPOSE 8080 8081
CMD ["api"]
