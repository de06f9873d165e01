# The command alone on an empty root: no shell, no libc, not root.

# Built on the machine's own platform for any other: Go needs no emulation.
FROM --platform=$BUILDPLATFORM golang:1.26.8-trixie AS build
WORKDIR /src

# Dependencies first: this layer lasts until go.mod or go.sum changes.
COPY go.mod go.sum ./
RUN go mod download

COPY . .
ARG TARGETOS TARGETARCH
ARG VERSION=dev
RUN --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /presence ./cmd/presence

FROM scratch
# For --jwks-url and for backplanes over TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /presence /presence

ARG VERSION=dev
LABEL org.opencontainers.image.title="presence" \
      org.opencontainers.image.description="Who is here, told live: a Server-Sent Events presence broadcaster" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="https://example.com/presence" \
      org.opencontainers.image.version="$VERSION"

# A number, so that a cluster can see that it is not root.
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/presence", "health"]
ENTRYPOINT ["/presence"]
CMD ["serve"]
