# The image contains only the command, without a shell or a libc. It does not run as root.

# The build runs on the platform of the build machine and cross-compiles, so it needs no emulation.
FROM --platform=$BUILDPLATFORM golang:1.26.8-trixie AS build
WORKDIR /src

# Download the dependencies first, so that Docker reuses this layer until go.mod or go.sum changes.
COPY go.mod go.sum ./
RUN go mod download

# The tool that lists the modules in the binary. It runs on the platform of the build machine.
RUN --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go install -trimpath github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

# The same sources, version and Go release give the same bytes: no paths, no commit, no times.
COPY . .
ARG TARGETOS TARGETARCH
ARG VERSION=dev
RUN --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$VERSION" -o /presence ./cmd/presence
RUN cyclonedx-gomod bin -json -std -noserial -notimestamp -version "$VERSION" -output /presence.cdx.json /presence

FROM scratch
# --jwks-url and backplanes over TLS need CA certificates.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /presence.cdx.json /usr/share/sbom/presence.cdx.json
COPY --from=build /presence /presence

ARG VERSION=dev
LABEL org.opencontainers.image.title="presence" \
      org.opencontainers.image.description="Self-hosted presence server: live user counts, members and messages over Server-Sent Events" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="https://example.com/presence" \
      org.opencontainers.image.version="$VERSION"

# The user is a number, so that a cluster can check that it is not root.
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/presence", "health"]
ENTRYPOINT ["/presence"]
CMD ["serve"]
